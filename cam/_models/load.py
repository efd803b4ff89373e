"""Load models by name, whoever builds them."""

import os
import warnings
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

import torch

from cam._models.black_box import OnnxNetwork, load_program, names_program
from cam._models.download import Published, Report
from cam._models.families.bundled import BUNDLED, SECOND, load_bundled
from cam._models.families.handmade import load_known
from cam._models.families.hugging_face import (
    PREFIX,
    find_repository,
    load_hugging_face,
    reads_text,
)
from cam._models.families.open_clip_networks import (
    OPEN_CLIP,
    find_published,
    load_open_clip,
)
from cam._models.families.parts import Weights
from cam._models.families.timm_networks import load_timm
from cam._models.families.torchvision_networks import (
    list_detectors,
    list_segmenters,
    load_torchvision,
)
from cam._models.hub.repository import Repository
from cam._models.image_text.prompt_classifier import no_text_tower
from cam._models.labels import read_labels
from cam._models.model import Model, ModelOrigin
from cam._models.own_code import load_code, names_code
from cam._models.preprocessing import standard_transform
from cam._truth.known_networks import NETWORKS
from cam.errors import CamWarning, ModelError, nearest

# What the names of networks built by hand begin with.
HANDMADE = "known/"
_LOADERS = {
    "torchvision": load_torchvision,
    "timm": load_timm,
    "known": load_known,
}
_BY_PROMPTS = {"hf": load_hugging_face, "open_clip": load_open_clip}
Labels = str | os.PathLike[str] | Sequence[str] | None


def load_model(
    name: str,
    weights: Weights = "DEFAULT",
    device: str | torch.device | None = None,
    *,
    labels: Labels = None,
    prompts: Sequence[str] | None = None,
    progress: Report | None = None,
) -> Model:
    """Load a model by name, in evaluation mode.

    Args:
        name: ``efficientnet_lite0`` or ``efficientnet_lite2`` (bundled, need no network),
            ``torchvision/NAME`` (its detectors and segmenters too) or ``timm/NAME``, where timm's
            name may carry its tag of weights; or ``known/NAME``, a network built by hand for
            ``cam.dataset("known")``, whose exact attribution is known; or ``hf/OWNER/NAME``, a
            repository of Hugging Face's hub, or ``hf/FOLDER``, what ``save_pretrained`` wrote: its
            own image processor prepares images; or ``open_clip/ARCHITECTURE/TAG``, where TAG says
            which weights; or ``package.module:function``, a function that returns a
            :class:`cam.Model` or a network; or the path of an ``.onnx``, ``.pt2`` or
            ``.torchscript`` file, which holds the network.
        weights: ``"DEFAULT"``: the weights published under that name, downloaded once. ``None``:
            random ones. A path: a ``.safetensors`` or ``.pth`` state dict for that architecture,
            of any number of classes.
        device: Where to put it; the CPU by default.
        labels: One name a class, or a file of them: text with one name a line, or JSON, a list or
            ``{index: name}``. None: those of the checkpoint (``hf/…``), or ImageNet's where the
            model has ImageNet's number of classes.
        prompts: For a model of images and text (CLIP, SigLIP, open_clip): what the image may
            show. Each text is a class and its name, and its score the model's own logit.
        progress: Called while published weights are downloaded, with a
            :class:`cam._models.download.DownloadProgress`: bytes that are here, and in all. False
            cancels, and nothing is left of what came.

    Raises:
        ModelError: No such model, its weights cannot be had, or the labels do not fit it.
        MissingExtraError: transformers or open_clip is not installed.
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
    names = _read_names(labels)
    if names_code(name) or names_program(name):
        if prompts is not None:
            raise no_text_tower(name)
        return _put(_load_own(name, weights, names), device)
    family, architecture = _split_name(name)
    if weights == "DEFAULT" and (source := published(name)) is not None:
        source.fetch(progress)
    if family in _BY_PROMPTS:
        parts = _BY_PROMPTS[family](architecture, weights, prompts)
    elif prompts is None:
        parts = _LOADERS.get(family, load_bundled)(architecture, weights)
    else:
        raise no_text_tower(name)
    if names is None:
        names = parts.labels
    elif len(names) != parts.classes:
        source_name = f"{Path(labels).name} names" if _is_path(labels) else "labels names"
        raise ModelError(f"{source_name} {len(names)} classes, but the model has {parts.classes}")
    model = Model(parts.module, parts.transform, names, parts.layer, name, parts.task)
    model.origin = ModelOrigin(
        _lasting_name(name),
        weights if weights is None or weights == "DEFAULT" else str(Path(weights).absolute()),
        None if labels is None else str(Path(labels).absolute()) if _is_path(labels) else names,
        None if prompts is None else tuple(prompts),
    )
    model.module.eval()
    return _put(model, device)


def _load_own(name: str, weights: Weights, labels: tuple[str, ...] | None) -> Model:
    """Load what the caller's function makes or file holds, with other names of its classes."""
    if weights != "DEFAULT":
        raise ModelError(f"{name} has its own weights; leave weights='DEFAULT'")
    if names_program(name):
        model, name = _open_program(name), str(Path(name).absolute())
    else:
        model = load_code(name)
        model.module.eval()
    model.labels = model.labels if labels is None else labels
    model.origin = ModelOrigin(name, "DEFAULT", labels, None)
    return model


