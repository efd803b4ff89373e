"""Draw the map of a volume or a clip over its planes."""

import math
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cam._media.rendering import overlay
from cam.errors import InputError

# Planes of a sheet, evenly from the first to the last: more are too small to be looked at.
MOST_PLANES = 16


def draw_planes(
    draw_plane: Callable[[int], Image.Image], maps: Tensor, **options: Any
) -> list[Image.Image]:
    """Lay a map over each plane, all in one scale: a plane without evidence stays as it is.

    Args:
        draw_plane: Draws what the model saw of a plane, W × H.
        maps: (D, H, W).
        options: Of :func:`cam.overlay`.
    """
    depth, height, width = maps.shape
    under = Image.new("RGB", (width, depth * height))
    for plane in range(depth):
        under.paste(draw_plane(plane), (0, plane * height))
    # As one tall image, since the colours are scaled for each image.
    tall: Image.Image = overlay(under, maps.reshape(depth * height, width), **options)
    return [tall.crop((0, plane * height, width, (plane + 1) * height)) for plane in range(depth)]


def choose_plane(maps: Tensor, plane: object) -> int:
    """Return which plane of a map (D, H, W) is drawn; None: the one with its strongest value.

    Raises:
        InputError: There is no such plane.
    """
    depth = len(maps)
    if plane is None:
        strongest = maps.abs().nan_to_num().flatten(1).amax(1)
        return int(torch.argmax(strongest))
    if isinstance(plane, bool) or not isinstance(plane, int) or not -depth <= plane < depth:
        raise InputError(f"plane must be a whole number from 0 to {depth - 1}, but is {plane!r}")
    return plane % depth


def make_sheet(planes: list[Image.Image]) -> Image.Image:
    """Put planes side by side, row by row; of more than 16 those that lie evenly."""
    count = min(len(planes), MOST_PLANES)
    step = (len(planes) - 1) / max(count - 1, 1)
    shown_planes = [planes[round(number * step)] for number in range(count)]
    columns = math.ceil(math.sqrt(count))
    width, height = shown_planes[0].size
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height))
    for number, plane in enumerate(shown_planes):
        sheet.paste(plane, (number % columns * width, number // columns * height))
    return sheet
