"""Load models and compute results once for all visitors.

A model is shared under its own lock. Results are keyed by everything that determines them; a
picture by the hash of its bytes, because Streamlit hashes large arrays by a sample only.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import PurePath
from typing import Any, ParamSpec, TypeVar

import numpy as np
import streamlit as st
import torch
from PIL import Image, ImageOps
from streamlit.runtime.caching.cache_utils import CachedFunc

import cam
from cam._media.images import Photo, read_image
from cam.targets import ClassTarget, Contrast
from cam.types import Attribution

P = ParamSpec("P")
R = TypeVar("R")

MODELS_KEPT = 3
# Of weights that visitors upload, which nobody else will ask for.
UPLOADED_MODELS_KEPT = 2
RESULTS_KEPT = 64
PHOTOS_KEPT = 16
# Each holds a layer's activations and gradients: 26 MB at the first layers of the largest networks.
ANATOMIES_KEPT = 16
# How often a picture is shaken, and how much: a share of its range, as SmoothGrad adds.
SHAKES = 3
NOISE = 0.05
# 64 megapixels, which the decoder lets in, are 200 MB in memory for each visitor.
LARGEST_SIDE = 2048
SEED = 0
# A photo is shown at its own resolution up to this side; more only costs time on the way.
DISPLAY_SIDE = 512
# And a tiny one is enlarged, or its heatmap would be drawn in a handful of pixels.
SMALLEST_SIDE = 224


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo with the hash of its content, and the Python that reads it where that is known."""

    photo: Photo
    digest: str
    code: str | None = None


@dataclass(frozen=True)
class Weights:
    """The weights of a model: published, random, of a file or of an upload.

    Attributes:
        random: Whether they are drawn, from a fixed seed.
        path: Of a file on this server; an upload lies below its digest, so another content has
            another path.
        upload: What the visitor who uploaded the file calls it; None where nobody did.
        labels: The name of the visitor's file of classes' names.
        labels_path: Where that lies.
    """

    random: bool = False
    path: str | None = None
    upload: str | None = None
    labels: str | None = None
    labels_path: str | None = None

    @property
    def published(self) -> bool:
        """Whether they are those that the model's authors published."""
        return not self.random and self.path is None


PUBLISHED, RANDOM = Weights(), Weights(random=True)


@dataclass(frozen=True)
class ModelChoice:
    """A model by its name, with its weights."""

    name: str
    weights: Weights = PUBLISHED

    @property
    def title(self) -> str:
        """The name, and whose the weights are where they are not the published ones."""
        if self.weights.published:
            return self.name
        file = self.weights.upload or PurePath(self.weights.path or "random weights").name
        return f"{self.name} ({file})"


@dataclass(frozen=True)
class MethodChoice:
    """A method with the parameters that are not its defaults."""

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def info(self) -> cam.MethodInfo:
        """What the method is."""
        return cam.methods()[self.name]

    @property
    def own_passes(self) -> bool:
        """Whether it sends pictures through the network alone, which may take long."""
        return self.info.passes or dict(self.parameters).get("aug_smooth", False)

    def make(self) -> cam.Method:
        """Make the method as the library takes it.

        Raises:
            MethodError: A parameter is out of range.
        """
        return cam.method(self.name, **dict(self.parameters))


@dataclass(frozen=True)
class Choices:
    """What a visitor asks of a picture; None stands for the top class and the preset layer."""

    model: ModelChoice
    methods: tuple[MethodChoice, ...]
    target: int | None
    layer: str | None
    against: int | None = None

    def resolve_target(self, top: int | None) -> int | ClassTarget | None:
        """Return the class, or the contrast of two; the top class where none is chosen."""
        target = top if self.target is None else self.target
        if self.against is None or target is None:
            return target
        return Contrast(target, self.against)


def share(
    max_entries: int | None = None, show_spinner: bool | str = False
) -> Callable[[Callable[P, R]], CachedFunc[P, R]]:
    """Make a function compute once for all visitors, who must not write to what it returns.

    Errors are not kept, so that a later try is a new one.
    """
    return st.cache_resource(
        max_entries=max_entries,
        show_spinner=show_spinner,
        hash_funcs={Picture: attrgetter("digest"), cam.Run: identify_run},
    )


def identify_run(run: cam.Run) -> tuple[Any, ...]:
    """Return what tells a run from itself a moment ago, and from another one of that name."""
    started, ranges = str(run.notes.get("started")), tuple(run.store.ranges())
    return (str(run.path), started, ranges, tuple(run.parts.items()))


def load_model(choice: ModelChoice) -> cam.Model:
    """Load a model, shared by all visitors.

    Raises:
        ModelError: It cannot be loaded so.
    """
    return _load_upload(choice) if choice.weights.upload else _load_shared(choice)


@share(max_entries=MODELS_KEPT, show_spinner="Loading the model …")
def _load_shared(choice: ModelChoice) -> cam.Model:
    return _load(choice)


@share(max_entries=UPLOADED_MODELS_KEPT, show_spinner="Loading the model …")
def _load_upload(choice: ModelChoice) -> cam.Model:
    """Load an upload apart from the others: it must not push out the models of everybody."""
    return _load(choice)


