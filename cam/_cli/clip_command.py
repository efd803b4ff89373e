"""``python -m cam clip``: a video, an animation or several pictures, explained frame by frame."""

import sys
import warnings
from pathlib import Path

import click

import cam
from cam import kernels
from cam._cli.shared_options import as_json as print_json
from cam._cli.shared_options import called, load, model_options, target_of, told
from cam._engine.precision import PRECISIONS
from cam._extras import require
from cam._output.clip import FORMATS, explain_clip, read_clip
from cam._output.explanation_files import replace_file
from cam.errors import nearest

_ENDINGS = {f".{one.lower()}": one for one in FORMATS}


@click.command()
@click.argument("frames", nargs=-1, required=True)
@model_options
@click.option("--method", default="gradcam", show_default=True)
@click.option("--target", help="A class index or label; by default each frame's top class.")
@click.option("--layer", "layers", multiple=True, help="Dotted name; several are averaged.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="In which the network computes; by default as it is set.",
)
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="How much of a frame's heatmap is that of the frames before it.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    show_default=True,
    help="For several pictures, which carry no times.",
)
@click.option("--colormap", default="turbo", show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("explained.mp4"),
    show_default=True,
    help=f"A file that ends with {', '.join(_ENDINGS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def clip(
    frames: tuple[str, ...],
    name: str,
    weights: str,
    labels: str | None,
    device: str,
    method: str,
    target: str | None,
    layers: tuple[str, ...],
    precision: str | None,
    batch_size: int,
    smoothing: float,
    fps: float,
    colormap: str,
    alpha: float,
    out: Path,
    as_json: bool,
) -> None:
    """Write FRAMES with a heatmap over each of them.

    FRAMES is a video (MP4, MOV, WebM, MKV), an animated GIF, WebP or PNG, or several pictures of
    one size.
    """
    # As for `explain`: each odd file is refused or noted in our own words.
    warnings.filterwarnings("ignore", module="PIL")
    with told():
        kind = _ENDINGS.get(out.suffix.lower())
        if kind is None:
            raise click.UsageError(
                f"--out is {str(out)!r}, but must end with {', '.join(_ENDINGS)}"
            )
        if kind == "MP4":
            require("video", "writing MP4")
        if colormap not in kernels.COLORMAPS:
            raise click.UsageError(
                f"there is no colour map {colormap!r}; {nearest(colormap, kernels.COLORMAPS)}"
            )
        asked = called(method, cam.method)
        film = read_clip(frames[0] if len(frames) == 1 else list(frames), frames_per_second=fps)
        for note in film.notes:
            click.echo(f"Note: {film.name}: {note}", err=True)
        model = load(name, weights, labels, device)
        with click.progressbar(length=1000, label="Explaining", file=sys.stderr) as bar:
            found = explain_clip(
                model, film, asked, target_of(target), layers or None, batch_size=batch_size,
                smoothing=smoothing, colormap=colormap, alpha=alpha, precision=precision,
                report=lambda share, _: bar.update(round(1000 * share) - bar.pos),
            )  # fmt: skip
        _write(out, found.encoded(kind))
    count, seconds = len(found.frames), sum(found.seconds.values())
    if as_json:
        print_json(
            {
                "file": str(out),
                "frames": count,
                "frames_per_second": film.frames_per_second,
                "method": found.method,
                "targets": list(found.targets),
                "seconds": found.seconds,
                "notes": list(film.notes),
            }
        )
        return
    click.echo(f"{out}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} a second")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise click.ClickException(f"cannot write {str(path)!r}: {reason}") from None
