"""Name what was explained."""

from collections.abc import Callable

from torch import Tensor

from cam._targets.class_target import ClassTarget
from cam.targets import Contrast, Similarity


def name_target(target: object, label: Callable[[int], str]) -> str:
    """Name a target: its class, a contrast, or what kind of function it is.

    Args:
        target: An image's, of :attr:`cam.Attribution.targets`.
        label: From a class to its name.
    """
    if isinstance(target, Tensor | int):
        return label(int(target))
    if isinstance(target, Similarity):
        return "likeness"
    number = getattr(target, "target", None)
    if not isinstance(target, ClassTarget) or not isinstance(number, int):
        return "the target"
    if not isinstance(target, Contrast):
        return label(number)
    against = target.against
    other = label(against) if isinstance(against, int) else "other classes"
    return f"{label(number)}, not {other}"
