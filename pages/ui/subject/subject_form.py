"""Choose image, model, class and layer, alike on every page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import streamlit as st
from PIL import ImageOps
from PIL.Image import Image
from streamlit.delta_generator import DeltaGenerator

import cam
from cam._media.images import SAMPLES
from cam._models.load import is_bundled, takes_prompts
from cam._models.model import EMBEDDING, no_classes
from cam.pages.ui.server import resources, served, weight_downloads
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import (
    PROMPTS,
    PUBLISHED,
    RANDOM,
    ModelChoice,
    Picture,
    Weights,
)
from cam.pages.ui.state.selection import (
    CLASSES,
    FILE,
    FIRST_SAMPLE,
    OF_IMAGE,
    OF_MODEL,
    RUN,
    SAMPLE,
    UPLOAD,
    ImageName,
    Selection,
)
from cam.pages.ui.subject import (
    allowed_files,
    edited_picture,
    own_picture,
    own_weights,
    run_pictures,
)
from cam.pages.ui.widgets import controls, links
from cam.pages.ui.widgets.controls import SAMPLE_TITLES
from cam.pages.ui.widgets.links import choose, choose_optional
from cam.pages.ui.widgets.prose import report_errors

# Of a sample's button, in pixels of a dense screen.
THUMBNAIL = 120
# Each is encoded as the model is loaded, while others wait.
MOST_PROMPTS = 64


@dataclass(frozen=True, eq=False)
class LookedAt:
    """An image and a model that has looked at it.

    Attributes:
        picture: What the visitor chose, with its changes.
        original: The same before them.
        choice: The model's name and weights.
        model: The model, shared by all visitors.
    """

    picture: Picture
    original: Picture
    choice: ModelChoice
    model: cam.Model

    @property
    def top(self) -> int | None:
        """The most probable class; None where classes have places."""
        return None

    @property
    def crop(self) -> Image:
        """The part of the image that the model sees."""
        return resources.crop(self.choice, self.picture)


@dataclass(frozen=True, eq=False)
class Subject(LookedAt):
    """An image with its classes.

    Attributes:
        chances: (classes,) float32 probabilities.
        order: The classes, the most probable first.
        edits: What was changed in the image.
    """

    chances: np.ndarray
    order: list[int]
    edits: tuple[str, ...] = ()

    @property
    def top(self) -> int:
        """The most probable class."""
        return self.order[0]

    @property
    def titles(self) -> tuple[str, ...]:
        """The title of each class."""
        return controls.title_classes(self.model.labels, len(self.order))


@dataclass(frozen=True, eq=False)
class ImageAndModel:
    """An image and a model, at which nobody has looked yet.

    Attributes:
        picture: The image, whole.
        choice: The model.
        below: The place below the image in the sidebar.
    """

    picture: Picture
    choice: ModelChoice
    below: DeltaGenerator


def choose_subject(selection: Selection) -> Subject | None:
    """Choose image and model in the sidebar; None, and why, where they do not do yet."""
    parts = choose_parts(selection)
    return None if parts is None else look_at_part(parts, selection)


def choose_parts(selection: Selection) -> ImageAndModel | None:
    """Choose image and model in the sidebar; None, and why, where there is no image."""
    with st.sidebar:
        picture = choose_picture(selection)
        below = st.container()
        choice = choose_model(selection)
    if picture is None:
        st.info("Choose a sample or upload another image in the sidebar.")
        return None
    return ImageAndModel(picture, choice, below)


def look_at_part(parts: ImageAndModel, selection: Selection) -> Subject | None:
    """Let a classifier look at the part of the image that is parts."""
    with parts.below:
        picture = edited_picture.move_crop(parts.picture)
    return look(picture, parts.choice, selection.edits)


def look(picture: Picture, choice: ModelChoice, edits: Sequence[str] = ()) -> Subject | None:
    """Let a model look at an image; None, and a sentence or a download, where it cannot yet."""
    with report_errors(advice="Choose another model or other weights in the sidebar."):
        if not weight_downloads.ensure_weights(choice):
            return None
        model = resources.load_model(choice)
        if model.task == EMBEDDING:
            raise no_classes(model.name)
        edited, done = edited_picture.check_edits(choice, picture, edits)
        chances = resources.predict(choice, edited)
        order = chances.argsort()[::-1].tolist()
        return Subject(edited, picture, choice, model, chances, order, done)
    return None


def choose_picture(selection: Selection) -> Picture | None:
    """Choose a sample, an upload, a shot, a file of the server or a run's image."""
    image = selection.image
    if image.source == RUN:
        return run_pictures.show_linked(image)
    if image.source == UPLOAD:
        own_picture.show_current(image.name)
    _choose_sample(image)
    own_picture.choose_picture()
    files = allowed_files.list_pictures()
    _choose_file(image, files)
    with report_errors():
        if image.source == UPLOAD:
            return own_picture.read_picture(image.name)
        if image.source == FILE:
            return allowed_files.open_picture(_require_listed(image.name, files, "image"))
        return resources.open_sample(image.name if image.name in SAMPLES else FIRST_SAMPLE)
    return None


def _choose_sample(image: ImageName) -> None:
    """Choose a sample; none is marked while another image is shown."""
    value = image.name if image.source == SAMPLE else None
    if value is not None and value not in SAMPLES:
        links.warn(value, "image", SAMPLES)
        value = FIRST_SAMPLE

    def form(name: str | None) -> list[str]:
        # A click on the sample that is chosen already leaves it.
        name = value if name is None else name
        return [] if name in (None, FIRST_SAMPLE) else [str(name)]

    forget_refused, start = own_picture.forget_refused, {"default": value}
    bound = address.bind("sample", value, form, "image", OF_IMAGE, forget_refused, start)
    st.html(_style_thumbnails())
    st.pills("Sample image", list(SAMPLES), format_func=SAMPLE_TITLES.__getitem__, **bound)


