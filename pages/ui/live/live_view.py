"""Explain a clip or the camera live: the browser plays it."""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

import cam
from cam._clip import clip
from cam._media.video import Clip
from cam.pages.ui.live.clip_download import offer_clip
from cam.pages.ui.live.components import get_component
from cam.pages.ui.live.frames import Explainer, LiveClip, decode_frame, pack_colours
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import load_model, share
from cam.pages.ui.state.choices import ModelChoice
from cam.pages.ui.state.visitor import read_widget
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import as_sentence, report_errors, write_small

KINDS = ["mp4", "webm", "mov", "gif", "webp", "png", "jpg", "jpeg"]
METHODS = ("gradcam", "layercam", "saliency")
CLIP_MB = 100
# Of the demonstration.
FRAMES = 48
# How many frames the browser asks for at once: a batch is faster than single images.
CHUNK = 8
CLIPS_KEPT = 4
CLIP, CAMERA = "Clip", "Camera"
_KEY = "live_player"
_SCRIPT = Path(__file__).with_name("live.js")


def show_live(subject: Subject, target: int | None = None, layer: str | None = None) -> None:
    """Play a clip or the camera, each frame with its class and map.

    The address holds the source ("live_source") and the method ("live_method"); an uploaded clip is
    the visitor's.

    Args:
        subject: The model; its image, where that is a sample, gives the demonstration.
        target: The class that is explained; None: each frame's top class.
        layer: The layer's dotted name; None: the model's default.
    """
    with st.container(horizontal=True):
        source = choose("Source", [CLIP, CAMERA], "live_source", "source", segments=True)
        titles = {name: cam.methods()[name].title for name in METHODS}
        method = choose("Live method", titles, "live_method", "method", segments=True)
    if source == CAMERA:
        write_small(
            "The camera's frames go to this server only, one at a time; they are explained and not "
            "stored."
        )
        _play(CAMERA, subject.choice, None, Explainer(_twin(subject.choice), method, target, layer))
        return
    label = "Your clip, or several images"
    uploads = st.file_uploader(label, KINDS, True, key="frames", max_upload_size=CLIP_MB)
    # Without what was changed in the image.
    digest, _, _ = subject.original.digest.partition("|")
    sample = digest.removeprefix("sample:")
    if not uploads and sample == digest:
        st.info("Upload a clip, or choose a sample image, from which a demonstration is made.")
        return
    with report_errors():
        film = _read(uploads, sample)
        if film is not None:
            key = (subject.choice, _identify(uploads, sample), method, target, layer)
            live = _make_live(key, film, Explainer(_twin(subject.choice), method, target, layer))
            _play(CLIP, key, live, live.explainer)
            notes = film.notes
            if not uploads:
                notes = ("a demonstration: a pan and zoom across the sample image, not filmed",)
            for note in notes:
                write_small(as_sentence(note))
            offer = partial(offer_clip, key, film, live.explainer)
            draw_lazily("Download the explained clip", "download", "clip_file", offer)


@share(max_entries=CLIPS_KEPT)
def _twin(choice: ModelChoice) -> cam.Model:
    """Make a twin of a model: the visitors' model stays free for what is quick."""
    return load_model(choice).twin()


@share(max_entries=CLIPS_KEPT)
def _make_live(key: tuple[Any, ...], _film: Clip, _explainer: Explainer) -> LiveClip:
    return LiveClip(_film, _explainer)


def _identify(uploads: list[UploadedFile], sample: str) -> tuple[str, ...]:
    return tuple(upload.file_id for upload in uploads) or (sample,)


def _read(uploads: list[UploadedFile], sample: str) -> Clip | None:
    """Read the clip in the background; None while that goes on."""
    files = [(upload.name, upload.getvalue()) for upload in uploads]

    def work(tell: jobs.Tell) -> Clip:
        if not files:
            return clip.demonstration(sample, FRAMES)
        if len(files) == 1:
            [(name, content)] = files
            return clip.read_clip(content, name, report=tell)
        images = []
        for name, content in files:
            image = io.BytesIO(content)
            image.name = name
            images.append(image)
        return clip.read_clip(images, report=tell)

    film: Clip | None = jobs.wait_for(
        ("live", _identify(uploads, sample)), "Reading the clip", work
    )
    return film


@st.fragment
def _play(source: str, key: Any, live: LiveClip | None, explainer: Explainer) -> None:
    """Answer what the browser asked for, and let it play."""
    request = (read_widget(_KEY) or {}).get("request")
    name = str(hash((source, key, explainer.method, explainer.target, explainer.layer)))
    data = {
        "source": source,
        "stream": name,
        "tables": pack_colours(),
        "chunk": CHUNK,
        "durations": list(live.clip.durations) if live else [],
        "reply": {},
    }
    if isinstance(request, Mapping) and request.get("stream") == name:
        data["reply"] = _answer(request, live, explainer)
    get_component(_SCRIPT)(key=_KEY, data=data, on_request_change=lambda: None)


def _answer(
    request: Mapping[str, Any], live: LiveClip | None, explainer: Explainer
) -> dict[str, Any]:
    """Answer a request of the browser; an error is a sentence."""
    number = request.get("number")
    try:
        if live is None:
            frames = explainer.explain([decode_frame(str(request.get("frame")))])
            return {"number": number, "frames": frames}
        first = min(max(int(request.get("first", 0)), 0), len(live.clip.frames))
        frames = live.get_frames(first, CHUNK)
        return {"number": number, "first": first, "frames": frames, "rate": live.per_second}
    except cam.CamError as error:
        return {"number": number, "error": as_sentence(error)}
    except (TypeError, ValueError):
        return {"number": number, "error": "The browser asked for a frame that there is not."}
