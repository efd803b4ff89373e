"""Define what is asked of segmenters: a class in a region."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from cam._targets.class_target import (
    Class,
    ClassTarget,
    find_class,
    refuse_label,
    select_entry,
)
from cam.errors import TargetError

_PIXEL, _BOX = 2, 4
_LISTED = 5


@dataclass(frozen=True, eq=False)
class Segment(ClassTarget):
    """A class of a segmentation, whose output for one image is (classes, h, w).

    The class's logits are added up over pixels. Without a region these are the pixels where no
    other class is higher (Vinogradova et al. 2020, "Towards Interpretable Semantic Segmentation via
    Gradient-weighted Class Activation Mapping", the set M of equation 3). Pixels are chosen on the
    image that is explained, once: what a method hides later does not move them. An output that is
    coarser than the image is enlarged bilinearly where the region is in pixels of the image.

    Attributes:
        target: The class.
        mask: (H, W) bool, where it is asked about, of the input's size or the output's.
        at: The same as numbers, in pixels of the input: x, y for one pixel; x0, y0, x1, y1 for a
            region.
        connected: Whether a pixel stands for the connected region around it where the class wins.
        absent: Whether the class need not win at any of the pixels: why is it not there?
    """

    target: Class
    mask: Tensor | None = None
    at: Sequence[float] | None = None
    connected: bool = False
    absent: bool = False
    laid: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.connected and (self.at is None or len(self.at) != _PIXEL or self.absent):
            raise TargetError("a connected region is that around a pixel, at=(x, y), of its class")
        if self.at is None:
            return
        if self.mask is not None and not self.laid:
            raise TargetError("a segment has a mask or a place, not both")
        object.__setattr__(self, "at", _check_place(self.at))

    def lay_on(self, output: Tensor, size: tuple[int, int] | None = None) -> "Segment":
        """Choose the pixels, by an image's output.

        Args:
            output: (classes, h, w).
            size: (H, W) of the image; None: the output's.

        Raises:
            TargetError: The output is none of a segmenter, or there is nothing to explain there.
        """
        if self.laid:
            return self
        if output.ndim != 3:
            raise TargetError(
                "a segment is asked of an output (classes, H, W) an image, not of shape "
                f"{tuple(output.shape)}"
            )
        index = find_class(self.target, len(output), refuse_label)
        grid = (output.shape[1], output.shape[2])
        wins = find_winners(output.detach()).eq(index)
        size = size or grid
        mask = self.mask if self.at is None else draw_place(self.at, size)
        if mask is None:
            mask = wins
            if not bool(wins.any()):
                raise TargetError(f"there is nothing of class {index} to explain: it wins nowhere")
        if mask.dtype != torch.bool or tuple(mask.shape) not in (grid, size):
            raise TargetError(
                f"a segment's mask must be bool of shape {size}, but is {mask.dtype} of shape "
                f"{tuple(mask.shape)}"
            )
        if not bool(mask.any()):
            raise TargetError(f"there is nothing of class {index} to explain: its mask is empty")
        mask = mask.to(output.device)
        if self.connected:
            mask = _grow(output.detach(), mask, index)
        if not self.absent:
            _require_presence(output.detach(), mask, index)
        return replace(self, mask=mask, laid=True)

    def __call__(self, output: Tensor) -> Tensor:
        """Compute Σ y_A over the pixels."""
        mask = self.lay_on(output).mask
        assert mask is not None
        logits = enlarge(select_entry(output, self.target)[None], mask.shape)[0]
        return (logits * mask.to(logits.device)).sum()


def _require_presence(output: Tensor, mask: Tensor, index: int) -> None:
    """Refuse a class that wins at none of some pixels, and say which do."""
    winners = find_winners(enlarge(output, mask.shape))[mask]
    if bool(winners.eq(index).any()):
        return
    classes, counts = torch.unique(winners[winners >= 0], return_counts=True)
    most = classes[counts.argsort(descending=True)][:_LISTED].tolist()
    there = f"there it is {', '.join(map(str, most))}" if most else "nor does any other"
    raise TargetError(
        f"class {index} wins at no pixel of the region ({there}); ask for what is there, or with "
        "absent=True why it is not"
    )


def _grow(output: Tensor, pixel: Tensor, index: int) -> Tensor:
    """Return the connected region of a class around a pixel; empty where it does not win there."""
    wins = find_winners(enlarge(output, pixel.shape)).eq(index)
    numbers, _ = ndimage.label(wins.cpu().numpy())
    at = pixel.cpu().numpy()
    region = torch.from_numpy((numbers == numbers[at][0]) & (numbers > 0)).to(pixel.device)
    # Nothing of it is there: what is said of the pixel says so.
    return region if bool(region.any()) else pixel


def find_winners(output: Tensor) -> Tensor:
    """Return the class of each pixel, (h, w) int64.

    Args:
        output: (classes, h, w). A single class is there where its logit is positive, and -1
            elsewhere.
    """
    return output.argmax(0) if len(output) > 1 else output[0].gt(0).long() - 1


def enlarge(output: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate (classes, h, w) bilinearly to another size."""
    if tuple(output.shape[1:]) == tuple(size):
        return output
    return functional.interpolate(output[None], tuple(size), mode="bilinear", align_corners=False)[
        0
    ]


def draw_place(region: Sequence[float], size: tuple[int, int]) -> Tensor:
    """Fill a pixel or a box, (H, W) bool.

    Args:
        region: x, y or x0, y0, x1, y1 in pixels.
        size: (H, W).

    Raises:
        TargetError: It lies outside of the image.
    """
    height, width = size
    x0, y0, *ends = region
    # A pixel is a box of its size.
    x1, y1 = ends or (math.floor(x0) + 1, math.floor(y0) + 1)
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise TargetError(
            f"the place {', '.join(f'{side:g}' for side in region)} lies outside of the image of "
            f"{width} × {height} pixels; give x, y or x0, y0, x1, y1 in pixels of the input"
        )
    mask = torch.zeros(size, dtype=torch.bool)
    # Of a box also those pixels of which it has a part.
    rows = slice(max(math.floor(y0), 0), math.ceil(y1))
    mask[rows, max(math.floor(x0), 0) : math.ceil(x1)] = True
    return mask


def _check_place(region: Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(float(side) for side in region)
    box = len(numbers) == _BOX and numbers[0] < numbers[2] and numbers[1] < numbers[3]
    if not (box or len(numbers) == _PIXEL) or not all(map(math.isfinite, numbers)):
        raise TargetError(
            "a segment's place is x, y, or x0, y0, x1, y1 with x0 < x1 and y0 < y1, but was given "
            f"as {list(numbers)}"
        )
    return numbers
