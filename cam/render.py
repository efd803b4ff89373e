"""A heatmap laid over a picture."""

from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import kernels
from cam.errors import InputError, nearest


@overload
def overlay(
    image: Image.Image,
    heatmap: Tensor | np.ndarray,
    colormap: str = ...,
    alpha: float = ...,
    percentile: float = ...,
) -> Image.Image: ...
@overload
def overlay(
    image: Tensor | np.ndarray,
    heatmap: Tensor | np.ndarray,
    colormap: str = ...,
    alpha: float = ...,
    percentile: float = ...,
) -> Tensor: ...
def overlay(
    image: Image.Image | Tensor | np.ndarray,
    heatmap: Tensor | np.ndarray,
    colormap: str = "turbo",
    alpha: float = 0.5,
    percentile: float = 100,
) -> Image.Image | Tensor:
    """Colour a heatmap and blend it over a picture.

    Args:
        image: A PIL image, or uint8 (B, H, W, 3). It must show what the model saw:
            ``model.crop(photo)`` is that part of a photo, at the photo's own resolution.
        heatmap: (h, w) or (1, h, w) for a PIL image, (B, h, w) otherwise, in [0, 1]; it is
            upsampled (bilinear, half-pixel centres) to the picture.
        colormap: One of matplotlib's names in :data:`kernels.COLORMAPS`.
        alpha: Opacity of the heatmap, 0 to 1.
        percentile: Where the colours end: each heatmap's value at this percentile takes the last
            one, and so does all above it. 99 shows what a few bright pixels would hide.

    Returns:
        A PIL image for a PIL image, else uint8 (B, H, W, 3).

    Raises:
        InputError: Wrong shapes, an unknown colour map or an opacity outside [0, 1].
    """
    if not isinstance(image, Image.Image | Tensor | np.ndarray):
        raise InputError(f"a picture is a PIL image or uint8 (B, H, W, 3), not {_kind(image)}")
    if not isinstance(heatmap, Tensor | np.ndarray):
        raise InputError(f"a heatmap is a tensor or an array, not {_kind(heatmap)}")
    if not isinstance(colormap, str):
        raise InputError(f"a colour map is named, not given as {_kind(colormap)}")
    if colormap not in kernels.COLORMAPS:
        raise InputError(
            f"there is no colour map {colormap!r}; {nearest(colormap, kernels.COLORMAPS)}"
        )
    heatmap = torch.from_numpy(heatmap.copy()) if isinstance(heatmap, np.ndarray) else heatmap
    if isinstance(image, Image.Image):
        pixels = torch.from_numpy(np.array(image.convert("RGB")))[None].to(heatmap.device)
        heatmap = heatmap[None] if heatmap.ndim == 2 else heatmap
    else:
        # A copy of an array: torch takes neither flipped ones nor ones that may not be written.
        pixels = torch.from_numpy(image.copy()) if isinstance(image, np.ndarray) else image
        pixels = pixels.to(heatmap.device)
    if not 0 < percentile <= 100:
        raise InputError(f"percentile must lie above 0 and up to 100, but is {percentile}")
    if percentile < 100 and heatmap.ndim == 3 and heatmap.numel():
        # One by one: torch.quantile takes 16 million values at most.
        ends = torch.stack([one.float().nanquantile(percentile / 100) for one in heatmap])
        heatmap = heatmap / ends.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]
    try:
        blended = kernels.overlay(pixels, heatmap, colormap=colormap, alpha=alpha)
    except ValueError as error:
        raise InputError(str(error)) from None
    if isinstance(image, Image.Image):
        return Image.fromarray(blended[0].cpu().numpy())
    return blended


def _kind(value: object) -> str:
    return type(value).__name__
