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
from cam.pages.ui.performance import bars
from cam.pages.ui.performance.measurement_job import measure
from cam.pages.ui.server import jobs
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

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
class Shown:
    """What is kept of an explained clip: its frames would be hundreds of megabytes.

    Attributes:
        frames: How many.
        explaining: Seconds for the maps alone.
        whole: Seconds from the file to the files.
        frames_per_second: Of the clip itself.
        files: Format → content.
        labels: The classes that were explained, in the order of their first frame.
        name: Where the clip is from.
        notes: What was done to it.
    """

    frames: int
    explaining: float
    whole: float
    frames_per_second: float
    files: dict[str, bytes]
    labels: tuple[str, ...]
    name: str
    notes: tuple[str, ...]


def explain(subject: Subject, target: int | None, layer: str | None) -> None:
    """Choose a clip, explain it on request, show and offer the result."""
    st.markdown(
        "Each frame is explained, for its own top class unless the sidebar names one. Upload a "
        "short video (MP4, WebM, MOV), an animated GIF, WebP or PNG, or several pictures; of a "
        f"longer video, {clip.MAX_FRAMES} frames at most are taken, evenly spaced. Without a clip "
        "of yours, a demonstration is **made from the sample photo by a pan and zoom**, not filmed."
    )
    uploads = st.file_uploader(
        "Your clip, or several pictures",
        KINDS,
        accept_multiple_files=True,
        key="frames",
        max_upload_size=CLIP_MB,
    )
    titles = {one: cam.methods()[one].title for one in METHODS}
    controls.check_link("clip_method", "method", titles.values())
    name = st.segmented_control(
        "Method for the clip", METHODS, default=METHODS[0], required=True,
        format_func=titles.__getitem__, key="clip_method", bind="query-params",
    )  # fmt: skip
    smoothing = st.slider(
        "Smoothing over time", 0.0, 0.9, 0.0, 0.1, key="smoothing", bind="query-params"
    )
    digest = subject.picture.digest
    if not uploads and not digest.startswith("sample:"):
        st.info("Upload a clip, or choose a sample photo, from which a demonstration is made.")
        return

    def run(tell: jobs.Tell) -> tuple[Shown, str]:
        start = time.perf_counter()
        film = _read(uploads, digest, _part(tell, 0, READ))
        # The visitors' model stays free for what is quick.
        found = clip.explain_clip(
            subject.model.twin(), film, name, target, layer, smoothing=smoothing,
            colormap="inferno", report=_part(tell, READ, EXPLAINED),
        )  # fmt: skip
        files = {}
        written = _part(tell, EXPLAINED, 1)
        for place, kind in enumerate(clip.FORMATS):
            if not written(place / len(clip.FORMATS), f"writing {TITLES[kind]}"):
                raise cam.Cancelled("the clip was cancelled")
            files[kind] = found.encoded(kind)
        shown = Shown(
            len(film.frames),
            found.seconds["explain"],
            time.perf_counter() - start,
            film.frames_per_second,
            files,
            tuple(dict.fromkeys(subject.model.label(one) for one in found.targets)),
            film.name,
            film.notes,
        )
        return shown, (
            f"{titles[name]} of {subject.name}, batches of 8 frames, one run; end to end holds "
            "reading, preparing, explaining, drawing, and writing WebP, GIF and MP4. "
            f"{machine()}."
        )

    files = tuple(one.file_id for one in uploads)
    key = ("clip", subject.name, subject.trained, digest, files, name, smoothing, target, layer)
    measure(key, "Explaining the clip", run, draw, "Explain the clip")


def _part(tell: jobs.Tell, begin: float, end: float) -> Callable[[float, str], bool]:
    """A stage's own share, as the part of the whole that it is."""
    return lambda share, note: tell(begin + (end - begin) * share, note)


def _read(uploads: list[UploadedFile], digest: str, report: clip.Report) -> Clip:
    if not uploads:
        return clip.demonstration(digest.removeprefix("sample:"), FRAMES)
    if len(uploads) == 1:
        return clip.read_clip(uploads[0].getvalue(), uploads[0].name, report=report)
    pictures = []
    for one in uploads:
        # A file of its own: two runs may read at once.
        picture = io.BytesIO(one.getvalue())
        picture.name = one.name
        pictures.append(picture)
    return clip.read_clip(pictures, report=report)


def source(subject: Subject) -> str:
    """The Python that gives the clip which is explained."""
    names = [one.name for one in st.session_state.get("frames") or []]
    if not names:
        sample = subject.picture.digest.removeprefix("sample:")
        return f"demonstration({sample!r}, {FRAMES})"
    return f"read_clip({(names[0] if len(names) == 1 else names)!r})"


def draw(found: Shown) -> None:
    """Frames per second, the clip, and its downloads."""
    st.html(
        bars.headline(
            [
                (f"{found.frames / found.explaining:.1f}", "frames a second, explained"),
                (f"{found.frames / found.whole:.1f}", "frames a second, end to end"),
                (f"{found.frames_per_second:.1f}", "frames a second in the clip itself"),
            ]
        )
    )
    st.video(
        found.files["MP4"],
        loop=True,
        autoplay=True,
        muted=True,
        width=WIDTH,
        alt=f"The clip with its heatmap, {found.frames} frames",
    )
    first, more = ", ".join(found.labels[:LABELS]), len(found.labels) - LABELS
    small(f"Explained: {first}{f' and {more} more' * (more > 0)}. From {found.name}.")
    for note in found.notes:
        small(controls.sentence(note))
    with st.container(horizontal=True):
        for kind, content in found.files.items():
            st.download_button(
                f"Download {TITLES[kind]}",
                content,
                f"explained.{kind.lower()}",
                f"{'video' if kind == 'MP4' else 'image'}/{kind.lower()}",
                on_click="ignore",
                icon=":material/download:",
            )
