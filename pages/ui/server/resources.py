"""Load models and compute results once for all visitors.

A model is shared under its own lock. Results are keyed by everything that determines them; a
picture by the hash of its bytes, because Streamlit hashes large arrays by a sample only.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import streamlit as st
import torch
from PIL import Image, ImageOps

import cam
from cam._media.images import Photo, read_image
from cam.targets import ClassTarget, Contrast
from cam.types import Attribution

MODELS_KEPT = 3
# Of weights that visitors upload, which nobody else will ask for.
OWN_MODELS_KEPT = 2
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
class OwnWeights:
    """Weights that a visitor uploaded, and the names of their classes where those were too.

    Attributes:
        name: The file's, as the visitor calls it.
        path: Where it lies on this server: below its digest, so another content is another path.
        labels: The name of the file of labels.
        labels_path: Where that lies.
    """

    name: str
    path: str
    labels: str | None = None
    labels_path: str | None = None


# A model's weights: the published ones, random ones, the path of a file, or an upload.
Weights = bool | str | OwnWeights


@dataclass(frozen=True)
class Asked:
    """A method with the parameters that are not its defaults."""

    name: str
    parameters: tuple[tuple[str, Any], ...] = ()

    @property
    def info(self) -> cam.MethodInfo:
        """What the method is."""
        return cam.methods()[self.name]

    @property
    def own_passes(self) -> bool:
        """Whether it sends pictures through the network by itself, which may take long."""
        return self.info.passes or dict(self.parameters).get("aug_smooth", False)

    def method(self) -> cam.Method:
        """As the library takes it.

        Raises:
            MethodError: A parameter is out of range.
        """
        return cam.method(self.name, **dict(self.parameters))


@dataclass(frozen=True)
class Choices:
    """What a visitor asks of a picture; None stands for the top class and the preset layer."""

    model: str
    trained: Weights
    methods: tuple[Asked, ...]
    target: int | None
    layer: str | None
    against: int | None = None

    def explained(self, top: int | None) -> int | ClassTarget | None:
        """The class, or the contrast between two; the top class where none is chosen."""
        target = top if self.target is None else self.target
        if self.against is None or target is None:
            return target
        return Contrast(target, self.against)


@dataclass(frozen=True, eq=False)
class Explanation:
    """One picture, explained by several methods that shared their passes."""

    maps: dict[str, Attribution]
    seconds: float


def model(name: str, trained: Weights) -> cam.Model:
    """A model, shared by all visitors; errors are not kept, so a later try is a new one."""
    return _own(name, trained) if isinstance(trained, OwnWeights) else _shared(name, trained)


@st.cache_resource(max_entries=MODELS_KEPT, show_spinner="Loading the model …")
def _shared(name: str, trained: bool | str) -> cam.Model:
    if isinstance(trained, str):
        return cam.load_model(name, weights=trained, device=_device())
    if trained:
        return cam.load_model(name, device=_device())
    with torch.random.fork_rng():
        # A shared link shows the same untrained network.
        torch.manual_seed(SEED)
        return cam.load_model(name, weights=None, device=_device())


@st.cache_resource(max_entries=OWN_MODELS_KEPT, show_spinner="Loading the model …")
def _own(name: str, own: OwnWeights) -> cam.Model:
    """An upload's, apart: it must not push out the models of everybody."""
    return cam.load_model(name, own.path, _device(), labels=own.labels_path)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@st.cache_resource(show_spinner=False)
def model_names() -> tuple[str, ...]:
    """Every name that a model loads by."""
    return cam.model_names()


@st.cache_resource(max_entries=PHOTOS_KEPT, show_spinner=False)
def _decoded(digest: str, _content: bytes, name: str) -> Photo:
    photo = read_image(_content, name)
    if max(photo.image.size) <= LARGEST_SIDE:
        return photo
    image = ImageOps.contain(photo.image, (LARGEST_SIDE, LARGEST_SIDE))
    note = f"it was reduced to {image.width} × {image.height} pixels, more than models look at"
    return replace(photo, image=image, notes=(*photo.notes, note))


def uploaded(content: bytes, name: str) -> Picture:
    """Decode an upload.

    Raises:
        ImageError: It is no picture that can be read.
    """
    digest = hashlib.sha256(content).hexdigest()
    return Picture(_decoded(digest, content, name), digest)


@st.cache_resource(show_spinner=False)
def sample(name: str) -> Picture:
    """A bundled photo."""
    return Picture(Photo(cam.sample(name), (), name), f"sample:{name}")


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner=False)
def probabilities(name: str, trained: Weights, digest: str, _picture: Picture) -> np.ndarray:
    """Class probabilities of a picture, (classes,) float32."""
    shared = model(name, trained)
    found: np.ndarray = shared.predict(shared.prepare(_picture.photo))[0].cpu().numpy()
    return found


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner="Explaining …")
def explain(choices: Choices, top: int | None, digest: str, _picture: Picture) -> Explanation:
    """Explain one picture; what comes back is shared, so nobody may write to it.

    Raises:
        CamError: The model cannot be explained so.
    """
    shared = model(choices.model, choices.trained)
    return explained(shared, choices, top, _picture)


def explained(
    shared: cam.Model,
    choices: Choices,
    top: int | None,
    picture: Picture,
    progress: Callable[[cam.Progress], object] | None = None,
) -> Explanation:
    """The same without a place to keep it, for a thread."""
    start = time.perf_counter()
    maps = cam.attribute(
        shared,
        shared.prepare(picture.photo),
        [one.method() for one in choices.methods],
        targets=choices.explained(top),
        layers=choices.layer,
        progress=progress,
    )
    return Explanation(maps, time.perf_counter() - start)


@st.cache_resource(max_entries=ANATOMIES_KEPT, show_spinner="Taking the maps apart …")
def anatomy(
    name: str,
    trained: Weights,
    target: int | None,
    layer: str | None,
    digest: str,
    _picture: Picture,
) -> cam.Anatomy:
    """Every step to the two maps of one picture; shared, so nobody may write to it.

    Raises:
        CamError: The model cannot be explained so.
    """
    shared = model(name, trained)
    return cam.anatomy(shared, shared.prepare(_picture.photo), target, layer)


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner="Shaking the picture …")
def shaken(
    name: str, trained: Weights, target: int, layer: str, digest: str, _picture: Picture
) -> dict[str, Attribution]:
    """Both maps of a picture, and of it with noise: the first image is the picture itself.

    Raises:
        CamError: The model cannot be explained so.
    """
    shared = model(name, trained)
    batch = shared.prepare(_picture.photo)
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(SHAKES, *batch.shape[1:], generator=generator).to(batch)
    noisy = batch + NOISE * (batch.max() - batch.min()) * noise
    return cam.attribute(
        shared, torch.cat([batch, noisy]), ("gradcam", "saliency"), targets=target, layers=layer
    )


@st.cache_resource(max_entries=RESULTS_KEPT, show_spinner=False)
def seen(name: str, trained: Weights, digest: str, _picture: Picture) -> Image.Image:
    """The part of the picture that the model sees, in a size to show it in."""
    part = model(name, trained).crop(_picture.photo)
    longest = max(part.size)
    side = min(max(longest, SMALLEST_SIDE), DISPLAY_SIDE)
    return part if side == longest else ImageOps.contain(part, (side, side))
