"""Boxes and segments that the viewer draws over an image, and picks."""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cam._output.explanation_files import data_uri

# So far apart on the circle of hues that neighbours in number differ most.
_HUE_STEP = 0.61803398875
_NOTHING = (0, 0, 0, 0)
_OPACITY = 130


@dataclass(frozen=True)
class MarkedBox:
    """A detection over the image.

    Attributes:
        name: What a pick of it is called; empty: it is not picked, what is below it is.
        title: What the visitor reads.
        sides: Left, top, right and bottom, as shares of the image.
        explained: Whether it is what is explained.
    """

    name: str
    title: str
    sides: tuple[float, float, float, float]
    explained: bool = False


@dataclass(frozen=True, eq=False)
class Marks:
    """What lies over the image.

    Attributes:
        boxes: Detections.
        mask: (H, W) integers, the class of each pixel, negative for none; None without segments.
        names: Title of each class of the mask that is listed, in the order of the list.
    """

    boxes: tuple[MarkedBox, ...] = ()
    mask: np.ndarray | None = None
    names: Mapping[int, str] | None = None


@dataclass(frozen=True)
class Pick:
    """What a visitor clicked on the image.

    Attributes:
        name: Of the box; empty for a place.
        x: Of the place, as a share of the image's width.
        y: And of its height.
    """

    name: str
    x: float
    y: float


def pack_marks(marks: Marks) -> dict[str, Any]:
    """Pack boxes and segments for the browser."""
    boxes = [
        {
            "name": box.name,
            "title": box.title,
            "sides": [round(side, 5) for side in box.sides],
            "explained": box.explained,
        }
        for box in marks.boxes
    ]
    if marks.mask is None:
        return {"boxes": boxes, "mask": None, "legend": []}
    names = marks.names or {}
    legend = [
        {
            "title": title,
            "colour": "#{:02x}{:02x}{:02x}".format(*colour_of(index)),
            "share": float((marks.mask == index).mean()),
        }
        for index, title in names.items()
    ]
    return {"boxes": boxes, "mask": data_uri(_colour(marks.mask)), "legend": legend}


def colour_of(index: int) -> tuple[int, int, int]:
    """Return the colour of a class, red, green and blue."""
    value = 0.95 if index % 2 == 0 else 0.7
    red, green, blue = colorsys.hsv_to_rgb((index * _HUE_STEP) % 1, 0.85, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def read_pick(answer: Any, digest: str) -> Pick | None:
    """Read what a browser says was picked; None where it is of other data, or none."""
    if not isinstance(answer, Mapping) or answer.get("digest") != digest:
        return None
    try:
        x, y = float(answer["x"]), float(answer["y"])
    except (KeyError, TypeError, ValueError):
        return None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        return None
    return Pick(str(answer.get("name") or ""), x, y)


def _colour(mask: np.ndarray) -> Image.Image:
    """Draw a mask in its classes' colours, half transparent."""
    drawn = np.zeros((*mask.shape, 4), np.uint8)
    for index in np.unique(mask):
        drawn[mask == index] = _NOTHING if index < 0 else (*colour_of(int(index)), _OPACITY)
    return Image.fromarray(drawn, "RGBA")
