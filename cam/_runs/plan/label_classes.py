"""Find which of the model's classes a label of the data means."""

from collections.abc import Mapping

from PIL import Image

from cam._data.dataset import Dataset
from cam._data.known_pictures import KnownPictures
from cam._data.photo_grid import PhotoGrid
from cam._models.model import Model
from cam._truth.known_networks import KnownNetwork
from cam.errors import InputError, TargetError, nearest

IMAGENET = 1000


def match_classes(model: Model, data: Dataset) -> dict[str, int]:
    """Map the data's labels to the model's classes by the first rule.

    Names as the model has them; WordNet's numbers, such as n02124075, as ImageNet's folders have;
    and, where there are as many labels as the model has classes, their order, as in torchvision's
    ImageFolder. Data that do not list their labels are looked at in a few places; what those have
    is known by name or number, and :func:`find_class` finds the others by name.

    Raises:
        InputError: The model knows none of them, or generated pictures are not for this model.
    """
    if isinstance(data, KnownPictures):
        _require_known_network(model, data)
    labels = data.labels or data.examples
    if isinstance(data, PhotoGrid) and (outputs := _count_outputs(model)) != IMAGENET:
        raise InputError(
            f"the photo grid asks for ImageNet's {IMAGENET:,} classes by their numbers, and the "
            f"model has {outputs:,} classes; with targets='predicted' what it predicts is "
            "explained, or use data of its classes"
        )
    if not labels:
        return {}
    matches = {label: model.classes_called(label) for label in labels}
    if unique := {label: classes[0] for label, classes in matches.items() if len(classes) == 1}:
        return unique
    if model.detects:
        raise InputError(
            f"the detector knows none of the data's classes, such as {labels[0]!r}; give the model "
            "labels=…, one name a class in the order of its output, or use targets='predicted'"
        )
    outputs = _count_outputs(model)
    synsets = _load_synsets() if outputs == IMAGENET else {}
    if any(label in synsets for label in labels):
        return synsets
    if len(data.labels) == outputs:
        return {label: number for number, label in enumerate(data.labels)}
    sample = ", ".join(labels[:3])
    count = f"{len(labels)} classes ({sample}, …)" if data.labels else f"classes, such as {sample}"
    if matches[labels[0]]:
        why = _describe_ambiguity(model, labels[0])
    elif not model.labels:
        why = "it has no labels, so they must be numbers"
    else:
        why = f"name them as it does: {nearest(labels[0], model.labels)}"
    raise InputError(
        f"the model knows none of the data's {count}; with targets='predicted' what it predicts is "
        f"explained, or {why}"
    )


def _require_known_network(model: Model, data: KnownPictures) -> None:
    """Refuse pictures that were made for another network.

    Raises:
        InputError: They were.
    """
    module = model.module
    if not isinstance(module, KnownNetwork) or module.name != data.network:
        raise InputError(
            f"these images are made for cam.load_model('known/{data.network}') and mean nothing "
            f"to {model.name}; with targets='predicted' what it predicts is explained, or use that "
            "model"
        )


def find_class(model: Model, matches: Mapping[str, int], label: str) -> int:
    """Find the model's index of a label.

    Args:
        model: Whose classes.
        matches: As of :func:`match_classes`.
        label: An item's.

    Raises:
        TargetError: The model has no such class, or several.
    """
    if label in matches:
        return matches[label]
    classes = model.classes_called(label)
    if len(classes) == 1:
        return classes[0]
    if classes:
        raise TargetError(_describe_ambiguity(model, label))
    raise TargetError(f"the model has no class {label!r}")


def _describe_ambiguity(model: Model, label: str) -> str:
    classes = model.classes_called(label)
    return f"{len(classes)} of the model's classes are called {label!r}: {classes}; give the number"


def _load_synsets() -> dict[str, int]:
    from timm.data import ImageNetInfo

    return {name: number for number, name in enumerate(ImageNetInfo().label_names())}


def _count_outputs(model: Model) -> int:
    if model.labels:
        return len(model.labels)
    return int(model.predict(model.prepare(Image.new("RGB", (256, 256)))).shape[1])
