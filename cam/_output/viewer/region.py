"""Read what somebody selected in the viewer."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Region:
    """What was selected on an image.

    Attributes:
        mask: (H, W) bool, on the grid of the maps.
        box: First column and row, and those after the last, where a box was drawn; None for a
            brush.
        active: Name of the map on which it was drawn; empty for the image itself.
        shares: Of each map's name the shares of its evidence for and against the target that lie
            inside, as the browser shows them; None where it has none.
    """

    mask: np.ndarray
    box: tuple[int, int, int, int] | None
    active: str
    shares: Mapping[str, tuple[float | None, float | None]]


def read_region(answer: Any, payload: Mapping[str, Any]) -> Region | None:
    """Read a selection that a browser sent; None where it is of other maps, or no selection."""
    if not isinstance(answer, Mapping) or answer.get("digest") != payload["digest"]:
        return None
    width, height = payload["grid"]
    try:
        packed = np.frombuffer(base64.b64decode(answer["mask"], validate=True), np.uint8)
        mask = np.unpackbits(packed, count=width * height).reshape(height, width).astype(bool)
        box = answer["box"] and tuple(int(side) for side in answer["box"])
        names = {map_["name"] for map_ in payload["maps"]}
        shares = {
            name: (share["supporting"], share["opposing"])
            for name, share in answer["shares"].items()
            if name in names
        }
        active = str(answer["active"])
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error):
        return None
    if not mask.any() or (box and not _fills(box, mask)):
        return None
    return Region(mask, box or None, active if active in names else "", shares)


def _fills(box: tuple[int, ...], mask: np.ndarray) -> bool:
    """Test whether a selection is its box."""
    if len(box) != 4 or min(box) < 0:
        return False
    left, top, right, bottom = box
    whole = mask[top:bottom, left:right]
    return whole.size == int(mask.sum()) == (right - left) * (bottom - top) and bool(whole.all())
