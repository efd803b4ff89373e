"""Read targets that are written as text: on command lines, in addresses."""

from collections.abc import Callable

from cam._targets.detection_targets import Box, Missed, Region
from cam._targets.segment_target import Segment
from cam.errors import TargetError

Spelled = Box | Missed | Region | Segment


def read_target(text: str) -> Spelled | None:
    """Read what is asked about a place; None where the text is none of these forms.

    ``segment:CLASS`` where a class wins, ``segment:CLASS@x,y`` at a pixel,
    ``segment:CLASS@x0,y0,x1,y1`` in a box, ``region:CLASS@x,y`` in the connected region around a
    pixel; of a detector ``box:x0,y0,x1,y1`` or
    ``box:CLASS@x0,y0,x1,y1`` for a detection, ``missed:CLASS@x0,y0,x1,y1`` for an object that it
    misses, ``region:CLASS@x0,y0,x1,y1`` for a class there. A class is an index or a label, and
    numbers are pixels of the input.

    Raises:
        TargetError: It begins like one of them and goes on otherwise.
    """
    kind, colon, rest = text.partition(":")
    make = _KINDS.get(kind) if colon else None
    if make is None:
        return None
    label, at, numbers = rest.rpartition("@")
    try:
        if not at and kind == "segment":
            return make(_read_class(rest), None)
        sides = tuple(float(number) for number in numbers.split(","))
        return make(_read_class(label) if at else None, sides)
    except ValueError:
        raise TargetError(
            f"the target {text!r} cannot be read; write {_FORMS[kind]}, in pixels of the input"
        ) from None


def write_target(target: Spelled) -> str:
    """Write a target so that :func:`read_target` reads it again.

    Raises:
        TargetError: It has a mask, which no text holds.
    """
    label: int | str | None
    if isinstance(target, Segment):
        if target.mask is not None and target.at is None:
            raise TargetError("a segment with a mask cannot be written as text; give it a place")
        sides, label = target.at, target.target
    else:
        sides, label = tuple(target.box), target.label
    if isinstance(target, Segment) and target.connected:
        return f"region:{label}@{','.join(f'{float(side):g}' for side in sides or ())}"
    kind = next(name for name, kind in _NAMES.items() if isinstance(target, kind))
    numbers = "" if sides is None else ",".join(f"{float(side):g}" for side in sides)
    between = "@" if label is not None and sides is not None else ""
    return f"{kind}:{'' if label is None else label}{between}{numbers}"


def _make_segment(label: int | str | None, sides: tuple[float, ...] | None) -> Segment:
    if label is None:
        raise ValueError
    return Segment(label, at=sides)


def _make_missed(label: int | str | None, sides: tuple[float, ...] | None) -> Missed:
    if label is None or sides is None:
        raise ValueError
    return Missed(sides, label)


def _make_box(label: int | str | None, sides: tuple[float, ...] | None) -> Box:
    if sides is None:
        raise ValueError
    return Box(sides, label)


def _make_region(label: int | str | None, sides: tuple[float, ...] | None) -> Region | Segment:
    if sides is None:
        raise ValueError
    if label is not None and len(sides) == _PIXEL:
        return Segment(label, at=sides, connected=True)
    return Region(sides, label)


def _read_class(text: str) -> int | str:
    if not text:
        raise ValueError
    return int(text) if text.isascii() and text.isdigit() else text


_Make = Callable[[int | str | None, tuple[float, ...] | None], Spelled]
_KINDS: dict[str, _Make] = {
    "segment": _make_segment,
    "box": _make_box,
    "missed": _make_missed,
    "region": _make_region,
}
_NAMES: dict[str, type[Spelled]] = {
    "segment": Segment,
    "box": Box,
    "missed": Missed,
    "region": Region,
}
_PIXEL = 2
_BOX_FORM = "CLASS@x0,y0,x1,y1"
_FORMS = {
    "segment": f"segment:CLASS, segment:CLASS@x,y or segment:{_BOX_FORM}",
    "box": f"box:x0,y0,x1,y1 or box:{_BOX_FORM}",
    "missed": f"missed:{_BOX_FORM}",
    "region": f"region:CLASS@x,y, region:x0,y0,x1,y1 or region:{_BOX_FORM}",
}
