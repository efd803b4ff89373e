"""Heatmaps over images: upsample, colour, blend."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kernels.colormaps import colormap_table


def overlay(
    images: Tensor, heatmaps: Tensor, colormap: str = "turbo", alpha: float = 0.5
) -> Tensor:
    """Blend coloured heatmaps over images.

    Heatmaps of another size are brought to the images' by bilinear interpolation between pixel
    centres (`align_corners=False`). A value x takes the colour min(⌊256 x⌋, 255), as matplotlib
    does, and out = round((1 - alpha) · image + alpha · colour), halves to the even number. Where a
    heatmap is NaN the image stays as it is. There is no Triton kernel for this yet: it is plain
    torch, on the tensors' device.

    Args:
        images: (B, H, W, 3) uint8 RGB.
        heatmaps: (B, h, w) floating point in [0, 1], on the same device; what lies outside takes
            the colour of the nearer end.
        colormap: One of `kernels.COLORMAPS`.
        alpha: Share of the colour, 0 (only the image) to 1 (only the heatmap).

    Returns:
        (B, H, W, 3) uint8 RGB.

    Raises:
        ValueError: A shape, dtype, device, name or alpha that does not fit; the message says which.
    """
    _check(images, heatmaps, alpha)
    table = colormap_table(colormap).to(images.device)
    with torch.no_grad():
        values = heatmaps.float()  # (B, h, w)
        if values.shape[1:] != images.shape[1:3]:
            size = (images.shape[1], images.shape[2])
            values = interpolate(
                values.unsqueeze(1), size=size, mode="bilinear", align_corners=False
            ).squeeze(1)  # (B, H, W)
        unknown = values.isnan()
        index = (values.masked_fill(unknown, 0) * 256).clamp(0, 255).int()  # truncates
        colour = table[index].float()  # (B, H, W, 3)
        blended = ((1 - alpha) * images.float() + alpha * colour).round().to(torch.uint8)
        return torch.where(unknown.unsqueeze(-1), images, blended)


def _check(images: Tensor, heatmaps: Tensor, alpha: float) -> None:
    if images.dim() != 4 or images.shape[-1] != 3 or images.dtype != torch.uint8:
        raise ValueError(
            f"images must be uint8 of shape (B, H, W, 3), but are {images.dtype} of shape "
            f"{tuple(images.shape)}."
        )
    if heatmaps.dim() != 3 or not heatmaps.is_floating_point():
        raise ValueError(
            "heatmaps must be floating point of shape (B, h, w), but are "
            f"{heatmaps.dtype} of shape {tuple(heatmaps.shape)}."
        )
    if heatmaps.shape[0] != images.shape[0]:
        raise ValueError(
            f"there must be one heatmap an image, but there are {heatmaps.shape[0]} heatmaps "
            f"and {images.shape[0]} images."
        )
    if 0 in images.shape or 0 in heatmaps.shape:
        raise ValueError(
            "images and heatmaps must hold at least one pixel, but have shapes "
            f"{tuple(images.shape)} and {tuple(heatmaps.shape)}."
        )
    if heatmaps.device != images.device:
        raise ValueError(
            f"heatmaps must be on the device of the images, {images.device}, "
            f"but are on {heatmaps.device}."
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 and 1, but is {alpha}.")
