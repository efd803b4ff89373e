"""Define a target that names classes, by index or label."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from torch import Tensor

from cam.errors import TargetError

Class = int | str


@dataclass(frozen=True, eq=False)
class ClassTarget(ABC):
    """A scalar made of one image's logits (classes,) and of classes, by index or label.

    Each is called on the output for one image, after the model has resolved its labels.
    """

    def resolve(self, class_index: Callable[[str], int]) -> "ClassTarget":
        """Replace labels by indices."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{key: _resolve(value, class_index) for key, value in values.items()})

    @abstractmethod
    def __call__(self, output: Tensor) -> Tensor:
        """Return the scalar, part of the output's graph."""


def _resolve(value: object, class_index: Callable[[str], int]) -> object:
    if isinstance(value, str):
        return class_index(value)
    if isinstance(value, tuple | list):
        return tuple(_resolve(part, class_index) for part in value)
    return value


def find_class(target: object, classes: int, class_index: Callable[[str], int]) -> int:
    """Return the index of a class.

    Args:
        target: An index or a label.
        classes: How many there are.
        class_index: From a label to its index.

    Raises:
        TargetError: There is none.
    """
    index = class_index(target) if isinstance(target, str) else target
    if not isinstance(index, int) or not 0 <= index < classes:
        raise TargetError(
            f"target {index} is out of range: the model has {classes} classes, 0 to {classes - 1}"
        )
    return index


def select_entry(output: Tensor, target: Class) -> Tensor:
    """Select a class of an image's output, which may have further axes."""
    if not output.ndim:
        raise TargetError("the model returns one number an image, so it has no classes to choose")
    return output[find_class(target, len(output), refuse_label)]


def refuse_label(label: str) -> int:
    """Refuse a label where no model gives its index."""
    raise TargetError(
        f"the label {label!r} means nothing without a model that has labels; use an index"
    )
