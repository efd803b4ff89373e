"""Prepare images by an image processor of transformers, and measure its geometry.

Each class of processors resizes, crops and pads by other rules. None of them is written again
here: a ramp of brightness is prepared, and the result says which part of it was kept.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cam._models.preprocessing import Box, cut_side
from cam.errors import ModelError

# Of the ramps: their darkest brightness, and how much they rise.
# No whole number of steps a pixel, as their rounding would not average out.
_LOW, _RISE = 16, 211.3
# Share of the result's sides where interpolation sees the image's edge.
_EDGE = 0.1
# In brightness, of 255: what rounding leaves of a straight ramp.
_STRAIGHT = 3.0
_SIZES_KEPT = 256


class ProcessorTransform:
    """From a PIL image to what an image processor makes of it, (3, H, W) float32.

    Args:
        processor: Of ``transformers.AutoImageProcessor``.
        name: The model's, for messages.

    Attributes:
        mean: What is subtracted of each channel, for brightness from 0 to 1.
        std: What it is divided by.

    Raises:
        ModelError: It makes something else of an image.
    """

    def __init__(self, processor: Any, name: str) -> None:
        self.processor = processor
        self._boxes: dict[tuple[int, int], Box | None] = {}
        try:
            dark, light = (self(Image.new("RGB", (256, 256), colour)) for colour in (0, 0xFFFFFF))
            fits = dark.ndim == 3 and len(dark) == 3
        # A processor for patches, text or audio fails in any way.
        except Exception:  # noqa: BLE001
            fits = False
        if not fits:
            raise ModelError(
                f"{name} is prepared by {type(processor).__name__}, which makes no (3, H, W) image "
                "of a photo; load a model of images"
            )
        # In the middle nothing is padded.
        middle = (slice(None), dark.shape[1] // 2, dark.shape[2] // 2)
        low, high = dark[middle], light[middle]
        self.std = tuple((1 / (high - low)).tolist())
        self.mean = tuple((-low / (high - low)).tolist())

    def __call__(self, image: Image.Image) -> Tensor:
        """Prepare an RGB image."""
        pixels: Tensor = self.processor(images=image, return_tensors="pt")["pixel_values"]
        return pixels[0].float()

    def __repr__(self) -> str:
        # What determines the result; runs compare it.
        return f"{type(self).__name__}({self.processor.to_json_string()})"

    def find_box(self, size: tuple[int, int]) -> Box | None:
        """Find left, top, right and bottom of what it keeps of an image of (width, height).

        Returns:
            None where it pads, turns or bends the image.
        """
        if size not in self._boxes:
            if len(self._boxes) == _SIZES_KEPT:
                self._boxes.pop(next(iter(self._boxes)))
            self._boxes[size] = self._measure(size)
        return self._boxes[size]

    def _measure(self, size: tuple[int, int]) -> Box | None:
        """Show it a ramp from left to right and from top to bottom."""
        pixels = self(Image.fromarray(_draw_ramps(*size)))
        std, mean = torch.tensor(self.std), torch.tensor(self.mean)
        levels = (pixels * std[:, None, None] + mean[:, None, None]) * 255  # (3, h, w)
        across = _read_side(levels[0], size[0])
        down = _read_side(levels[1].T, size[1])
        return (across[0], down[0], across[1], down[1]) if across and down else None


def _draw_ramps(width: int, height: int) -> np.ndarray:
    """Draw a ramp from the left, and in the green one from the top, (H, W, 3) uint8."""
    from_left = _draw_ramp(width, height)
    # Some processors let red and blue change places.
    return np.stack([from_left, _draw_ramp(height, width).T, from_left], -1)


def _draw_ramp(length: int, rows: int) -> np.ndarray:
    """Draw a ramp along the second axis, (rows, length) uint8."""
    columns = np.arange(length)
    # Rounded up or down in turns, the means of the rows have no steps.
    dither = ((5 * columns + 3 * np.arange(8)[:, None]) % 8 + 0.5) / 8
    levels = (_LOW + _RISE * (columns + 0.5) / length + dither).astype(np.uint8)  # (8, length)
    return np.resize(levels, (rows, length))


def _read_side(levels: Tensor, length: int) -> tuple[int, int] | None:
    """Read which part of a side of the image is kept.

    Args:
        levels: (h, w) brightness of what was a ramp along w.
        length: Of the image's side.

    Returns:
        The first pixel and that behind the last one; None where the ramp is not straight.
    """
    if length == 1:
        return 0, 1
    profile = levels.double().mean(0)  # (w,)
    columns = torch.arange(len(profile), dtype=torch.float64) + 0.5
    design = torch.stack([columns, torch.ones_like(columns)], 1)
    edge = int(_EDGE * len(profile))
    inner = slice(edge, len(profile) - edge)
    fit = torch.linalg.lstsq(design[inner], profile[inner, None]).solution  # (2, 1)
    pixel = _RISE / length
    if (levels - (design @ fit)[:, 0]).abs().max() > _STRAIGHT + pixel:
        return None
    slope, start = (float(value) for value in fit[:, 0])
    first = (start - _LOW) / pixel
    last = (start + slope * len(profile) - _LOW) / pixel
    # A pixel for what rounding leaves; beyond it lies padding.
    if last <= first or first < -1 or last > length + 1:
        return None
    return cut_side(length, first, last)
