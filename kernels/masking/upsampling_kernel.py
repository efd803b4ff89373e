"""Upsample masks in registers, and find their ranges."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl

from ..launch.launcher_parts import INT32_LIMIT, Launch
from ..launch.tiles import single, widen
from .reference import Weights

PART = tl.constexpr(8192)  # pixels of an upsampled mask whose range one program finds
BLOCK = tl.constexpr(512)  # of them at a time
BLOCK_P = tl.constexpr(128)  # partial ranges that are read at a time
NUM_WARPS = 4
# Elements of a mask that are loaded for one pixel.
LOADS = {"cells": 4, "pixels": 1}


@triton.jit
def between(b_at, scale, cells, ALIGN_CORNERS: tl.constexpr):
    """Locate a position of the upsampled mask between two cells.

    Each `fma` here and below is spelt out, so that the compiler fuses nothing more and both
    kernels round alike: the highest value that one finds is the highest that the other sees.
    """
    if ALIGN_CORNERS:
        b_source = tl.fma(b_at.to(tl.float32), scale, 0.0)
    else:
        b_source = tl.maximum(tl.fma(b_at.to(tl.float32) + 0.5, scale, -0.5), 0.0)
    b_first = tl.minimum(b_source.to(tl.int32), cells - 1)
    return b_first, tl.minimum(b_first + 1, cells - 1), b_source - b_first.to(tl.float32)


@triton.jit
def mask_at(
    p_mask, b_row, b_column, m_pixel, rows, columns, scale_h, scale_w, KIND: tl.constexpr,
    ALIGN_CORNERS: tl.constexpr, INT64: tl.constexpr,
):  # fmt: skip
    """Evaluate a mask at positions of its upsampled self.

    It is bilinear, or taken as it is ("pixels").
    """
    if KIND == "pixels":
        p_value = p_mask + widen(b_row, INT64) * columns + b_column
        return tl.load(p_value, mask=m_pixel, other=0).to(tl.float32)
    b_top, b_bottom, b_down = between(b_row, scale_h, rows, ALIGN_CORNERS)
    b_left, b_right, b_along = between(b_column, scale_w, columns, ALIGN_CORNERS)
    p_top = p_mask + widen(b_top, INT64) * columns
    p_bottom = p_mask + widen(b_bottom, INT64) * columns
    b_00 = tl.load(p_top + b_left, mask=m_pixel, other=0).to(tl.float32)
    b_01 = tl.load(p_top + b_right, mask=m_pixel, other=0).to(tl.float32)
    b_10 = tl.load(p_bottom + b_left, mask=m_pixel, other=0).to(tl.float32)
    b_11 = tl.load(p_bottom + b_right, mask=m_pixel, other=0).to(tl.float32)
    b_upper = tl.fma(b_along, b_01 - b_00, b_00)
    b_lower = tl.fma(b_along, b_11 - b_10, b_10)
    return tl.fma(b_down, b_lower - b_upper, b_upper)


@triton.jit
def mask_range_kernel(
    p_masks,  # (N, h, w), whose stride of N may be 0
    p_ranges,  # (N, 2, n_parts) float32: lowest and highest of each part, or NaN for the lowest
    rows,
    columns,
    size_w,  # of the upsampled mask
    size_pixels,
    scale_h,
    scale_w,
    mask_stride_n,
    KIND: tl.constexpr,  # "cells" or "pixels"
    ALIGN_CORNERS: tl.constexpr,
    INT64: tl.constexpr,  # offsets inside a mask pass 31 bits
):
    """Find the lowest and highest value of upsampled masks without storing them.

    A program takes PART pixels of one upsampled mask. Lowest and highest do not depend on the
    order in which the parts are put together, so the result has the same bits every time.
    """
    scale_h, scale_w = single(scale_h), single(scale_w)
    n_parts = tl.cdiv(size_pixels, PART)
    mask = (tl.program_id(0) // n_parts).to(tl.int64)
    part = tl.program_id(0) % n_parts
    p_mask = p_masks + mask * mask_stride_n
    b_low = tl.full((BLOCK,), float("inf"), tl.float32)
    b_high = tl.full((BLOCK,), float("-inf"), tl.float32)
    for first in range(0, tl.minimum(size_pixels - part * PART, PART), BLOCK):
        b_pixel = part * PART + first + tl.arange(0, BLOCK)
        m_pixel = b_pixel < size_pixels
        b_value = mask_at(
            p_mask, b_pixel // size_w, b_pixel % size_w, m_pixel, rows, columns, scale_h, scale_w,
            KIND, ALIGN_CORNERS, INT64,
        )  # fmt: skip
        b_lower = tl.minimum(b_low, b_value, propagate_nan=tl.PropagateNan.ALL)
        b_higher = tl.maximum(b_high, b_value, propagate_nan=tl.PropagateNan.ALL)
        b_low = tl.where(m_pixel, b_lower, b_low)
        b_high = tl.where(m_pixel, b_higher, b_high)
    low = tl.min(b_low, axis=0)
    high = tl.max(b_high, axis=0)
    # The reductions drop NaN, which must be reported.
    n_bad = tl.sum((b_low != b_low).to(tl.int32), axis=0)
    if (n_bad > 0) | (low == float("-inf")) | (high == float("inf")):
        low = float("nan")
    tl.store(p_ranges + mask * 2 * n_parts + part, low)
    tl.store(p_ranges + (mask * 2 + 1) * n_parts + part, high)


@triton.jit
def whole_range(p_ranges, n_parts):
    """Combine partial ranges to lowest value and span, NaN if not finite."""
    low = float("inf")
    high = float("-inf")
    n_bad = 0
    for first in range(0, n_parts, BLOCK_P):
        b_part = first + tl.arange(0, BLOCK_P)
        m_part = b_part < n_parts
        b_low = tl.load(p_ranges + b_part, mask=m_part, other=float("inf"))
        b_high = tl.load(p_ranges + n_parts + b_part, mask=m_part, other=float("-inf"))
        low = tl.minimum(low, tl.min(b_low, axis=0))
        high = tl.maximum(high, tl.max(b_high, axis=0))
        n_bad += tl.sum((b_low != b_low).to(tl.int32), axis=0)
    return tl.where(n_bad > 0, float("nan"), low), high - low


def plan_ranges(weights: Weights) -> Launch:
    """Choose the launch that finds the range of each upsampled mask.

    Args:
        weights: Of the kind "masks", N of them, each in one piece.

    Returns:
        The launch, not yet run; its argument `p_ranges`, (N, 2, parts), is what it will fill.
    """
    masks, count = weights.values, len(weights.values)
    pixels = weights.size[0] * weights.size[1]
    n_parts = triton.cdiv(pixels, PART.value)
    arguments = mask_arguments(weights)
    return Launch(
        kernel=mask_range_kernel,
        grid=(count * n_parts,),
        arguments={
            "p_ranges": torch.empty((count, 2, n_parts), device=masks.device),
            **arguments,
            "size_pixels": pixels,
            "INT64": masks[0].numel() >= INT32_LIMIT,
        },
        num_warps=NUM_WARPS,
        reads={"p_masks": count * LOADS[arguments["KIND"]] * pixels * masks.element_size()},
        writes={"p_ranges": count * 2 * n_parts * 4},
        scratch=("p_ranges",),
    )


def mask_arguments(weights: Weights) -> dict[str, Any]:
    """Describe masks to either kernel."""
    values = weights.values
    rows, columns = values.shape[1:]
    scale = [
        (cells - 1) / max(size - 1, 1) if weights.align_corners else cells / max(size, 1)
        for cells, size in zip((rows, columns), weights.size, strict=True)
    ]
    return {
        "p_masks": values,
        "rows": rows,
        "columns": columns,
        "size_w": weights.size[1],
        "scale_h": scale[0],
        "scale_w": scale[1],
        "mask_stride_n": values.stride(0),
        "KIND": "pixels" if (rows, columns) == weights.size else "cells",
        "ALIGN_CORNERS": weights.align_corners,
    }
