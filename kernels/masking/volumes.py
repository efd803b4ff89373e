"""Mask volumes and clips in plain torch, on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..launch.normalisation import working_dtype
from .reference import STRETCH_EPSILON, along, select_owner

Baseline = float | Tensor | None


def masked_volumes(
    volumes: Tensor,
    masks: Tensor,
    baseline: Baseline,
    *,
    owner: Tensor | None,
    size: Sequence[int],
    shifts: Tensor | None,
    align_corners: bool,
    stretch: bool,
) -> Tensor:
    """Compute baseline + m·(volume - baseline) for each of N masks in three axes.

    Args:
        volumes: (B, C, D, H, W).
        masks: (N, d, h, w) in [0, 1], or bool.
        baseline: None for 0, a number, or a tensor that broadcasts to the volumes.
        owner: (N,) integers, which volume each mask is laid on; None: the only one, or one each.
        size: (D', H', W') that masks are brought to by trilinear interpolation.
        shifts: (N, 3) integers, where in it the volume begins; None: at 0.
        align_corners: As for `kernels.masked_batch`.
        stretch: As for `kernels.masked_batch`.

    Returns:
        (N, C, D, H, W), float32, or float64 for float64 volumes.
    """
    dtype = working_dtype(volumes)
    weights = _upsampled(masks.to(dtype), tuple(size), align_corners, stretch)
    if shifts is not None:
        weights = _window(weights, shifts, volumes.shape[2:])
    selected, exists = select_owner(volumes.to(dtype), owner)
    exists = exists.view(-1, 1, 1, 1) if exists.dim() else exists
    m = weights.where(exists, torch.nan).unsqueeze(1)  # (N, 1, D, H, W)
    batch = m * selected
    if isinstance(baseline, Tensor):
        levels = baseline.to(dtype)
        if levels.dim() == 5 and levels.shape[0] > 1:
            levels, _ = select_owner(levels, owner)
        batch += (1 - m) * levels
    elif baseline:
        batch += (1 - m) * baseline
    return batch


def _upsampled(masks: Tensor, size: tuple[int, ...], align_corners: bool, stretch: bool) -> Tensor:
    """Upsample masks (N, d, h, w) along each axis, and stretch each to [0, 1] if requested."""
    for dim in (3, 2, 1):
        if masks.shape[dim] != size[dim - 1]:
            masks = along(masks, dim, size[dim - 1], align_corners)
    if not stretch:
        return masks
    low, high = masks.amin((1, 2, 3), keepdim=True), masks.amax((1, 2, 3), keepdim=True)
    finite = masks.isfinite().flatten(1).all(1).view(-1, 1, 1, 1)
    return ((masks - low) / (high - low + STRETCH_EPSILON)).where(finite, torch.nan)


def _window(masks: Tensor, shifts: Tensor, size: Sequence[int]) -> Tensor:
    """Cut a volume of a size out of each mask, at separate positions; NaN where it has none."""
    at = shifts.long()  # (N, 3)
    most = at.new_tensor([whole - part for whole, part in zip(masks.shape[1:], size, strict=True)])
    fits = ((at >= 0) & (at <= most)).all(1).view(-1, 1, 1, 1)
    at = at.clamp_min(0).minimum(most)
    index = [
        at[:, axis].view(-1, 1, 1, 1)
        + torch.arange(side, device=masks.device).view(*[-1 if axis == k else 1 for k in range(3)])
        for axis, side in enumerate(size)
    ]
    number = torch.arange(len(masks), device=masks.device).view(-1, 1, 1, 1)
    return masks[number, index[0], index[1], index[2]].where(fits, torch.nan)