def _load(choice: ModelChoice) -> cam.Model:
    device, weights = "cuda" if torch.cuda.is_available() else "cpu", choice.weights
    if weights.path is not None:
        return cam.load_model(choice.name, weights.path, device, labels=weights.labels_path)
    if weights.published:
        return cam.load_model(choice.name, device=device)
    with torch.random.fork_rng():
        # A shared link shows the same untrained network.
        torch.manual_seed(SEED)
        return cam.load_model(choice.name, weights=None, device=device)


@share()
def list_models() -> tuple[str, ...]:
    """List every name that a model loads by."""
    return cam.model_names()


@share(max_entries=PHOTOS_KEPT)
def _decode(digest: str, _content: bytes, name: str) -> Photo:
    photo = read_image(_content, name)
    if max(photo.image.size) <= LARGEST_SIDE:
        return photo
    image = ImageOps.contain(photo.image, (LARGEST_SIDE, LARGEST_SIDE))
    note = f"it was reduced to {image.width} × {image.height} pixels, more than models look at"
    return replace(photo, image=image, notes=(*photo.notes, note))


def decode_upload(content: bytes, name: str) -> Picture:
    """Decode an upload.

    Raises:
        ImageError: It is no picture that can be read.
    """
    digest = hashlib.sha256(content).hexdigest()
    return Picture(_decode(digest, content, name), digest)


@share()
def open_sample(name: str) -> Picture:
    """Open a bundled photo."""
    return Picture(Photo(cam.sample(name), (), name), f"sample:{name}")


@share(max_entries=RESULTS_KEPT)
def predict(choice: ModelChoice, picture: Picture) -> np.ndarray:
    """Predict the class probabilities of a picture, (classes,) float32."""
    model = load_model(choice)
    chances: np.ndarray = model.predict(model.prepare(picture.photo))[0].cpu().numpy()
    return chances


@share(max_entries=RESULTS_KEPT, show_spinner="Explaining …")
def explain(choices: Choices, top: int | None, picture: Picture) -> dict[str, Attribution]:
    """Explain one picture by several methods that share their passes.

    Raises:
        CamError: The model cannot be explained so.
    """
    return explain_with(load_model(choices.model), choices, top, picture)


def explain_each(
    choices: Choices, top: int | None, picture: Picture
) -> dict[MethodChoice, Attribution | cam.CamError]:
    """Explain one picture by those methods that can, in shared passes, or say why not."""
    errors: dict[MethodChoice, Attribution | cam.CamError] = {}
    try:
        maps = explain(choices, top, picture)
    except cam.CamError as error:
        if len(choices.methods) == 1:
            return {choices.methods[0]: error}
        for method in choices.methods:
            [result] = explain_each(replace(choices, methods=(method,)), top, picture).values()
            if isinstance(result, cam.CamError):
                errors[method] = result
        rest = tuple(method for method in choices.methods if method not in errors)
        if not errors:
            return dict.fromkeys(choices.methods, error)
        return errors | (explain_each(replace(choices, methods=rest), top, picture) if rest else {})
    return dict(zip(choices.methods, maps.values(), strict=True))


def explain_with(
    model: cam.Model,
    choices: Choices,
    top: int | None,
    picture: Picture,
    progress: Callable[[cam.Progress], object] | None = None,
) -> dict[str, Attribution]:
    """Explain with a model, as :func:`explain` does, in a thread."""
    return cam.attribute(
        model,
        model.prepare(picture.photo),
        [method.make() for method in choices.methods],
        targets=choices.resolve_target(top),
        layers=choices.layer,
        progress=progress,
    )


@share(max_entries=ANATOMIES_KEPT, show_spinner="Taking the maps apart …")
def take_apart(
    choice: ModelChoice, target: int, layer: str | None, picture: Picture
) -> cam.Anatomy:
    """Compute every step to the two maps of one picture.

    Raises:
        CamError: The model cannot be explained so.
    """
    model = load_model(choice)
    return cam.anatomy(model, model.prepare(picture.photo), target, layer)


@share(max_entries=RESULTS_KEPT, show_spinner="Shaking the picture …")
def shake(choice: ModelChoice, target: int, layer: str, picture: Picture) -> dict[str, Attribution]:
    """Explain a picture, and it with noise: the first image is the picture itself.

    Raises:
        CamError: The model cannot be explained so.
    """
    model = load_model(choice)
    batch = model.prepare(picture.photo)
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(SHAKES, *batch.shape[1:], generator=generator).to(batch)
    noisy = batch + NOISE * (batch.max() - batch.min()) * noise
    return cam.attribute(
        model, torch.cat([batch, noisy]), ("gradcam", "saliency"), targets=target, layers=layer
    )


@share(max_entries=RESULTS_KEPT)
def crop(choice: ModelChoice, picture: Picture) -> Image.Image:
    """Crop the picture to the part that the model sees, in a size to show it in."""
    return fit_display(load_model(choice).crop(picture.photo))


def fit_display(part: Image.Image) -> Image.Image:
    """Resize a picture that is too large or too small to be shown."""
    longest = max(part.size)
    side = min(max(longest, SMALLEST_SIDE), DISPLAY_SIDE)
    return part if side == longest else ImageOps.contain(part, (side, side))