@lru_cache(maxsize=1)
def _style_thumbnails() -> str:
    """Write the styles that lay each sample under its button."""
    rules = []
    for number, name in enumerate(SAMPLES, start=1):
        small = ImageOps.fit(cam.sample(name).convert("RGB"), (THUMBNAIL, THUMBNAIL))
        stored = io.BytesIO()
        small.save(stored, "JPEG", quality=80)
        data = base64.b64encode(stored.getvalue()).decode()
        rules.append(
            f".st-key-sample button:nth-of-type({number})"
            f"{{background-image:url(data:image/jpeg;base64,{data})}}"
        )
    return f"<style>{''.join(rules)}</style>"


def _choose_file(image: ImageName, files: dict[str, str]) -> None:
    """Choose a file of the folders that the operator allowed, if there are any."""
    if not files:
        return
    value = image.name if image.source == FILE and image.name in files else None

    def form(name: str | None) -> list[str]:
        return [] if name is None else [str(ImageName(FILE, name))]

    more: dict[str, Any] = {"placeholder": "Type to search", "form": form, "forget": OF_IMAGE}
    choose_optional("Server files", files.keys(), "file", value=value, name="image", **more)


def _require_listed(name: str, files: dict[str, str], what: str) -> str:
    """Return the path of a file that the operator allows.

    Raises:
        DataError: There is no such file.
    """
    if name not in files:
        raise cam.DataError(f"the link asks for the {what} {name!r}, which this server has not")
    return files[name]


def choose_model(selection: Selection) -> ModelChoice:
    """Choose a model by search, and its weights."""
    about = (
        "The first two are bundled, those of known/ are built by hand; every other one downloads "
        "its weights once."
    )
    name = choose("Model", resources.list_models(), "model", forget=OF_MODEL, help=about)
    if served.has_model(name):
        return ModelChoice(name)
    weights = run_pictures.choose_weights(selection.image, name)
    weights = weights or _choose_checkpoint() or own_weights.choose_weights()
    if weights is None and not is_bundled(name):
        about = "Nothing is downloaded. The network has learned nothing, and its maps show that."
        random = links.check("Random weights", "untrained", forget=OF_MODEL, help=about)
        weights = RANDOM if random else None
    return ModelChoice(name, weights or PUBLISHED, _type_prompts(name))


def _type_prompts(name: str) -> tuple[str, ...]:
    """Type the classes of a model of images and text; none for others."""
    if not takes_prompts(name):
        return ()
    about = "Each line is a class: what the image may show, in words."
    # Other classes are not the same ones any more.
    prompts = links.type_lines("Prompts", PROMPTS, "prompt", forget=CLASSES, help=about)
    if len(prompts) > MOST_PROMPTS:
        st.warning(f"{len(prompts)} prompts are too many; here are the first {MOST_PROMPTS}.")
    return prompts[:MOST_PROMPTS]


def _choose_checkpoint() -> Weights | None:
    """Choose a file of weights of the folders that the operator allowed, if there are any."""
    about = "A state dict for the model above; another number of classes is taken from it."
    files = allowed_files.list_checkpoints()
    if not files:
        return None
    more: dict[str, Any] = {
        "placeholder": "The published ones",
        "help": about,
        "forget": OF_MODEL,
    }
    name = choose_optional("Own weights", files.keys(), "checkpoint", "file of weights", **more)
    if name is not None:
        with report_errors():
            return Weights(path=allowed_files.require_checkpoint(files[name]))
    return None


def choose_target(subject: Subject) -> int | None:
    """Choose a class by search, the most probable ones first; None stands for the top class."""
    top = f"Top class: {subject.titles[subject.top]}"
    about = "The most probable classes come first; type to search all of them."
    # A class is not contrasted with itself.
    more: dict[str, Any] = {"placeholder": top, "help": about, "forget": ("against", "channel")}
    return _choose_class(subject, "Class to explain", subject.order, "target", **more)


def choose_against(subject: Subject, target: int | None) -> int | None:
    """Choose a second class, to ask why the first and not that one; None: no contrast."""
    first = subject.top if target is None else target
    others = [index for index in subject.order if index != first]
    about = "Why the first class and not this one: what tells them apart."
    more: dict[str, Any] = {"placeholder": "No contrast class", "help": about}
    return _choose_class(subject, "Contrast with", others, "against", **more)


def _choose_class(
    subject: Subject, label: str, order: list[int], key: str, **more: Any
) -> int | None:
    titles = [subject.titles[index] for index in order]
    title = choose_optional(label, titles, key, "class", **more)
    return None if title is None else subject.titles.index(title)


def choose_layer(model: cam.Model, default: str | None = None) -> str | None:
    """Choose a layer by search; without a choice it is the default, and None the model's."""
    hint = f"Default ({default})"
    if default is None:
        try:
            hint = f"Default ({', '.join(model.layers)}, last convolutional features)"
        except cam.LayerError:
            hint = "Default (none)"
    names = [layer.name for layer in model.feature_layers]
    about = "Early layers respond to edges and textures, late layers to objects."
    # Another layer has other channels.
    more: dict[str, Any] = {"placeholder": hint, "help": about, "forget": ("channel",)}
    layer = choose_optional("Layer for Grad-CAM", names, "layer", **more)
    return layer or default
