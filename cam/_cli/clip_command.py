"""Explain clips: ``python -m cam clip``."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import cam
from cam._cli import shared_options as shared
from cam._clip.clip import FORMATS, explain_clip, read_clip
from cam._extras import require
from cam._models.model import Model
from cam._output.explanation_files import replace_files

_ENDINGS = {f".{name.lower()}": name for name in FORMATS}


@click.command(cls=shared.LibraryCommand)
@click.argument("frames", nargs=-1, required=True)
@shared.model_options
@click.option("--method", default="gradcam")
@shared.explanation_options
@click.option("--batch-size", type=click.IntRange(1), default=8)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="How much of a frame's heatmap is that of the frames before it.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    help="For several images, which carry no times.",
)
@shared.overlay_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("explained.mp4"),
    help=f"A file that ends with {', '.join(_ENDINGS)}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def clip(
    frames: tuple[str, ...],
    load: Callable[[], Model],
    method: str,
    explaining: dict[str, Any],
    fps: float,
    overlaying: dict[str, Any],
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Write FRAMES with a heatmap over each of them.

    FRAMES is a video (MP4, MOV, WebM, MKV), an animated GIF, WebP or PNG, or several pictures of
    one size.
    """
    # As for `explain`: each odd file is refused or noted in our own words.
    warnings.filterwarnings("ignore", module="PIL")
    kind = _ENDINGS.get(out.suffix.lower())
    if kind is None:
        raise click.UsageError(f"--out is {str(out)!r}, but must end with {', '.join(_ENDINGS)}")
    if kind == "MP4":
        require("video", "writing MP4")
    configured = shared.parse_call(method, cam.method)
    film = read_clip(frames[0] if len(frames) == 1 else list(frames), frames_per_second=fps)
    shared.print_notes(film.notes, film.name)
    model = load()
    with click.progressbar(length=1000, label="Explaining", file=sys.stderr) as bar:
        explained = explain_clip(
            model,
            film,
            configured,
            report=lambda share, _: bar.update(round(1000 * share) - bar.pos),
            **explaining,
            **overlaying,
            **options,
        )
    _write(out, explained.encoded(kind))
    count, seconds = len(explained.frames), sum(explained.seconds.values())
    if as_json:
        shared.print_json(
            {
                "file": str(out),
                "frames": count,
                "frames_per_second": film.frames_per_second,
                "method": explained.method,
                "targets": list(explained.targets),
                "seconds": explained.seconds,
                "notes": list(film.notes),
            }
        )
        return
    click.echo(f"{out}: {count} frames in {seconds:.1f} s, {count / seconds:.1f} a second")


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files({path: content})
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise click.ClickException(f"cannot write {str(path)!r}: {reason}") from None
