"""Load models and compute results once for all visitors.

A model is shared under its own lock. Results are keyed by everything that determines them; an
image by the hash of its bytes, because Streamlit hashes large arrays by a sample only.
"""

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from operator import attrgetter
from typing import Any, ParamSpec, TypeVar

import numpy as np
import streamlit as st
import torch
from PIL import Image, ImageOps
from streamlit.runtime.caching.cache_utils import CachedFunc

import cam
from cam._engine.shared_state.random_state import seeded
from cam._media.images import Photo, read_image
from cam._models.device import choose_device
from cam._models.load import takes_prompts
from cam._models.model import require_classes
from cam.pages.ui.server import hub_models, large_photos, served
from cam.pages.ui.state.choices import PROMPTS, Choices, MethodChoice, ModelChoice, Picture
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
SEED = 0
# A photo is shown at its own resolution up to this side; more only costs time on the way.
DISPLAY_SIDE = 512
# And a tiny one is enlarged, or its heatmap would be drawn in a handful of pixels.
SMALLEST_SIDE = 224


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
    numbers = None if run.numbers is None else tuple(sorted(run.numbers))
    return (str(run.path), started, ranges, tuple(run.parts.items()), numbers)


def load_model(choice: ModelChoice) -> cam.Model:
    """Load a model, shared by all visitors.

    Raises:
        ModelError: It cannot be loaded so.
    """
    personal = choice.weights.upload or choice.prompts not in ((), PROMPTS)
    return _load_upload(choice) if personal else _load_shared(choice)


@share(max_entries=MODELS_KEPT, show_spinner="Loading the model …")
def _load_shared(choice: ModelChoice) -> cam.Model:
    return _load(choice)


@share(max_entries=UPLOADED_MODELS_KEPT, show_spinner="Loading the model …")
def _load_upload(choice: ModelChoice) -> cam.Model:
    """Load an upload, or typed prompts, apart: they must not push out the models of everybody."""
    return _load(choice)


def _load(choice: ModelChoice) -> cam.Model:
    if served.has_model(choice.name):
        model: cam.Model = served.models.take(choice.name)
        return model
    hub_models.require_allowed(choice.name)
    device, weights = choose_device(), choice.weights
    source: str | None = "DEFAULT" if weights.published else weights.path
    # Before its download nothing is known of a model, and its prompts could not be typed.
    prompts = choice.prompts or PROMPTS if takes_prompts(choice.name) else None
    # A shared link shows the same untrained network.
    with seeded(SEED) if weights.random else nullcontext():
        return cam.load_model(
            choice.name, source, device, labels=weights.labels_path, prompts=prompts
        )


def list_models() -> tuple[str, ...]:
    """List every name that a visitor may load a model by."""
    first, *others = _list_families()
    # The first is what a page shows whose address says nothing.
    return (first, *served.models.list_names(), *others, *hub_models.list_names())


@share()
def _list_families() -> tuple[str, ...]:
    return cam.model_names()


@share(max_entries=PHOTOS_KEPT)
def _decode(digest: str, _content: bytes, name: str) -> Photo:
    return read_image(_content, name)


def decode_upload(content: bytes, name: str) -> Picture:
    """Decode an upload.

    Raises:
        ImageError: It is no image that can be read.
    """
    digest = hashlib.sha256(content).hexdigest()
    if large_photos.is_large(content, name):
        return Picture(large_photos.LargePhoto(content, digest, name), digest)
    return Picture(_decode(digest, content, name), digest)


@share()
def open_sample(name: str) -> Picture:
    """Open a bundled photo."""
    return Picture(Photo(cam.sample(name), (), name), f"sample:{name}")


@share(max_entries=RESULTS_KEPT)
def prepare(choice: ModelChoice, picture: Picture) -> torch.Tensor:
    """Make the model's input of the whole picture, (1, 3, H, W)."""
    return load_model(choice).prepare(picture.photo)


@share(max_entries=RESULTS_KEPT)
def predict(choice: ModelChoice, picture: Picture) -> np.ndarray:
    """Predict the class probabilities of an image, (classes,) float32."""
    chances: np.ndarray = torch.from_numpy(score(choice, picture)).softmax(0).numpy()
    return chances


@share(max_entries=RESULTS_KEPT)
def score(choice: ModelChoice, picture: Picture) -> np.ndarray:
    """Compute the raw scores of an image, (classes,) float32.

    Raises:
        ModelError: The model gives something else than a score for each class.
    """
    model = load_model(choice)
    output = model.score(prepare(choice, picture))[0]
    require_classes(model.name, output)
    scores: np.ndarray = output.cpu().numpy()
    return scores


@share(max_entries=RESULTS_KEPT, show_spinner="Explaining …")
def explain(choices: Choices, top: int | None, picture: Picture) -> dict[str, Attribution]:
    """Explain one image by several methods that share their passes.

    Raises:
        CamError: The model cannot be explained so.
    """
    return explain_with(load_model(choices.model), choices, top, picture)


def explain_each(
    choices: Choices, top: int | None, picture: Picture
) -> dict[MethodChoice, Attribution | cam.CamError]:
    """Explain one image by those methods that can, in shared passes, or say why not."""
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
    return cam.anatomy(model, prepare(choice, picture), target, layer)


@share(max_entries=RESULTS_KEPT, show_spinner="Shaking the image …")
def shake(choice: ModelChoice, target: int, layer: str, picture: Picture) -> dict[str, Attribution]:
    """Explain an image, and it with noise: the first image is the image itself.

    Raises:
        CamError: The model cannot be explained so.
    """
    model = load_model(choice)
    batch = prepare(choice, picture)
    generator = torch.Generator().manual_seed(SEED)
    noise = torch.randn(SHAKES, *batch.shape[1:], generator=generator).to(batch)
    noisy = batch + NOISE * (batch.max() - batch.min()) * noise
    return cam.attribute(
        model, torch.cat([batch, noisy]), ("gradcam", "saliency"), targets=target, layers=layer
    )


@share(max_entries=RESULTS_KEPT)
def crop(choice: ModelChoice, picture: Picture) -> Image.Image:
    """Crop the image to the part that the model sees, in a size to show it in."""
    return fit_display(load_model(choice).crop(picture.photo))


def fit_display(part: Image.Image) -> Image.Image:
    """Resize an image that is too large or too small to be shown."""
    longest = max(part.size)
    side = min(max(longest, SMALLEST_SIDE), DISPLAY_SIDE)
    return part if side == longest else ImageOps.contain(part, (side, side))
