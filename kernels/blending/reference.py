"""The overlay in plain torch: the kernel's truth, and the CPU's way.

Both round in the same places, so that they agree in every bit. That is why the samples are weighted
here and not by `torch.nn.functional.interpolate`: it fuses some products and sums and not others,
by device and by size, and a value that lies between two colours then falls to the other one, which
may be eight steps of 255 away.
"""

import torch
from torch import Tensor


def overlay(
    images: Tensor, heatmaps: Tensor, table: Tensor, alpha: float, threshold: float, signed: bool
) -> Tensor:
    """Blend coloured heatmaps over images; see `kernels.overlay`.

    Args:
        images: (B, H, W, 3) uint8.
        heatmaps: (B, h, w) floating point.
        table: (256,) int32: the colours as 0xBBGGRR.
        alpha: 0 to 1, a multiple of 2⁻¹⁶: the blend is exact, but for its rounding to a byte.
        threshold: 0 to 1, a float32.
        signed: Whether heatmaps lie in [-1, 1].

    Returns:
        (B, H, W, 3) uint8.
    """
    values = upsample(heatmaps.float(), images.shape[1], images.shape[2])  # (B, H, W)
    values = values.clamp(-1 if signed else 0, 1)
    visible = values.abs() >= threshold  # not where NaN
    steps = (values + 1) * 128 if signed else values * 256
    index = steps.masked_fill(values.isnan(), 0).clamp(max=255).int()  # truncates
    colours = torch.stack([table & 255, table >> 8 & 255, table >> 16], dim=-1).float()
    new = colours.index_select(0, index.flatten()).view(images.shape)
    blended = images.float().lerp_(new, alpha).round_().to(torch.uint8)
    return torch.where(visible.unsqueeze(-1), blended, images)


def upsample(values: Tensor, height: int, width: int) -> Tensor:
    """Interpolate bilinearly between pixel centres, torch's `align_corners=False`.

    Args:
        values: (B, h, w) float32.
        height: H.
        width: W.

    Returns:
        (B, H, W) float32; the values themselves where the size stays.
    """
    if values.shape[1:] == (height, width):
        return values  # interpolation would multiply a neighbouring Inf by 0, which is NaN
    left, right, of_left, of_right = _neighbours(values.shape[2], width, values.device)
    rows = of_left * values.index_select(2, left) + of_right * values.index_select(2, right)
    top, bottom, of_top, of_bottom = _neighbours(values.shape[1], height, values.device)
    of_top, of_bottom = of_top[:, None], of_bottom[:, None]  # (H, 1); rows are (B, h, W)
    return of_top * rows.index_select(1, top) + of_bottom * rows.index_select(1, bottom)


def _neighbours(
    size: int, target: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Find the two samples around each pixel, and their weights."""
    centres = torch.arange(target, dtype=torch.float32, device=device) + 0.5
    position = (centres * (size / target) - 0.5).clamp(min=0)
    low = position.int().clamp(max=size - 1)
    high = (low + 1).clamp(max=size - 1)
    share = position - low
    return low, high, 1 - share, share
