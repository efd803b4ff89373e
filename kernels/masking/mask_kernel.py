"""The Triton kernel that masks images by coarse or full-size masks."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import single
from .pixel_writing import owner_of, program_pixels, write_pixels
from .upsampling_kernel import PART, mask_at, whole_range


@triton.jit
def masked_batch_kernel(
    p_out,  # (N, C, S), or (N, S, C) where it is channels-last
    p_image,  # (B, C, S), or (B, S, C)
    p_baseline,  # (B or 1, C, S), (B or 1, S, C) or (B or 1, C); or None: baseline_value everywhere
    p_masks,  # (N, h, w), whose stride of N may be 0
    p_owner,  # (N,): which image; or None: n, or the only one
    p_shifts,  # (N, 2): row and column of the window in the upsampled mask; or None
    p_ranges,  # (N, 2, n_parts) float32, or None: masks are taken as they are
    baseline_value,
    images,  # B
    rows,  # h
    columns,  # w
    size_h,  # of the upsampled mask
    size_w,
    scale_h,
    scale_w,
    height,  # of the images
    width,
    runs,  # height·width / RUN
    mask_stride_n,
    KIND: tl.constexpr,  # "cells" or "pixels"
    ALIGN_CORNERS: tl.constexpr,
    ALONG_ROW: tl.constexpr,  # no run passes the end of a row
    LAYOUT: tl.constexpr,  # see `write_pixels`
    TILE: tl.constexpr,  # see `program_pixels`
):
    """Write baseline + m·(image - baseline) for N masks in one pass.

    The masks are those of Score-CAM (Wang et al. 2020) and RISE (Petsiuk et al. 2018). A program
    owns BLOCK pixels of one output: it computes their weights once, in registers, then walks the
    channels. A mask whose image or window does not exist reads nothing, and gives NaN.
    """
    RUN: tl.constexpr = TILE[0]
    baseline_value, scale_h, scale_w = single(baseline_value), single(scale_h), single(scale_w)
    mask, block, b_run, b_step = program_pixels(runs, TILE)
    image, exists = owner_of(p_owner, mask, images)
    p_mask = p_masks + mask * mask_stride_n
    if ALONG_ROW:
        row_runs = width // RUN
        b_row = b_run // row_runs  # (GROUPS, 1)
        b_column = (b_run - b_row * row_runs) * RUN + b_step
    else:
        b_pixel = b_run * RUN + b_step  # (GROUPS, RUN)
        b_row = b_pixel // width
        b_column = b_pixel - b_row * width
    if p_shifts is not None:
        down = tl.load(p_shifts + mask * 2)
        along = tl.load(p_shifts + mask * 2 + 1)
        exists &= (down >= 0) & (down <= size_h - height)
        exists &= (along >= 0) & (along <= size_w - width)
        b_row += down.to(tl.int32)
        b_column += along.to(tl.int32)
    m_read = b_run < tl.where(exists, runs, 0)
    if p_ranges is not None:
        n_parts = tl.cdiv(size_h * size_w, PART)
        low, span = whole_range(p_ranges + mask * 2 * n_parts, n_parts)
    b_weight = mask_at(
        p_mask, b_row, b_column, m_read, rows, columns, scale_h, scale_w, KIND, ALIGN_CORNERS,
        TILE[2],
    )  # fmt: skip
    if p_ranges is not None:
        # Times the reciprocal, then what that left over: as exact as div_rn, which takes ten
        # times the instructions, so that the maximum gives 1.
        span += 1e-8
        inverse = tl.div_rn(1.0, span)
        b_above = b_weight - low
        b_weight = b_above * inverse
        b_weight = tl.fma(tl.fma(-b_weight, span, b_above), inverse, b_weight)
    write_pixels(
        b_weight, exists, mask, block, image, p_out,
        p_image, p_baseline, baseline_value, runs, LAYOUT, TILE,
    )  # fmt: skip
