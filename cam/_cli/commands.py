"""``python -m cam``: explanations from the command line.

Exit status: 0 done, 1 failed, 2 wrong usage. Results go to standard output, everything that is
said about them to standard error.
"""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import cam
from cam import kernels
from cam._cli.clip_command import clip
from cam._cli.dashboard_command import dashboard
from cam._cli.evaluate_command import evaluate
from cam._cli.run_commands import COMMANDS
from cam._cli.shared_options import as_json as print_json
from cam._cli.shared_options import called, load, model_options, target_of, told
from cam._engine.precision import PRECISIONS
from cam._media.images import Photo, read_image
from cam._models.load import BUNDLED
from cam._models.model import Model
from cam._output.explanation_files import distinct_stems, npz_bytes, record, write_explanation
from cam.errors import ImageError, LayerError, nearest

BATCH = 8


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cam.__version__, prog_name="cam")
def main() -> None:
    """Explain what a vision model sees."""


for _command in (clip, dashboard, evaluate, *COMMANDS):
    main.add_command(_command)


@main.command()
@click.argument("images", nargs=-1, required=True)
@model_options
@click.option(
    "--method", "methods", multiple=True, default=("gradcam", "saliency"), show_default=True
)
@click.option("--target", help="A class index or label; by default each picture's top class.")
@click.option("--layer", "layers", multiple=True, help="Dotted name; several are averaged.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="In which the network computes; by default as it is set.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("explanations"), show_default=True
)
@click.option("--colormap", default="turbo", show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON.")
def explain(
    images: tuple[str, ...],
    name: str,
    weights: str,
    labels: str | None,
    device: str,
    methods: tuple[str, ...],
    target: str | None,
    layers: tuple[str, ...],
    precision: str | None,
    out: Path,
    colormap: str,
    alpha: float,
    as_json: bool,
) -> None:
    """Write an overlay, the arrays and a record for each of IMAGES and each method.

    An image is a file or `sample:NAME` (chelsea, coffee, rocket, motorcycle_left). One that cannot
    be read is named, the others are done, and the exit status is 1.
    """
    # Pillow warns of large, cut and odd files; each is refused or noted in our own words.
    warnings.filterwarnings("ignore", module="PIL")
    with told():
        asked = [called(text, cam.method) for text in methods]
        if colormap not in kernels.COLORMAPS:
            raise click.UsageError(
                f"there is no colour map {colormap!r}; {nearest(colormap, kernels.COLORMAPS)}"
            )
        model = load(name, weights, labels, device)
        stems = distinct_stems(images)
        named = dict(zip(stems, images, strict=True))
        failed = 0
        records = []
        todo = list(named.items())
        for start in range(0, len(todo), BATCH):
            photos = {}
            for stem, image in todo[start : start + BATCH]:
                try:
                    photos[stem] = read_image(image, image)
                except ImageError as error:
                    failed += 1
                    click.echo(f"Error: {error}", err=True)
            if photos:
                maps = _maps(model, photos, asked, target, layers, precision)
                records += _write(model, photos, maps, out, colormap, alpha)
    if as_json:
        print_json(records)
    else:
        for one in records:
            label, probability = one["target"]["label"], one["target"]["probability"]
            share = "no finite probability" if probability is None else f"{probability:.0%}"
            click.echo(f"{one['image']}: {label} {share} → {out / one['files']['png']}")
    if failed:
        raise SystemExit(1)


def _maps(
    model: Model,
    photos: dict[str, Photo],
    methods: Sequence[cam.Method],
    target: str | None,
    layers: tuple[str, ...],
    precision: str | None,
) -> dict[str, cam.Attribution]:
    """Explain one batch."""
    batch = model.prepare(list(photos.values()))
    return cam.attribute(
        model, batch, methods, target_of(target), layers or None, precision=precision
    )


def _write(
    model: Model,
    photos: dict[str, Photo],
    maps: dict[str, cam.Attribution],
    out: Path,
    colormap: str,
    alpha: float,
) -> list[dict[str, Any]]:
    """Write the files of one batch."""
    for photo in photos.values():
        for note in photo.notes:
            click.echo(f"Note: {photo.name}: {note}", err=True)
    crops = [model.crop(photo) for photo in photos.values()]
    records = []
    for index, (stem, photo) in enumerate(photos.items()):
        for key, attribution in maps.items():
            facts = record(model, attribution, index, photo.name, photo.notes)
            for note in facts["notes"][len(photo.notes) :]:
                click.echo(f"Note: {photo.name}, {key}: {note}", err=True)
            percentile = cam.methods()[attribution.method].percentile
            heatmap = attribution.heatmap[index]
            picture = cam.overlay(crops[index], heatmap, colormap, alpha, percentile)
            facts["overlay"] = {"colormap": colormap, "alpha": alpha, "percentile": percentile}
            arrays = npz_bytes(attribution, index)
            records.append(write_explanation(out, f"{stem}.{key}", picture, arrays, facts))
    return records


@main.command()
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True)
def models(pattern: str, as_json: bool) -> None:
    """List the models that load by name, those with PATTERN in their name."""
    found = [name for name in cam.model_names() if pattern.lower() in name.lower()]
    if as_json:
        print_json(found)
        return
    for name in found:
        click.echo(f"{name}{'   (bundled, needs no network)' if name == BUNDLED else ''}")
    if not found:
        raise click.UsageError(f"no model has {pattern!r} in its name")


