"""Run ``python -m cam``: explanations from the command line.

Exit status: 0 done, 1 failed, 2 wrong usage. Results go to standard output, notes on them to
standard error.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

import cam
from cam._cli import shared_options as shared
from cam._cli.clip_command import clip
from cam._cli.dashboard_command import dashboard
from cam._cli.evaluate_command import evaluate
from cam._cli.run_commands import COMMANDS
from cam._cli.tune_command import tune
from cam._media.images import Photo, read_image
from cam._methods.trust import find_trust
from cam._models.families.bundled import BUNDLED, SECOND
from cam._models.model import Model
from cam._output.explanation_files import distinct_stems, npz_bytes, record, write_explanation
from cam._performance.kept_memory import keep_memory
from cam.errors import ImageError, LayerError
from cam.polarity import DIVERGING

BATCH = 8


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(cam.__version__, prog_name="cam")
def main() -> None:
    """Explain what a vision model sees."""
    keep_memory()


for _command in (clip, dashboard, evaluate, tune, *COMMANDS):
    main.add_command(_command)


@main.command(cls=shared.LibraryCommand)
@click.argument("images", nargs=-1, required=True)
@shared.model_options
@shared.several("method", ("gradcam", "saliency"))
@shared.explanation_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("explanations"))
@shared.overlay_options
@click.option("--like", help="Explain the likeness to this image, by a model of features.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON.")
def explain(
    images: tuple[str, ...],
    load: Callable[[], Model],
    methods: tuple[str, ...],
    explaining: dict[str, Any],
    out: Path,
    overlaying: dict[str, Any],
    like: str | None,
    as_json: bool,
) -> None:
    """Write an overlay, the arrays and a record for each of IMAGES and each method.

    An image is a file or `sample:NAME` (chelsea, coffee, rocket, motorcycle_left). One that cannot
    be read is named, the others are done, and the exit status is 1.
    """
    # Pillow warns of large, cut and odd files; each is refused or noted in our own words.
    warnings.filterwarnings("ignore", module="PIL")
    configured = [shared.parse_call(text, cam.method) for text in methods]
    model = load()
    if like is not None:
        if explaining["targets"] is not None:
            raise click.UsageError("--like and --target both say what is explained; give one")
        explaining["targets"] = model.like(read_image(like, like))
    failed = 0
    records = []
    named = list(zip(distinct_stems(images), images, strict=True))
    for start in range(0, len(named), BATCH):
        photos = {}
        for stem, image in named[start : start + BATCH]:
            try:
                photos[stem] = read_image(image, image)
            except ImageError as error:
                failed += 1
                click.echo(f"Error: {error}", err=True)
        if photos:
            batch = model.prepare(list(photos.values()))
            maps = cam.attribute(model, batch, configured, **explaining)
            records += _write(model, photos, maps, out, overlaying)
    if as_json:
        shared.print_json(records)
    else:
        for facts in records:
            what = _describe(facts["target"])
            click.echo(f"{facts['image']}: {what} → {out / facts['files']['png']}")
    if failed:
        raise SystemExit(1)


def _describe(target: dict[str, Any]) -> str:
    """Write what was explained, with its probability, or its score where it is no class."""
    if "probability" not in target:
        return f"{target['label']} {target['score']}"
    probability = target["probability"]
    share = "no finite probability" if probability is None else f"{probability:.0%}"
    return f"{target['label']} {share}"


def _write(
    model: Model,
    photos: dict[str, Photo],
    maps: dict[str, cam.Attribution],
    out: Path,
    overlaying: dict[str, Any],
) -> list[dict[str, Any]]:
    """Write the files of one batch and return their records."""
    for photo in photos.values():
        shared.print_notes(photo.notes, photo.name)
    crops = [model.crop(photo) for photo in photos.values()]
    records = []
    for index, (stem, photo) in enumerate(photos.items()):
        for key, attribution in maps.items():
            facts = record(model, attribution, index, photo.name, photo.notes)
            shared.print_notes(facts["notes"][len(photo.notes) :], f"{photo.name}, {key}")
            facts["overlay"] = {
                **overlaying,
                "percentile": cam.methods()[attribution.method].percentile,
            }
            values, signed = attribution.picture()
            if signed:
                facts["overlay"] |= {"colormap": DIVERGING, "signed": True}
            picture = cam.overlay(crops[index], values[index], **facts["overlay"])
            arrays = npz_bytes(attribution, index)
            records.append(write_explanation(out, f"{stem}.{key}", picture, arrays, facts))
    return records


@main.command()
@click.argument("pattern", default="")
@click.option("--json", "as_json", is_flag=True)
def models(pattern: str, as_json: bool) -> None:
    """List the models that load by name, those with PATTERN in their name."""
    matches = [name for name in cam.model_names() if pattern.lower() in name.lower()]
    if as_json:
        shared.print_json(matches)
        return
    for name in matches:
        click.echo(f"{name}{'   (bundled, needs no network)' if name in (BUNDLED, SECOND) else ''}")
    if not matches:
        raise click.UsageError(f"no model has {pattern!r} in its name")


def _facts_of(info: cam.MethodInfo | cam.MetricInfo, names: Iterable[str]) -> dict[str, Any]:
    """Collect an entry's facts for JSON, its parameters last."""
    return {name: getattr(info, name) for name in names} | {"parameters": dict(info.parameters)}


@main.command("methods")
@click.option("--json", "as_json", is_flag=True)
def list_methods(as_json: bool) -> None:
    """List the attribution methods."""
    infos = cam.methods()
    if as_json:
        facts = ("title", "description", "family", "kind", "cost", "citation")
        shared.print_json({name: _facts_of(info, facts) for name, info in infos.items()})
        return
    for name, info in infos.items():
        click.echo(f"{name}: {info.title}\n    {info.description}\n    Cost: {info.cost}.")
        click.echo(f"    Source: {info.citation}.")
        if trust := find_trust(name):
            click.echo(f"    {trust.sentence}")


@main.command("metrics")
@click.option("--json", "as_json", is_flag=True)
def list_metrics(as_json: bool) -> None:
    """List the metrics that say how good a heatmap is."""
    infos = cam.metrics()
    if as_json:
        facts = (
            *("title", "description", "family", "definition", "direction", "range", "baseline"),
            *("citation", "cost", "needs_masks", "needs_method"),
        )
        shared.print_json(
            {
                # JSON knows no infinity.
                name: _facts_of(info, facts)
                | {"range": [end if math.isfinite(end) else None for end in info.range]}
                for name, info in infos.items()
            }
        )
        return
    for name, info in infos.items():
        better = "higher" if info.direction > 0 else "lower"
        click.echo(f"{name}: {info.title} ({better} is better)\n    {info.description}")
        click.echo(f"    Source: {info.citation}.")


@main.command("layers", cls=shared.LibraryCommand)
@shared.model_options
@click.option("--json", "as_json", is_flag=True)
def list_layers(load: Callable[[], Model], as_json: bool) -> None:
    """List a model's layers that have feature maps, in the order in which they run."""
    model = load()
    layers = model.feature_layers
    try:
        preset = model.layers
    except LayerError:
        preset = ()
    if as_json:
        shared.print_json([asdict(layer) | {"preset": layer.name in preset} for layer in layers])
        return
    width = max((len(layer.name) for layer in layers), default=0)
    for layer in layers:
        shape = " × ".join(map(str, layer.shape))
        mark = "   (preset)" if layer.name in preset else ""
        click.echo(f"{layer.name:{width}}  {shape:>16}  {layer.kind}{mark}")
