"""A clip on the page Performance: frames in, heatmaps over them out, and how fast."""

import base64
import hashlib
import time
from typing import Any

import streamlit as st

import cam
from cam import clip
from pages.ui import controls, jobs
from pages.ui import performance_bars as bars
from pages.ui.choosing import Subject
from pages.ui.performance_job import measure
from pages.ui.steps import small

KINDS = ["mp4", "webm", "mov", "gif", "webp", "png", "jpg", "jpeg"]
METHODS = ["gradcam", "layercam", "saliency"]
FRAMES = 24
CLIP_MB = 100


def explain(subject: Subject, target: int | None, layer: str | None) -> None:
    """Choose a clip, explain it on request, show and offer the result."""
    st.markdown(
        "Each frame is explained. Upload a short video (MP4, WebM, MOV), an animated GIF, WebP or "
        f"PNG, or several pictures: {clip.MAX_FRAMES} frames at most, evenly taken of a longer "
        "video; "
        "without one, a demonstration is **made from the sample photo by a pan and zoom**, not "
        "filmed."
    )
    uploads = st.file_uploader(
        "Your clip, or several pictures",
        KINDS,
        accept_multiple_files=True,
        key="frames",
        max_upload_size=CLIP_MB,
    )
    controls.check_link("clip_method", "method", METHODS)
    name = st.segmented_control(
        "Method for the clip", METHODS, default=METHODS[0], required=True,
        format_func=lambda one: cam.methods()[one].title, key="clip_method", bind="query-params",
    )  # fmt: skip
    smoothing = st.slider(
        "Smoothing over time", 0.0, 0.9, 0.0, 0.1, key="smoothing", bind="query-params"
    )
    contents = [(one.name, one.getvalue()) for one in uploads]
    digest = subject.picture.digest
    if not contents and not digest.startswith("sample:"):
        st.info("Upload a clip, or choose a sample photo, from which a demonstration is made.")
        return

    def run(tell: jobs.Tell) -> tuple[Any, str]:
        start = time.perf_counter()

        def report(share: float, note: str) -> bool:
            return tell(share, note)

        if not contents:
            film = clip.demonstration(digest.removeprefix("sample:"), FRAMES)
        elif len(contents) == 1:
            film = clip.read_clip(contents[0][1], contents[0][0], report=report)
        else:
            film = clip.read_clip([content for _, content in contents], report=report)
        found = clip.explain_clip(
            subject.model, film, name, target, layer, smoothing=smoothing,
            colormap="inferno", report=report,
        )  # fmt: skip
        encoded = {one: found.encoded(one) for one in clip.FORMATS}
        seconds = time.perf_counter() - start
        labels = dict.fromkeys(subject.model.label(one) for one in found.targets)
        shown = ", ".join(list(labels)[:4])
        return (film, found.seconds["explain"], seconds, encoded, shown), (
            f"{subject.name} on {subject.model.device}, batches of 8 frames, one run; end to end "
            "holds reading, preparing, explaining, drawing, and writing WebP, GIF and MP4."
        )

    whole = hashlib.sha256(b"".join(content for _, content in contents)).hexdigest()
    key = ("clip", subject.name, subject.trained, digest, whole, name, smoothing, target, layer)
    measure(key, "Explaining the clip", run, draw, "Explain the clip")


def source(subject: Subject) -> str:
    """The Python that gives the clip which is explained."""
    names = [one.name for one in st.session_state.get("frames") or []]
    if not names:
        sample = subject.picture.digest.removeprefix("sample:")
        return f"demonstration({sample!r}, {FRAMES})"
    return f"read_clip({(names[0] if len(names) == 1 else names)!r})"


def draw(found: tuple[clip.Clip, float, float, dict[str, bytes], str]) -> None:
    """Frames per second, the clip, and its downloads."""
    film, explaining, whole, encoded, labels = found
    count = len(film.frames)
    st.html(
        bars.headline(
            [
                (f"{count / explaining:.1f}", "frames a second, explained"),
                (f"{count / whole:.1f}", "frames a second, end to end"),
                (f"{film.frames_per_second:.1f}", "frames a second in the clip itself"),
            ]
        )
    )
    address = f"data:image/webp;base64,{base64.b64encode(encoded['WEBP']).decode()}"
    st.html(
        f'<img src="{address}" alt="The clip with its heatmap, {count} frames" '
        'style="width:min(100%,28rem);border-radius:.25rem">'
    )
    small(f"Explained: {labels}. From {film.name}.")
    for note in film.notes:
        small(controls.sentence(note))
    with st.container(horizontal=True):
        for kind, content in encoded.items():
            st.download_button(
                f"Download {kind}",
                content,
                f"explained.{kind.lower()}",
                f"{'video' if kind == 'MP4' else 'image'}/{kind.lower()}",
                on_click="ignore",
                icon=":material/download:",
            )
