"""Choose picture, model, class and layer, alike on every page."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
from PIL.Image import Image

import cam
from cam._media.images import SAMPLES
from cam._models.load import BUNDLED
from cam.pages.ui.server import resources, weight_downloads
from cam.pages.ui.server.resources import PUBLISHED, RANDOM, ModelChoice, Picture, Weights
from cam.pages.ui.subject import allowed_files, own_picture, own_weights, run_pictures
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.links import check_link, choose, choose_optional
from cam.pages.ui.widgets.text import report_errors

_SAMPLE = "_sample"


@dataclass(frozen=True, eq=False)
class Subject:
    """A picture and a model that has looked at it.

    Attributes:
        picture: What the visitor chose.
        choice: The model's name and weights.
        model: The model, shared by all visitors.
        chances: (classes,) float32 probabilities.
        order: The classes, the most probable first.
    """

    picture: Picture
    choice: ModelChoice
    model: cam.Model
    chances: np.ndarray
    order: list[int]

    @property
    def top(self) -> int:
        """The most probable class."""
        return self.order[0]

    @property
    def crop(self) -> Image:
        """The part of the picture that the model sees."""
        return resources.crop(self.choice, self.picture)


def choose_subject() -> Subject | None:
    """Choose picture and model in the sidebar; None, and why, where they do not do yet."""
    with st.sidebar:
        picture = choose_picture()
        choice = choose_model()
    if picture is None:
        st.info("Choose a sample or upload another picture in the sidebar.")
        return None
    return look(picture, choice)


def look(picture: Picture, choice: ModelChoice) -> Subject | None:
    """Let a model look at a picture; None, and a sentence or a download, where it cannot yet."""
    with report_errors(advice="Choose another model or other weights in the sidebar."):
        if not weight_downloads.ensure_weights(choice):
            return None
        model = resources.load_model(choice)
        chances = resources.predict(choice, picture)
        return Subject(picture, choice, model, chances, chances.argsort()[::-1].tolist())
    return None


def choose_picture() -> Picture | None:
    """Choose a sample, an upload, a shot or a file of the server; a run's picture wins."""
    if run_pictures.is_linked():
        return run_pictures.show_linked()
    current = own_picture.show_current()
    names = list(SAMPLES)
    check_link("sample", "sample photo", controls.SAMPLE_TITLES.values())
    sample = st.pills(
        "Sample photo",
        names,
        default=names[0],
        format_func=controls.SAMPLE_TITLES.__getitem__,
        key="sample",
        bind="query-params",
        on_change=_take_sample,
    )
    st.session_state[_SAMPLE] = sample = sample or names[0]
    own_picture.choose_picture()
    file = _choose_file()
    if current is not None:
        return current.picture
    with report_errors():
        if file is not None:
            return allowed_files.open_picture(file)
        return resources.open_sample(sample)
    return None


def _take_sample() -> None:
    """Show the sample that is clicked, whatever was there before: the latest choice counts."""
    if st.session_state["sample"] is None:
        # A click on the one that is chosen already: it stays so, and another picture makes way.
        st.session_state["sample"] = st.session_state[_SAMPLE]
        if not own_picture.is_chosen() and st.session_state.get("file") is None:
            return
    if "file" in st.session_state:
        st.session_state["file"] = None
    _take_file()


def _take_file() -> None:
    own_picture.drop()
    controls.forget_target()


def _choose_file() -> str | None:
    """Choose a picture of the folders that the operator allowed, if there are any."""
    files = allowed_files.list_pictures()
    if not files:
        return None
    file = choose_optional(
        "or one of this server",
        list(files),
        "file",
        "picture",
        on_change=_take_file,
        placeholder="Type to search",
    )
    return None if file is None else files[file]


def choose_model() -> ModelChoice:
    """Choose a model by search, and its weights."""
    name = choose(
        "Model",
        resources.list_models(),
        "model",
        "model",
        on_change=controls.forget_target_and_layer,
        help="The first one is bundled; every other one downloads its weights once.",
    )
    weights = run_pictures.choose_weights(name) or _choose_checkpoint()
    weights = weights or own_weights.choose_weights()
    if weights is None and name != BUNDLED:
        random = st.checkbox(
            "Random weights",
            key="untrained",
            bind="query-params",
            help="Nothing is downloaded. The network has learned nothing, and its maps show that.",
        )
        weights = RANDOM if random else None
    return ModelChoice(name, weights or PUBLISHED)


def _choose_checkpoint() -> Weights | None:
    """Choose a file of weights of the folders that the operator allowed, if there are any."""
    files = allowed_files.list_checkpoints()
    if not files:
        return None
    file = choose_optional(
        "Own weights",
        list(files),
        "checkpoint",
        "file of weights",
        on_change=controls.forget_target_and_layer,
        placeholder="The published ones",
        help="A state dict for the model above; another number of classes is taken from it.",
    )
    if file is not None:
        with report_errors():
            return Weights(path=allowed_files.require_checkpoint(files[file]))
    return None


def choose_target(subject: Subject) -> int | None:
    """Choose a class by search, the most probable ones first; None stands for the top class."""
    titles = _title_classes(subject)
    title = choose_optional(
        "Class to explain",
        [titles[index] for index in subject.order],
        "target",
        "class",
        placeholder=f"Top class: {titles[subject.top]}",
        help="The most probable classes come first; type to search all of them.",
    )
    return None if title is None else titles.index(title)


def choose_against(subject: Subject, target: int | None) -> int | None:
    """Choose a second class, to ask why the first and not that one; None: no contrast."""
    first = subject.top if target is None else target
    titles = _title_classes(subject)
    title = choose_optional(
        "… and not",
        [titles[index] for index in subject.order if index != first],
        "against",
        "class",
        placeholder="Nothing in particular",
        help="A contrast: what speaks for the first class and not for this one.",
    )
    return None if title is None else titles.index(title)


def _title_classes(subject: Subject) -> tuple[str, ...]:
    return controls.title_classes(subject.model.labels, len(subject.order))


def choose_layer(model: cam.Model) -> str | None:
    """Choose a layer by search; None stands for the model's preset."""
    try:
        preset = ", ".join(model.layers)
    except cam.LayerError:
        preset = "none"
    return choose_optional(
        "Layer for Grad-CAM",
        [layer.name for layer in model.feature_layers],
        "layer",
        "layer",
        placeholder=f"Preset: {preset}",
        help="In the order in which they run. Late layers know what, early ones only where.",
    )
