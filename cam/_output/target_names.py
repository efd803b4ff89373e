"""Name what was explained."""

from collections.abc import Callable

from torch import Tensor

from cam._targets.class_target import ClassTarget
from cam.targets import AllDetections, Box, Contrast, Missed, Region, Segment, Similarity


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
    if isinstance(target, Segment | Box | Missed | Region | AllDetections):
        return _name_place(target, label)
    number = getattr(target, "target", None)
    if not isinstance(target, ClassTarget) or not isinstance(number, int):
        return "the target"
    if not isinstance(target, Contrast):
        return label(number)
    against = target.against
    other = label(against) if isinstance(against, int) else "other classes"
    return f"{label(number)}, not {other}"


def _name_place(
    target: Segment | Box | Missed | Region | AllDetections, label: Callable[[int], str]
) -> str:
    """Name what is asked about a place: the class, and where."""
    index = target.target if isinstance(target, Segment) else target.label
    name = "all classes" if index is None else label(index) if isinstance(index, int) else index
    if isinstance(target, AllDetections):
        return f"all detections of {name}"
    if isinstance(target, Segment) and target.at is None:
        return f"the pixels of {name}"
    sides = (target.at or ()) if isinstance(target, Segment) else target.box
    numbers = ", ".join(f"{float(side):.0f}" for side in sides)
    kinds = {Segment: "in", Box: "detected in", Missed: "missed in", Region: "around"}
    where = "at" if len(sides) == 2 else kinds[type(target)]
    if isinstance(target, Segment) and target.connected:
        where = "around"
    return f"{name} {where} {numbers}"
