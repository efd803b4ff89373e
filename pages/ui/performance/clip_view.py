"""Explain a clip frame by frame and show how fast."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

import cam
from cam._media.video import Clip
from cam._output import clip
from cam._performance.timing import machine
from cam.pages.ui.charts.bars import draw_figures
from cam.pages.ui.performance.measurement_job import measure
from cam.pages.ui.server import jobs
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.controls import offer_file
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import as_sentence, write_small
from cam.pages.ui.widgets.python_code import write_loading

KINDS = ["mp4", "webm", "mov", "gif", "webp", "png", "jpg", "jpeg"]
METHODS = ["gradcam", "layercam", "saliency"]
FRAMES = 24
CLIP_MB = 100
TITLES = {"WEBP": "WebP", "GIF": "GIF", "MP4": "MP4"}
# Classes that are named; a film may show many.
LABELS = 4
# Of the player, in pixels: twice what most networks see.
WIDTH = 448
# Shares of the work that are done when the clip is read, and when it is explained.
READ, EXPLAINED = 0.1, 0.85


@dataclass(frozen=True)
class ExplainedClip:
    """What is kept of an explained clip: its frames would be hundreds of megabytes.

    Attributes:
        frames: How many.
        figures: How fast it was, as (number, what it is).
        files: Format → content.
        lines: What was explained, where it is from and what was done to it.
    """

    frames: int
    figures: list[tuple[str, str]]
    files: dict[str, bytes]
    lines: list[str]


def show_clip(subject: Subject) -> str:
    """Choose a clip, explain it on request, show and offer the result.

    Returns:
        The Python behind it.
    """
    with st.sidebar:
        target = subject_form.choose_target(subject)
        layer = subject_form.choose_layer(subject.model)
    st.markdown(
        "Each frame is explained, for its own top class unless the sidebar names one. Upload a "
        "short video (MP4, WebM, MOV), an animated GIF, WebP or PNG, or several pictures; of a "
        f"longer video, {clip.MAX_FRAMES} frames at most are taken, evenly spaced. Without a clip "
        "of yours, a demonstration is **made from the sample photo by a pan and zoom**, not filmed."
    )
    label = "Your clip, or several pictures"
    uploads = st.file_uploader(label, KINDS, True, key="frames", max_upload_size=CLIP_MB)
    titles = {name: cam.methods()[name].title for name in METHODS}
    name = choose("Method for the clip", titles, "clip_method", "method", segments=True)
    smoothing = st.slider(
        "Smoothing over time", 0.0, 0.9, 0.0, 0.1, key="smoothing", bind="query-params"
    )
    digest = subject.picture.digest
    options = (name, target, layer, smoothing)
    code = _write_code(subject, [upload.name for upload in uploads], *options)
    if not uploads and not digest.startswith("sample:"):
        st.info("Upload a clip, or choose a sample photo, from which a demonstration is made.")
        return code

    def run(tell: jobs.Tell) -> tuple[ExplainedClip, str]:
        start = time.perf_counter()
        film = _read(uploads, digest, _scale_progress(tell, 0, READ))
        # The visitors' model stays free for what is quick.
        explained = clip.explain_clip(
            subject.model.twin(), film, name, target, layer, smoothing=smoothing,
            colormap="inferno", report=_scale_progress(tell, READ, EXPLAINED),
        )  # fmt: skip
        files = {}
        written = _scale_progress(tell, EXPLAINED, 1)
        for number, kind in enumerate(clip.FORMATS):
            if not written(number / len(clip.FORMATS), f"writing {TITLES[kind]}"):
                raise cam.Cancelled("the clip was cancelled")
            files[kind] = explained.encoded(kind)
        frames = len(film.frames)
        figures = [
            (f"{frames / explained.seconds['explain']:.1f}", "frames a second, explained"),
            (f"{frames / (time.perf_counter() - start):.1f}", "frames a second, end to end"),
            (f"{film.frames_per_second:.1f}", "frames a second in the clip itself"),
        ]
        # In the order of their first frame.
        labels = list(dict.fromkeys(map(subject.model.label, explained.targets)))
        first, more = ", ".join(labels[:LABELS]), len(labels) - LABELS
        title = f"Explained: {first}{f' and {more} more' * (more > 0)}. From {film.name}."
        lines = [title, *map(as_sentence, film.notes)]
        result = ExplainedClip(frames, figures, files, lines)
        return result, (
            f"{titles[name]} of {subject.choice.name}, batches of 8 frames, one run; end to end "
            "holds reading, preparing, explaining, drawing, and writing WebP, GIF and MP4. "
            f"{machine()}."
        )

    files = tuple(upload.file_id for upload in uploads)
    key = ("clip", subject.choice, digest, files, *options)
    measure(key, "Explaining the clip", run, _draw, "Explain the clip")
    return code


def _scale_progress(tell: jobs.Tell, begin: float, end: float) -> Callable[[float, str], bool]:
    """Report a stage's share as the part of the whole that it is."""
    return lambda share, note: tell(begin + (end - begin) * share, note)


def _read(uploads: list[UploadedFile], digest: str, report: clip.Report) -> Clip:
    if not uploads:
        return clip.demonstration(digest.removeprefix("sample:"), FRAMES)
    if len(uploads) == 1:
        return clip.read_clip(uploads[0].getvalue(), uploads[0].name, report=report)
    pictures = []
    for upload in uploads:
        # A separate file: two runs may read at once.
        picture = io.BytesIO(upload.getvalue())
        picture.name = upload.name
        pictures.append(picture)
    return clip.read_clip(pictures, report=report)


def _write_code(
    subject: Subject,
    names: list[str],
    method: str,
    target: int | None,
    layer: str | None,
    smoothing: float,
) -> str:
    sample = subject.picture.digest.removeprefix("sample:")
    read, options = "demonstration", f"{sample!r}, {FRAMES}"
    if names:
        read, options = "read_clip", repr(names[0] if len(names) == 1 else names)
    imports = (
        "from pathlib import Path\n\n"
        f"import cam\nfrom cam._output.clip import explain_clip, {read}\n"
    )
    return (
        f"{write_loading(subject.choice, None, imports=imports)}"
        f"film = {read}({options})\n"
        f"explained = explain_clip(\n    model, film, {method!r}, {target!r}, "
        f"{layer!r}, smoothing={smoothing}, colormap='inferno'\n)\n"
        "Path('explained.webp').write_bytes(explained.encoded())\n"
        "Path('explained.mp4').write_bytes(explained.encoded('MP4'))\n"
    )


def _draw(explained: ExplainedClip) -> None:
    """Draw frames per second, the clip, and its downloads."""
    st.html(draw_figures(explained.figures))
    alt = f"The clip with its heatmap, {explained.frames} frames"
    st.video(explained.files["MP4"], loop=True, autoplay=True, muted=True, width=WIDTH, alt=alt)
    for line in explained.lines:
        write_small(line)
    with st.container(horizontal=True):
        for kind, content in explained.files.items():
            ending, medium = kind.lower(), "video" if kind == "MP4" else "image"
            name, media_type = f"explained.{ending}", f"{medium}/{ending}"
            offer_file(f"Download {TITLES[kind]}", content, name, media_type)
