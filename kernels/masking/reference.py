"""Masked batches in plain torch: the kernel's truth, and the CPU's way.

Every function here takes checked arguments. float64 images are computed in float64, all others in
float32. Unlike the kernel, these functions hold the upsampled masks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..launch.normalisation import working_dtype

STRETCH_EPSILON = 1e-8  # as pytorch-grad-cam's ScoreCAM


class Weights(NamedTuple):
    """What the weight of each pixel in N outputs is computed from."""

    kind: str  # "masks", "regions" or "ranks"
    values: Tensor  # masks (N, h, w), weights of regions (N, R), or counts of ranks (N,)
    labels: Tensor | None = None  # (K, H, W): regions or ranks
    label_owner: Tensor | None = None  # (N,); None: the only one, or one each
    size: tuple[int, int] = (0, 0)  # of the upsampled masks
    shifts: Tensor | None = None  # (N, 2): row and column of the window
    align_corners: bool = False
    stretch: bool = False
    insert: bool = False


class Picture(NamedTuple):
    """Images, and the baseline that is seen where the weight is 0."""

    image: Tensor  # (B, C, H, W)
    owner: Tensor | None  # (N,); None: the only one, or one each
    baseline: Tensor | None  # (B or 1, C, H, W), perhaps expanded; None: `value` everywhere
    value: float


def masked_batch(picture: Picture, weights: Weights) -> Tensor:
    """Compute baseline + m·(image - baseline) for each of the N weights.

    Args:
        picture: The images and their baseline.
        weights: Where m comes from.

    Returns:
        (N, C, H, W), float32, or float64 for float64 images.
    """
    dtype = working_dtype(picture.image)
    image, exists = select_owner(picture.image.to(dtype), picture.owner)  # (N or 1, C, H, W)
    height, width = image.shape[2:]
    m = _weight(weights, dtype, height, width).where(exists, torch.nan).unsqueeze(1)  # (N, 1, H, W)
    # Exact at both ends, and m·image exactly where there is no baseline.
    batch = m * image
    if picture.baseline is not None:
        baseline = picture.baseline.to(dtype)
        if baseline.shape[0] > 1:
            baseline, _ = select_owner(baseline, picture.owner)
        batch += (1 - m) * baseline
    elif picture.value:
        batch += (1 - m) * picture.value
    return batch


def upsampled(masks: Tensor, size: tuple[int, int], align_corners: bool, stretch: bool) -> Tensor:
    """Upsample masks bilinearly, and stretch each to [0, 1] if requested.

    Args:
        masks: (N, h, w), float32 or float64.
        size: (H, W); masks that have it stay as they are.
        align_corners: Whether the centres of the corner cells lie on those of the corner pixels;
            otherwise cells and pixels cover the same area.
        stretch: Whether each upsampled mask passes (m - min) / (max - min + 1e-8). A mask that is
            the same everywhere gives zeros; one that is not finite everywhere, NaN everywhere.

    Returns:
        (N, H, W).
    """
    if tuple(masks.shape[1:]) != size:
        masks = along(masks, 2, size[1], align_corners)  # (N, h, W)
        masks = along(masks, 1, size[0], align_corners)  # (N, H, W)
    if not stretch:
        return masks
    low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    finite = masks.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    return ((masks - low) / (high - low + STRETCH_EPSILON)).where(finite, torch.nan)


def along(masks: Tensor, dim: int, size: int, align_corners: bool) -> Tensor:
    """Interpolate masks (N, …) along one dimension.

    Between two equal cells there is exactly their value. With torch's `interpolate` there is not,
    and `stretch` would make a full range out of the difference.
    """
    cells = masks.shape[dim]
    at = torch.arange(size, dtype=masks.dtype, device=masks.device)
    if align_corners:
        source = at * ((cells - 1) / max(size - 1, 1))
    else:
        source = ((at + 0.5) * (cells / size) - 0.5).clamp_min(0)
    first = source.long().clamp_max(cells - 1)
    share = (source - first).view(-1, *(1,) * (masks.dim() - 1 - dim))
    near = masks.index_select(dim, first)
    return near + share * (masks.index_select(dim, (first + 1).clamp_max(cells - 1)) - near)


def _weight(weights: Weights, dtype: torch.dtype, height: int, width: int) -> Tensor:
    """Compute each pixel's weight (N, H, W); NaN where something points nowhere."""
    if weights.labels is None:
        masks = upsampled(
            weights.values.to(dtype), weights.size, weights.align_corners, weights.stretch
        )
        return masks if weights.shifts is None else _window(masks, weights.shifts, height, width)
    labels, exists = select_owner(weights.labels, weights.label_owner)  # (N or 1, H, W)
    if weights.kind == "ranks":
        image_part = (labels >= weights.values.view(-1, 1, 1)) != weights.insert
        return image_part.to(dtype).where(exists, torch.nan)
    count, regions = weights.values.shape
    exists = exists & (labels >= 0) & (labels < regions)
    index = labels.long().clamp(0, regions - 1).flatten(1).expand(count, -1)  # (N, H·W)
    values = weights.values.to(dtype).gather(1, index)
    return values.view(count, height, width).where(exists, torch.nan)


def _window(masks: Tensor, shifts: Tensor, height: int, width: int) -> Tensor:
    """Cut (height, width) out of each mask, at separate positions."""
    down, along = shifts.long().view(-1, 2, 1, 1).unbind(1)  # (N, 1, 1)
    most_down, most_along = masks.shape[1] - height, masks.shape[2] - width
    fits = (down >= 0) & (down <= most_down) & (along >= 0) & (along <= most_along)
    row = down.clamp(0, most_down) + torch.arange(height, device=masks.device).view(1, -1, 1)
    column = along.clamp(0, most_along) + torch.arange(width, device=masks.device)
    number = torch.arange(masks.shape[0], device=masks.device).view(-1, 1, 1)
    return masks[number, row, column].where(fits, torch.nan)


def select_owner(tensor: Tensor, owner: Tensor | None) -> tuple[Tensor, Tensor]:
    """Select what each of N outputs is made from.

    Says also which of them exist, (N, 1, 1) or ().
    """
    if owner is None:
        return tensor, torch.ones((), dtype=torch.bool, device=tensor.device)
    exists = (owner >= 0) & (owner < tensor.shape[0])
    return tensor[owner.long().clamp(0, tensor.shape[0] - 1)], exists.view(-1, 1, 1)