@main.command("methods")
@click.option("--json", "as_json", is_flag=True)
def list_methods(as_json: bool) -> None:
    """List the attribution methods."""
    if as_json:
        print_json(
            {
                name: {
                    "title": info.title,
                    "description": info.description,
                    "family": info.family,
                    "cost": info.cost,
                    "citation": info.citation,
                    "parameters": dict(info.parameters),
                }
                for name, info in cam.methods().items()
            }
        )
        return
    for name, info in cam.methods().items():
        click.echo(f"{name}: {info.title}\n    {info.description}\n    Cost: {info.cost}.")
        click.echo(f"    Source: {info.citation}.")


@main.command("metrics")
@click.option("--json", "as_json", is_flag=True)
def list_metrics(as_json: bool) -> None:
    """List the metrics that say how good a heatmap is."""
    if as_json:
        print_json(
            {
                name: {
                    "title": info.title,
                    "description": info.description,
                    "family": info.family,
                    "definition": info.definition,
                    "direction": info.direction,
                    # JSON knows no infinity.
                    "range": [end if math.isfinite(end) else None for end in info.range],
                    "baseline": info.baseline,
                    "citation": info.citation,
                    "cost": info.cost,
                    "needs_masks": info.needs_masks,
                    "needs_method": info.needs_method,
                    "parameters": dict(info.parameters),
                }
                for name, info in cam.metrics().items()
            }
        )
        return
    for name, info in cam.metrics().items():
        better = "higher" if info.direction > 0 else "lower"
        click.echo(f"{name}: {info.title} ({better} is better)\n    {info.description}")
        click.echo(f"    Source: {info.citation}.")


@main.command("layers")
@model_options
@click.option("--json", "as_json", is_flag=True)
def list_layers(name: str, weights: str, labels: str | None, device: str, as_json: bool) -> None:
    """List a model's layers that have feature maps, in the order in which they run."""
    with told():
        model = load(name, weights, labels, device)
        found = model.feature_layers
        try:
            preset = model.layers
        except LayerError:
            preset = ()
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "kind": one.kind,
                    "shape": list(one.shape),
                    "preset": one.name in preset,
                }
                for one in found
            ]
        )
        return
    width = max((len(one.name) for one in found), default=0)
    for one in found:
        shape = " × ".join(map(str, one.shape))
        mark = "   (preset)" if one.name in preset else ""
        click.echo(f"{one.name:{width}}  {shape:>16}  {one.kind}{mark}")
