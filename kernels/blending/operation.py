"""Heatmaps over images: upsample, colour, blend."""

import ctypes
from functools import cache

import torch
from torch import Tensor

from ..launch.argument_checks import check_device, unknown_name
from ..launch.dispatch import backend
from ..launch.launcher_parts import is_real
from ..launch.operators import NAMESPACE, operator
from . import reference
from .colormaps import COLORMAPS, colormap_table

LONGEST_SIDE = 2**30


def overlay(
    images: Tensor,
    heatmaps: Tensor,
    colormap: str = "turbo",
    alpha: float = 0.5,
    threshold: float = 0.0,
    signed: bool = False,
) -> Tensor:
    """Blend coloured heatmaps over images.

    Heatmaps of another size are brought to the images' by bilinear interpolation between pixel
    centres (torch's `align_corners=False`). A value x takes the colour min(⌊256 x⌋, 255), as
    matplotlib does, or with `signed` that of (x + 1) / 2, and

        out = round((1 - alpha) · image + alpha · colour), halves to the even number.

    A value outside the range stands for the nearer end. The image stays as it is where the heatmap
    is NaN, and where a value is below the threshold, with `signed` its absolute value. So 0 hides
    nothing, and 1 all but the ends. Values are float32, and compared with the threshold as float32.

    On a GPU this is one Triton launch that writes the picture and nothing else; elsewhere, and for
    float64, it is plain torch. Both give the same bytes. The first call with a colour map copies
    its table (1 KiB) to the device, so a CUDA graph is to be captured after such a call. The
    result never belongs to an autograd graph.

    Args:
        images: (B, H, W, 3) uint8 RGB. Read in place where contiguous, copied first where not.
        heatmaps: (B, h, w) floating point in [0, 1], or with `signed` in [-1, 1], on the same
            device; read in place by any strides.
        colormap: One of `kernels.COLORMAPS`; for signed heatmaps a diverging one suits, such as
            "RdBu_r".
        alpha: Share of the colour, 0 (only the image) to 1 (only the heatmap), taken to the
            nearest of 65,536 steps.
        threshold: What is smaller is not shown, 0 to 1.
        signed: Whether heatmaps have two signs.

    Returns:
        (B, H, W, 3) uint8 RGB.

    Raises:
        ValueError: A shape, dtype, device, name or number that does not fit; the message says
            which.
    """
    _check(images, heatmaps, colormap)
    _check_options(alpha, threshold, signed)
    with torch.no_grad():
        return _overlay(  # type: ignore[no-any-return]
            images, heatmaps, colormap, float(alpha), float(threshold), signed
        )


@operator("overlay")
def _overlay(
    images: Tensor, heatmaps: Tensor, colormap: str, alpha: float, threshold: float, signed: bool
) -> Tensor:
    table = _table(colormap, heatmaps)
    alpha = round(alpha * 2**16) / 2**16
    # Of a number too small for a float32 the interpreter would make a float64, above every zero.
    threshold = ctypes.c_float(threshold).value
    if backend(heatmaps) == "triton":
        # Imported here, because Triton is not there on every system that has torch.
        from . import launcher

        launch, out = launcher.plan(images, heatmaps, table, alpha, threshold, signed)
        launch.run()
        return out
    return reference.overlay(images, heatmaps, table, alpha, threshold, signed)


def _table(colormap: str, heatmaps: Tensor) -> Tensor:
    """Give the colours as (256,) int32, 0xBBGGRR, on the heatmaps' device."""
    if is_real(heatmaps):
        return _table_on(colormap, heatmaps.device)
    # Being traced: a tensor with memory has no place among those without, nor one without in the
    # cache. The compiled graph asks for the table when it runs.
    return _copy_of_table(colormap, heatmaps)  # type: ignore[no-any-return]


@cache  # as many entries as there are colour maps and devices
def _table_on(colormap: str, device: torch.device) -> Tensor:
    red, green, blue = colormap_table(colormap).int().unbind(1)
    return (red | green << 8 | blue << 16).to(device)


@torch.library.custom_op(f"{NAMESPACE}::colour_table", mutates_args=())
def _copy_of_table(colormap: str, like: Tensor) -> Tensor:
    # A copy: what an operator returns is the caller's, to be overwritten.
    return _table_on(colormap, like.device).clone()


@_copy_of_table.register_fake
def _(colormap: str, like: Tensor) -> Tensor:
    return like.new_empty(256, dtype=torch.int32)


def _check(images: Tensor, heatmaps: Tensor, colormap: str) -> None:
    colours = images.dim() == 4 and images.shape[-1] == 3 and images.dtype == torch.uint8
    maps = heatmaps.dim() == 3 and heatmaps.is_floating_point()
    for tensor, name, kind, fits in (
        (images, "images", "uint8 of shape (B, H, W, 3)", colours),
        (heatmaps, "heatmaps", "floating point of shape (B, h, w)", maps),
    ):
        if not fits:
            raise ValueError(
                f"{name} must be {kind}, but are {tensor.dtype} of shape {tuple(tensor.shape)}."
            )
    if heatmaps.shape[0] != images.shape[0]:
        raise ValueError(
            f"there must be one heatmap an image, but there are {heatmaps.shape[0]} heatmaps "
            f"and {images.shape[0]} images."
        )
    sizes = (*images.shape[:3], *heatmaps.shape)
    if 0 in sizes or max(sizes) > LONGEST_SIDE:
        most = f"may have {LONGEST_SIDE:,} pixels a side"
        raise ValueError(
            f"images and heatmaps {'must hold at least one pixel' if 0 in sizes else most}, but "
            f"have shapes {tuple(images.shape)} and {tuple(heatmaps.shape)}."
        )
    check_device(heatmaps, "heatmaps", images, "images")
    if colormap not in COLORMAPS:
        raise ValueError(unknown_name("colour map", colormap, COLORMAPS))


def _check_options(alpha: float, threshold: float, signed: object) -> None:
    for name, value in (("alpha", alpha), ("threshold", threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie between 0 and 1, but is {value}.")
    if not isinstance(signed, bool):
        raise ValueError(f"signed must be True or False, but is {signed!r}.")
