"""Load torchvision's classifiers, detectors and segmenters."""

import warnings
from functools import lru_cache
from typing import Any

from torch import nn

from cam._models.families.class_names import infer_labels
from cam._models.families.parts import Parts, Weights, build_network
from cam._models.preprocessing import Transform, whole_image


@lru_cache(maxsize=1)
def list_detectors() -> tuple[str, ...]:
    """List the names of torchvision's detectors."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models.detection))


@lru_cache(maxsize=1)
def list_segmenters() -> tuple[str, ...]:
    """List the names of torchvision's segmenters."""
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models.segmentation))


def load_torchvision(name: str, weights: Weights) -> Parts:
    """Load a network of torchvision, with the transform of its weights."""
    import torchvision

    best = torchvision.models.get_model_weights(name).DEFAULT
    answers_in_places = name in list_detectors() or name in list_segmenters()

    def create(classes: int | None) -> nn.Module:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if answers_in_places:
            # Else the weights of its backbone would be downloaded.
            options["weights_backbone"] = None
        with warnings.catch_warnings():
            # Two builders announce that a default will change; the weights are random here.
            warnings.simplefilter("ignore", FutureWarning)
            module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return module

    def load_published() -> nn.Module:
        # The builder itself: some of them build another network for their published weights.
        module: nn.Module = torchvision.models.get_model(name, weights=best, progress=False)
        return module

    module = build_network(f"torchvision/{name}", weights, create, load_published)
    if name in list_detectors():
        # They resize and normalise images themselves, and return as many labels as these.
        return Parts(module, whole_image(), tuple(best.meta["categories"]), task="detection")
    transform = _choose_transform(best, module)
    if name in list_segmenters():
        labels = tuple(best.meta["categories"])
        fitting = labels if weights in (None, "DEFAULT") else None
        return Parts(module, transform, fitting, task="segmentation")
    return Parts(module, transform, infer_labels(module))


def _choose_transform(best: Any, module: nn.Module) -> Transform:
    """Return the published weights' transform, or one that fits the network's size.

    The best weights of some transformers are for larger pictures than their builder is by default.
    """
    size = getattr(module, "image_size", None)
    kinds: Any = type(best)  # an enumeration of all weights of the network
    every = [entry.transforms() for entry in (best, *kinds)]
    fits = (preset for preset in every if getattr(preset, "crop_size", None) == [size])
    transform: Transform = next(fits, every[0])
    return transform
