"""Choose picture, model, class and layer, alike on every page."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

import cam
from cam._media.images import SAMPLES
from cam._models.load import BUNDLED
from cam.pages.ui.server import resources, weight_downloads
from cam.pages.ui.server.resources import Picture, Weights
from cam.pages.ui.subject import allowed_files, own_picture, own_weights, run_pictures
from cam.pages.ui.widgets import controls

_SAMPLE = "_sample"


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture and a model that has looked at it.

    Attributes:
        picture: What the visitor chose.
        name: The model's.
        trained: Its weights: published (True), random (False), the path of a file, or an upload.
        model: It, shared by all visitors.
        chances: (classes,) float32 probabilities.
        order: The classes, the most probable first.
    """

    picture: Picture
    name: str
    trained: Weights
    model: cam.Model
    chances: np.ndarray
    order: list[int]


def choose_subject() -> Subject | None:
    """Picture and model, chosen in the sidebar; None, and why, where they do not do yet."""
    with st.sidebar:
        picture = choose_picture()
        name, trained = choose_model()
    if picture is None:
        st.info("Choose a sample or upload another picture in the sidebar.")
        return None
    return look(picture, name, trained)


def look(picture: Picture, name: str, trained: Weights) -> Subject | None:
    """Let a model look at a picture; None, and a sentence or a download, where it cannot yet."""
    try:
        if not weight_downloads.ready(name, trained):
            return None
        model = resources.model(name, trained)
        chances = resources.probabilities(name, trained, picture.digest, picture)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        st.info("Choose another model or other weights in the sidebar.")
        return None
    return Subject(picture, name, trained, model, chances, chances.argsort()[::-1].tolist())


def choose_picture() -> Picture | None:
    """A sample, an upload, a shot or a file of the server; a run's picture wins over all."""
    if run_pictures.asked():
        return run_pictures.choose()
    own = own_picture.shown()
    names = list(SAMPLES)
    controls.check_link("sample", "sample photo", controls.SAMPLE_TITLES.values())
    sample = st.pills(
        "Sample photo",
        names,
        default=names[0],
        format_func=lambda name: controls.SAMPLE_TITLES[name],
        key="sample",
        bind="query-params",
        on_change=_take_sample,
    )
    st.session_state[_SAMPLE] = sample = sample or names[0]
    own_picture.choose()
    file = _choose_file()
    if own is not None:
        return own.picture
    try:
        if file is not None:
            return allowed_files.open_picture(file)
        return resources.sample(sample)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return None


def _take_sample() -> None:
    """The latest choice counts: a sample that is clicked is shown, whatever was there before."""
    if st.session_state["sample"] is None:
        # A click on the one that is chosen already: it stays so, and another picture makes way.
        st.session_state["sample"] = st.session_state[_SAMPLE]
        if not own_picture.given() and st.session_state.get("file") is None:
            return
    if "file" in st.session_state:
        st.session_state["file"] = None
    _take_file()


def _take_file() -> None:
    own_picture.drop()
    controls.forget_target()


def _choose_file() -> str | None:
    """A picture of the folders that the operator allowed, if there are any."""
    offered = allowed_files.pictures()
    if not offered:
        return None
    controls.check_link("file", "picture", offered)
    chosen = st.selectbox(
        "or one of this server",
        list(offered),
        index=None,
        key="file",
        bind="query-params",
        on_change=_take_file,
        placeholder="Type to search",
    )
    return None if chosen is None else offered[chosen]


def choose_model() -> tuple[str, Weights]:
    """A model by search, and its weights: published, random, the path of a file, or an upload."""
    names = resources.model_names()
    controls.check_link("model", "model", names)
    name = st.selectbox(
        "Model",
        names,
        key="model",
        bind="query-params",
        on_change=controls.forget_target_and_layer,
        help="The first one is bundled; every other one downloads its weights once.",
    )
    if of_run := run_pictures.choose_weights(name):
        return name, of_run
    if file := _choose_checkpoint():
        return name, file
    if own := own_weights.choose():
        return name, own
    if name == BUNDLED:
        return name, True
    untrained = st.checkbox(
        "Random weights",
        key="untrained",
        bind="query-params",
        help="Nothing is downloaded. The network has learned nothing, and its maps show that.",
    )
    return name, not untrained


def _choose_checkpoint() -> str | None:
    """A file of weights of the folders that the operator allowed, if there are any."""
    offered = allowed_files.checkpoints()
    if not offered:
        return None
    controls.check_link("checkpoint", "file of weights", offered)
    chosen = st.selectbox(
        "Own weights",
        list(offered),
        index=None,
        key="checkpoint",
        bind="query-params",
        on_change=controls.forget_target_and_layer,
        placeholder="The published ones",
        help="A state dict for the model above; another number of classes is taken from it.",
    )
    if chosen is None:
        return None
    try:
        return allowed_files.checkpoint(offered[chosen])
    except cam.DataError as error:
        st.error(controls.sentence(error))
        return None


def choose_target(model: cam.Model, order: list[int]) -> int | None:
    """A class by search, the most probable ones first; None stands for the top class."""
    labels = controls.class_options(model.labels, len(order))
    controls.check_link("target", "class", labels)
    chosen = st.selectbox(
        "Class to explain",
        [labels[index] for index in order],
        index=None,
        placeholder=f"Top class: {labels[order[0]]}",
        key="target",
        bind="query-params",
        help="The most probable classes come first; type to search all of them.",
    )
    return None if chosen is None else labels.index(chosen)


def choose_against(model: cam.Model, order: list[int], target: int | None) -> int | None:
    """A second class, to ask why the first and not that one; None: no contrast."""
    first = order[0] if target is None else target
    labels = controls.class_options(model.labels, len(order))
    others = [labels[index] for index in order if index != first]
    controls.check_link("against", "class", others)
    chosen = st.selectbox(
        "… and not",
        others,
        index=None,
        placeholder="Nothing in particular",
        key="against",
        bind="query-params",
        help="A contrast: what speaks for the first class and not for this one.",
    )
    return None if chosen is None else labels.index(chosen)


def choose_layer(model: cam.Model) -> str | None:
    """A layer by search; None stands for the model's preset."""
    try:
        preset = ", ".join(model.layers)
    except cam.LayerError:
        preset = "none"
    names = [layer.name for layer in model.feature_layers]
    controls.check_link("layer", "layer", names)
    chosen: str | None = st.selectbox(
        "Layer for Grad-CAM",
        names,
        index=None,
        placeholder=f"Preset: {preset}",
        key="layer",
        bind="query-params",
        help="In the order in which they run. Late layers know what, early ones only where.",
    )
    return chosen
