"""Choose the launch that blends heatmaps over images."""

import torch
import triton
from torch import Tensor

from ..launch.launcher_parts import INT32_LIMIT, Launch
from .overlay_kernel import PIXELS, overlay_kernel

NUM_WARPS = 4
TAIL = 16  # at most 15 bytes are left over after the last whole vector


def reciprocal(divisor: int) -> tuple[int, int]:
    """Find the multiplier and shift with which `divide` divides.

    ⌊n / d⌋ = ⌊2 n · m / 2^(32 + s)⌋ for 0 ≤ n < 2³¹, with s = ⌈log₂ d⌉ and
    m = ⌈2^(31 + s) / d⌉ < 2³², after Granlund and Montgomery 1994, "Division by Invariant Integers
    using Multiplication", theorem 4.2. The multiplier is given as the int32 of the same bits.
    """
    shift = (divisor - 1).bit_length()
    multiplier = -(-(1 << (31 + shift)) // divisor)
    return multiplier - (1 << 32 if multiplier >= 1 << 31 else 0), shift


def plan(
    images: Tensor, heatmaps: Tensor, table: Tensor, alpha: float, threshold: float, signed: bool
) -> tuple[Launch, Tensor]:
    """Choose the launch for checked tensors and allocate what it writes.

    Args:
        images: (B, H, W, 3) uint8; copied where it is not contiguous.
        heatmaps: (B, h, w) float32, float16 or bfloat16, by any strides.
        table: (256,) int32: the colours as 0xBBGGRR.
        alpha: 0 to 1, a multiple of 2⁻¹⁶.
        threshold: 0 to 1; compared as a float32.
        signed: Whether heatmaps lie in [-1, 1].

    Returns:
        The launch, not yet run, and what it will fill: (B, H, W, 3) uint8.
    """
    # Numbers also where a compiler would keep sizes open: the reciprocals are made for a size.
    batch, height, width, heat_height, heat_width = (
        images.shape[0], *map(int, images.shape[1:3]), *map(int, heatmaps.shape[1:])
    )  # fmt: skip
    out = torch.empty((batch, height, width, 3), dtype=torch.uint8, device=images.device)
    images = images.contiguous()
    pixels = batch * height * width
    programs = triton.cdiv(pixels, PIXELS.value)
    same = (heat_height, heat_width) == (height, width)
    tail = 3 * pixels % 16
    painted = programs * PIXELS.value + (TAIL if tail else 0)
    launch = Launch(
        kernel=overlay_kernel,
        grid=(programs,),
        arguments={
            "p_images": images,
            "p_heatmaps": heatmaps,
            "p_table": table,
            "p_out": out,
            "pixels": pixels,
            **_axis("width", width, heat_width, heatmaps.stride(2)),
            **_axis("height", height, heat_height, heatmaps.stride(1)),
            "stride_b": heatmaps.stride(0),
            "alpha": alpha,
            "threshold": threshold,
            "SAME": same,
            "QUADS": width % 4 == 0,
            "SIGNED": signed,
            "HAS_TAIL": bool(tail > 0),
            "INT64": bool(pixels >= INT32_LIMIT),
        },
        num_warps=NUM_WARPS,
        reads={
            "p_images": 3 * pixels,
            "p_heatmaps": heatmaps.element_size() * (1 if same else 4) * painted,
            "p_table": 4 * painted,
        },
        writes={"p_out": 3 * pixels},
        scratch=("p_table",),
    )
    return launch, out


def _axis(name: str, size: int, samples: int, stride: int) -> dict[str, float]:
    """List what the kernel takes of one axis."""
    multiplier, shift = reciprocal(size)
    return {
        name: size,
        f"{name}_multiplier": multiplier,
        f"{name}_shift": shift,
        f"{name}_samples": samples,
        f"{name}_scale": samples / size,
        f"{name}_stride": stride,
    }
