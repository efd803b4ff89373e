"""Choose picture, model, class and layer, alike on every page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from PIL.Image import Image

import cam
from cam._media.images import SAMPLES
from cam._models.load import BUNDLED, HANDMADE
from cam.pages.ui.server import resources, weight_downloads
from cam.pages.ui.server.resources import PUBLISHED, RANDOM, ModelChoice, Picture, Weights
from cam.pages.ui.subject import allowed_files, own_picture, own_weights, run_pictures
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.controls import SAMPLE_TITLES
from cam.pages.ui.widgets.links import choose, choose_optional, choose_pill
from cam.pages.ui.widgets.prose import report_errors

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
    def titles(self) -> tuple[str, ...]:
        """The title of each class."""
        return controls.title_classes(self.model.labels, len(self.order))

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
    titles = {name: SAMPLE_TITLES[name] for name in SAMPLES}
    first = next(iter(titles))
    more = {"default": first, "on_change": _take_sample}
    sample = choose_pill("Sample photo", titles, "sample", "sample photo", **more) or first
    st.session_state[_SAMPLE] = sample
    own_picture.choose_picture()
    more = {"on_change": _take_file, "placeholder": "Type to search"}
    files = allowed_files.list_pictures()
    file = _choose_listed("or one of this server", files, "file", "picture", **more)
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


def _choose_listed(
    label: str, files: dict[str, str], key: str, what: str, **more: Any
) -> str | None:
    """Choose a file of the folders that the operator allowed, if there are any; gives its path."""
    file = choose_optional(label, list(files), key, what, **more) if files else None
    return None if file is None else files[file]


def choose_model() -> ModelChoice:
    """Choose a model by search, and its weights."""
    about = (
        "The first one is bundled, those of known/ are built by hand; every other one downloads "
        "its weights once."
    )
    forget = controls.forget_target_and_layer
    name = choose("Model", resources.list_models(), "model", on_change=forget, help=about)
    weights = run_pictures.choose_weights(name) or _choose_checkpoint()
    weights = weights or own_weights.choose_weights()
    if weights is None and name != BUNDLED and not name.startswith(HANDMADE):
        about = "Nothing is downloaded. The network has learned nothing, and its maps show that."
        random = st.checkbox("Random weights", key="untrained", bind="query-params", help=about)
        weights = RANDOM if random else None
    return ModelChoice(name, weights or PUBLISHED)


def _choose_checkpoint() -> Weights | None:
    """Choose a file of weights of the folders that the operator allowed, if there are any."""
    about = "A state dict for the model above; another number of classes is taken from it."
    more = {"on_change": controls.forget_target_and_layer, "placeholder": "The published ones"}
    files = allowed_files.list_checkpoints()
    path = _choose_listed("Own weights", files, "checkpoint", "file of weights", help=about, **more)
    if path is not None:
        with report_errors():
            return Weights(path=allowed_files.require_checkpoint(path))
    return None


def choose_target(subject: Subject) -> int | None:
    """Choose a class by search, the most probable ones first; None stands for the top class."""
    top = f"Top class: {subject.titles[subject.top]}"
    about = "The most probable classes come first; type to search all of them."
    return _choose_class(subject, "Class to explain", subject.order, "target", top, about)


def choose_against(subject: Subject, target: int | None) -> int | None:
    """Choose a second class, to ask why the first and not that one; None: no contrast."""
    first = subject.top if target is None else target
    others = [index for index in subject.order if index != first]
    about = "A contrast: what speaks for the first class and not for this one."
    return _choose_class(subject, "… and not", others, "against", "Nothing in particular", about)


def _choose_class(
    subject: Subject, label: str, order: list[int], key: str, placeholder: str, about: str
) -> int | None:
    titles = [subject.titles[index] for index in order]
    more = {"placeholder": placeholder, "help": about}
    title = choose_optional(label, titles, key, "class", **more)
    return None if title is None else subject.titles.index(title)


def choose_layer(model: cam.Model) -> str | None:
    """Choose a layer by search; None stands for the model's preset."""
    try:
        preset = ", ".join(model.layers)
    except cam.LayerError:
        preset = "none"
    names = [layer.name for layer in model.feature_layers]
    about = "In the order in which they run. Late layers know what, early ones only where."
    preset = f"Preset: {preset}"
    return choose_optional("Layer for Grad-CAM", names, "layer", placeholder=preset, help=about)
