"""Extremal perturbation: the area of given size that keeps the score highest."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from cam import kernels
from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import promote
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.path_gradients import blur
from cam.parameters import fractions, integer, number
from cam.types import Maps, resize

# The smooth maximum's temperature.
_TEMPERATURE = 1 / 20
# How much the area counts beside a score of 1, at the first step and at the last.
_AREA_WEIGHTS = (1.0, 300.0)
_RATE = 0.05
# Without passes, where the search leaves a mask of another area.
_SETTLING_STEPS = 400
_FOLLOWING = 0.1
# How far the share of the picture above one half may be from the area, relative to it.
_AREA_ERROR = 0.1
# Pixels.
_SMOOTHEST = 10_000.0
_BLUR = 20.0


@register_method(
    "extremal_perturbation",
    rules={
        "areas": fractions(growing=False),
        "steps": integer(1),
        "cell": integer(1),
        "smoothness": number(above=0, most=_SMOOTHEST),
    },
    agreement=lambda smoothness, cell, **_: (
        f"smoothness must be at least its cell, {cell}, but is {smoothness!r}"
        if smoothness < cell
        else None
    ),
    title="Extremal perturbation",
    family="perturbation",
    kind="evidence",
    reads=Pixels,
    cost="2 forwards, and a forward and a backward for each step and area: 3 × 100 by default",
)
def extremal_perturbation(
    pixels: Pixels,
    passes: Passes,
    *,
    areas: Sequence[float] = (0.05, 0.1, 0.2),
    steps: int = 100,
    cell: int = 7,
    smoothness: float = 21.0,
) -> Maps:
    """Which part of the image, of a few given sizes, is enough for the score.

    For each area a a mask m is sought that maximises y(m ⊙ x + (1 - m) ⊙ x') - λ R_a(m), with x'
    the image blurred by 20 pixels, y measured from x' (0) to x (1), and R_a the mean of
    (sort(m) - r_a)², where r_a is 1 for the largest share a of the values and 0 for the others.
    λ grows from 1 to 300, and where the mask is above one half on more or less than the share a of
    the image by 5 % of a, R_a alone goes on, without passes, its a moved until that fits. An
    attribution's notes say where more than 10 % are left. map = mean of m over the areas.

    A mask is a grid of cells with values p in [0, 1], of which each place takes the smooth maximum
    Σ f exp(20 f) / Σ exp(20 f) of f = k p over the cells around it, with k = exp(-2 max(0, d - ½)²)
    and d their distance in units of the smoothness; that grid is brought to the image's size by
    bilinear interpolation. It is sought by Adam, from where the gradient by the mask is largest.

    All images and areas share batches, so rounding may differ with the batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype, and their scores (B,).
        passes: Where the images go.
        areas: Shares of the image, above 0 and below 1.
        steps: Of the search.
        cell: Pixels along the side of a cell of the grid.
        smoothness: Pixels over which the mask cannot change quickly; at least a cell, and up to
            10,000.

    Returns:
        Maps (B, H, W) float32 in [0, 1].

    Raises:
        MethodError: A parameter is out of range.

    References:
        Fong, Patrick and Vedaldi, Understanding Deep Networks via Extremal Perturbations and Smooth
        Masks, ICCV 2019, section 3; profile of the masks as in the authors' TorchRay
    """
    inputs = pixels.inputs
    count = len(inputs)
    pictures = promote(inputs)
    blurred = blur(pictures, _BLUR)
    passes.expect(count * (1 + (steps + 1) * len(areas)))
    blank = passes.scores(blurred.to(inputs.dtype))
    range_ = (pixels.scores - blank).to(pictures.dtype).abs()
    masks = _Masks(inputs.shape[2:], cell, smoothness / cell, pictures)
    # (M,) all areas of an image, then the next
    owner = torch.arange(count, device=inputs.device).repeat_interleave(len(areas))
    area = pictures.new_tensor(areas).repeat(count)

    def slopes(mask: Tensor) -> Tensor:
        """Compute the gradient of the relative score by masks (M, H, W)."""
        parts = []
        for part in passes.chunks(len(owner)):
            images = owner[part]
            differences = pictures[images] - blurred[images]
            mixed = blurred[images] + mask[part, None] * differences
            _, gradients = passes.gradients(mixed.to(inputs.dtype), images)
            parts.append((gradients * differences).sum(1))
        scale = torch.where(range_ > 0, range_, 1)[owner, None, None]
        return torch.cat(parts) / scale

    def show(cells: Tensor) -> Maps:
        """Average the masks over the areas of an image."""
        mask = masks.full(masks.smooth(cells.detach()))
        raw = mask.view(count, len(areas), *inputs.shape[2:]).mean(1).float()
        return Maps(raw=raw, normalised=kernels.normalise(raw))

    with torch.enable_grad():
        cells = pictures.new_full((len(owner), *masks.grid), 0.5).requires_grad_()
        # Where all cells are equal the sorting of the area would choose by their order.
        half = cells.new_full((len(cells), *inputs.shape[2:]), 0.5)
        mask = masks.full(masks.smooth(cells))
        (first,) = torch.autograd.grad(mask, cells, slopes(half))
        largest = first.abs().amax((1, 2), keepdim=True)
        cells.data += 0.5 * first / torch.where(largest > 0, largest, 1)
        search = torch.optim.Adam([cells], lr=_RATE)
        for step in range(steps):
            weight = _AREA_WEIGHTS[0] * (_AREA_WEIGHTS[1] / _AREA_WEIGHTS[0]) ** (step / steps)
            mask = masks.full(masks.smooth(cells))
            reward = (mask * slopes(mask.detach())).sum()
            (cells.grad,) = torch.autograd.grad(weight * _excess(mask, area) - reward, cells)
            search.step()
            cells.data.clamp_(0, 1)
            passes.tell(partial(show, cells))
        shares = _settle(masks, cells, area)
        maps = show(cells)
    passes.tell(lambda: maps)
    remarks = [
        (
            image,
            f"the mask of area {area_:g} covers {share:.3f} of the image above one half; "
            "a smaller smoothness or more steps bring it nearer",
        )
        for image, row in enumerate(shares.view(count, len(areas)).tolist())
        for area_, share in zip(areas, row, strict=True)
        if abs(share - area_) > _AREA_ERROR * area_
    ]
    return replace(maps, remarks=tuple(remarks))


def _settle(masks: "_Masks", cells: Tensor, area: Tensor) -> Tensor:
    """Bring masks to their areas by R_a alone, without passes, where the search has not.

    A smooth mask that is nearest to a binary one of area a need not be above one half on a itself,
    so the area that R_a asks for follows what is missing.

    Args:
        masks: Makes them of cells.
        cells: (M, h, w), changed in place; those of a mask with its area stay.
        area: (M,).

    Returns:
        (M,) the share of each picture where its mask is above one half.
    """
    search, goal = torch.optim.Adam([cells], lr=_RATE / 2), area.clone()
    for _ in range(_SETTLING_STEPS):
        mask = masks.full(masks.smooth(cells))
        shares = (mask.detach() > 0.5).flatten(1).double().mean(1)
        away = (shares - area).abs() > _AREA_ERROR / 2 * area
        if not bool(away.any()):
            return shares
        goal = (goal + _FOLLOWING * (area - shares)).clamp(0, 1).to(area.dtype)
        before = cells.detach().clone()
        (cells.grad,) = torch.autograd.grad(_AREA_WEIGHTS[1] * _excess(mask, goal), cells)
        search.step()
        cells.data.clamp_(0, 1)
        cells.data = torch.where(away[:, None, None], cells.data, before)
    mask = masks.full(masks.smooth(cells.detach()))
    return (mask > 0.5).flatten(1).double().mean(1)


class _Masks:
    """Turns cells (M, h, w) into smooth masks, on the same grid or at the picture's size."""

    def __init__(self, size: Sequence[int], cell: int, width: float, like: Tensor) -> None:
        self._size = (size[0], size[1])
        self.grid = tuple(-(-side // cell) for side in size)
        # Beyond twice the width the profile is below 1 %.
        self._reach = math.ceil(2 * width)
        at = torch.arange(-self._reach, self._reach + 1).to(like)
        distance = (at[:, None] ** 2 + at**2).sqrt() / width
        self._profile = torch.exp(-2 * (distance - 0.5).clamp(min=0) ** 2).flatten()  # (K,)

    def smooth(self, cells: Tensor) -> Tensor:
        """Take the smooth maximum over the cells around each, weighted by distance."""
        around = functional.unfold(cells[:, None], 2 * self._reach + 1, padding=self._reach)
        weighted = around * self._profile[:, None]  # (M, K, h·w)
        smoothed = (weighted * (weighted / _TEMPERATURE).softmax(1)).sum(1)
        return smoothed.view_as(cells)

    def full(self, coarse: Tensor) -> Tensor:
        """Interpolate to the picture's size, (M, H, W)."""
        return resize(coarse, self._size)


def _excess(mask: Tensor, area: Tensor) -> Tensor:
    """Compute R_a, the distance of masks from binary ones."""
    values = mask.flatten(1).sort(1, descending=True).values
    rank = (torch.arange(values.shape[1], device=values.device) + 0.5) / values.shape[1]
    ideal = (rank < area[:, None]).to(values.dtype)
    return ((values - ideal) ** 2).mean(1).sum()