def _open_program(path: str) -> Model:
    """Open a file that holds a network, which does not say how its images are prepared."""
    module = load_program(path)
    size = module.size if isinstance(module, OnnxNetwork) else None
    side = size[0] if size is not None and size[0] == size[1] else 224
    warnings.warn(
        f"{Path(path).name} does not say how its images are prepared: ImageNet's way is taken, "
        f"{side} × {side}; for another one use cam.Model(cam.load_model(…).module, transform)",
        CamWarning,
        stacklevel=4,
    )
    return Model(module, standard_transform(side, round(side * 256 / 224)), name=Path(path).stem)


def _put(model: Model, device: str | torch.device | None) -> Model:
    """Put a model on a device."""
    try:
        return model.to(device) if device is not None else model
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the model cannot be put on {str(device)!r}: {reason}") from None


def is_bundled(name: str) -> bool:
    """Return whether a model needs no download: its weights are installed or built by hand."""
    return name in (BUNDLED, SECOND) or name.startswith(HANDMADE)


def names_checkpoint(name: str) -> bool:
    """Return whether a name is that of a checkpoint, of which no list holds all."""
    return name.startswith((PREFIX, OPEN_CLIP))


def takes_prompts(name: str) -> bool:
    """Return whether a model's classes are prompts, as far as that is known without a network."""
    if name.startswith(OPEN_CLIP):
        return True
    return name.startswith(PREFIX) and reads_text(name.removeprefix(PREFIX))


def model_names() -> tuple[str, ...]:
    """List the names that :func:`load_model` takes, the bundled model first.

    Those of Hugging Face's hub, ``hf/OWNER/NAME``, and of open_clip are not in it.
    """
    return (
        BUNDLED,
        SECOND,
        *(f"torchvision/{name}" for name in _torchvision_names()),
        *(f"timm/{name}" for name in _timm_names()),
        *(f"{HANDMADE}{name}" for name in NETWORKS),
    )


def _split_name(name: str) -> tuple[str, str]:
    """Return who builds a model, and under which name."""
    family, _, architecture = name.partition("/")
    if name in (BUNDLED, SECOND):
        return "", name
    if family in _BY_PROMPTS or (family == "known" and architecture in NETWORKS):
        return family, architecture
    names = {"torchvision": _torchvision_names, "timm": _timm_names}.get(family)
    if names is None or architecture not in names():
        raise ModelError(f"there is no model {name!r}; {nearest(name, model_names())}")
    return family, architecture


def _lasting_name(name: str) -> str:
    """Return a name that means the same folder from everywhere."""
    folder = name.removeprefix(PREFIX)
    if name.startswith(PREFIX) and Path(folder).is_dir():
        return f"{PREFIX}{Path(folder).absolute()}"
    return name


def published(name: str) -> Published | Repository | None:
    """Return where published weights come from; None for models that need no download.

    Raises:
        ModelError: No such model, or nobody published weights for it.
    """
    if names_code(name) or names_program(name):
        return None
    family, architecture = _split_name(name)
    if family == "hf":
        return find_repository(architecture)
    if family == "open_clip":
        return find_published(architecture)
    if family == "torchvision":
        import torchvision

        url = torchvision.models.get_model_weights(architecture).DEFAULT.url
        return Published(name, url, checked=True)
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(architecture)
        if config is None or not config.has_weights:
            raise ModelError(
                f"{name} has no published weights; give a file of weights, or use random ones"
            )
        return Published(name, config.url, config.hf_hub_id)
    return None


@lru_cache(maxsize=1)
def _torchvision_names() -> tuple[str, ...]:
    import torchvision

    classifiers = torchvision.models.list_models(module=torchvision.models)
    return (*classifiers, *list_detectors(), *list_segmenters())


@lru_cache(maxsize=1)
def _timm_names() -> dict[str, None]:
    import timm

    # A dict keeps the order and answers `in` at once.
    return dict.fromkeys([*timm.list_models(), *timm.list_pretrained()])


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
