"""Lay a heatmap over a picture."""

from typing import overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cam import kernels
from cam.errors import InputError, require_known
from cam.kernels.blending.reference import upsample


@overload
def overlay(
    image: Image.Image,
    heatmap: Tensor | np.ndarray,
    colormap: str = ...,
    alpha: float = ...,
    percentile: float = ...,
    threshold: float = ...,
    signed: bool = ...,
    fade: bool = ...,
) -> Image.Image: ...
@overload
def overlay(
    image: Tensor | np.ndarray,
    heatmap: Tensor | np.ndarray,
    colormap: str = ...,
    alpha: float = ...,
    percentile: float = ...,
    threshold: float = ...,
    signed: bool = ...,
    fade: bool = ...,
) -> Tensor: ...
def overlay(
    image: Image.Image | Tensor | np.ndarray,
    heatmap: Tensor | np.ndarray,
    colormap: str = "turbo",
    alpha: float = 0.5,
    percentile: float = 100,
    threshold: float = 0,
    signed: bool = False,
    fade: bool = False,
) -> Image.Image | Tensor:
    """Colour a heatmap and blend it over a picture.

    Args:
        image: A PIL image, or uint8 (B, H, W, 3). It must show what the model saw:
            ``model.crop(photo)`` is that part of a photo, at the photo's own resolution.
        heatmap: (h, w) or (1, h, w) for a PIL image, (B, h, w) otherwise, in [0, 1], or in [-1, 1]
            with ``signed``; it is upsampled (bilinear, half-pixel centres) to the picture, which
            stays as it is where the heatmap is NaN.
        colormap: One of matplotlib's names in :data:`kernels.COLORMAPS`; a diverging one, such as
            ``"RdBu_r"``, for a signed heatmap.
        alpha: Opacity of the heatmap, 0 to 1.
        percentile: Where the colours end: each heatmap's value at this percentile takes the last
            one, and so does all above it. 99 shows what a few bright pixels would hide. With
            ``signed`` it is the percentile of the absolute values, and 0 keeps the middle colour.
        threshold: Where the value, after ``percentile``, is below this, the picture stays as it
            is; 0 to 1, and compared with the absolute value with ``signed``.
        signed: Whether the heatmap has two signs: the colours then run from -1 to 1.
        fade: Whether the opacity follows the evidence: ``alpha`` where the value, after
            ``percentile``, is 1 in size, in proportion below, so that what is cold stays exactly
            as photographed.

    Returns:
        A PIL image for a PIL image, else uint8 (B, H, W, 3).

    Raises:
        InputError: Wrong shapes, an unknown colour map, an opacity, percentile or threshold outside
            its range, or a ``signed`` that is neither True nor False.
    """
    if not isinstance(image, Image.Image | Tensor | np.ndarray):
        raise InputError(f"an image is a PIL image or uint8 (B, H, W, 3), not {_kind(image)}")
    if not isinstance(heatmap, Tensor | np.ndarray):
        raise InputError(f"a heatmap is a tensor or an array, not {_kind(heatmap)}")
    if not isinstance(colormap, str):
        raise InputError(f"a colour map is named, not given as {_kind(colormap)}")
    require_known(colormap, kernels.COLORMAPS, "colour map")
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
        sizes = heatmap.abs() if signed else heatmap
        # One by one: torch.quantile takes 16 million values at most.
        ends = torch.stack([size.float().nanquantile(percentile / 100) for size in sizes])
        heatmap = heatmap / ends.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]
    try:
        # Colours alone first where the opacity differs from pixel to pixel.
        blended = kernels.overlay(
            pixels, heatmap, colormap, 1.0 if fade else alpha, threshold, signed
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    if fade:
        blended = _fade(pixels, blended, heatmap, alpha, signed)
    if isinstance(image, Image.Image):
        return Image.fromarray(blended[0].cpu().numpy())
    return blended


def _fade(pixels: Tensor, colours: Tensor, heatmap: Tensor, alpha: float, signed: bool) -> Tensor:
    """Blend colours over images in proportion to the size of the heatmap's values.

    Args:
        pixels: (B, H, W, 3) uint8.
        colours: (B, H, W, 3) uint8, the image where it is to stay.
        heatmap: (B, h, w) floats.
        alpha: Opacity where the value is 1 in size.
        signed: Whether the heatmap has two signs; else what is below 0 counts as 0.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha must lie between 0 and 1, but is {alpha}.")
    values = upsample(heatmap.float(), pixels.shape[1], pixels.shape[2])  # (B, H, W)
    sizes = (values.abs() if signed else values).nan_to_num(0, 1, 0).clamp(0, 1)
    return pixels.float().lerp(colours.float(), alpha * sizes[..., None]).round().to(torch.uint8)


def _kind(value: object) -> str:
    return type(value).__name__
