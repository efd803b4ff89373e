"""The Triton kernels that write a batch of masked images, and their launcher."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.launcher_parts import INT32_LIMIT, Launch, Planes, planes
from .reference import Picture, Weights
from .upsampling_kernel import LOADS, mask_arguments, mask_at, plan_ranges, reach, whole_range

STORE_BYTES = 16  # the widest store there is
NUM_WARPS = 4
# A program writes 2 KiB of each channel, which is one store of 16 bytes for each thread: 512 pixels
# of float32, 1024 of 16 bits.
PROGRAM_BYTES = 32 * NUM_WARPS * STORE_BYTES
# For images that lie in the other order than a contiguous batch, whose every element is loaded by
# itself, the compiler would take up to 72: fewer programs would share a core, and nothing gained.
MAX_REGISTERS = 64
BLOCK_P = 128  # partial ranges that are read at a time


@triton.jit
def masked_batch_kernel(
    p_out,  # (N, C, S), or (N, S, C) where CHANNELS_LAST
    p_image,  # (B, C, S) by strides
    p_baseline,  # (B, C, S) by strides, some of them 0; or None: baseline_value everywhere
    p_masks,  # (N, h, w), (N, R) or (N,) by strides: masks, weights of regions, counts
    p_labels,  # (K, S) by strides: regions or ranks; or None
    p_owner,  # (N,): which image; or None: n, whose stride may be 0
    p_label_owner,  # (N,): which labels; or None: n, whose stride may be 0
    p_shifts,  # (N, 2): row and column of the window in the upsampled mask; or None
    p_ranges,  # (N, 2, n_parts) float32, or None: masks are taken as they are
    baseline_value,
    images,  # B
    maps,  # K
    rows,  # h
    columns,  # w, or R
    size_h,  # of the upsampled mask
    size_w,
    scale_h,
    scale_w,
    n_parts,
    height,  # of the images
    width,
    runs,  # height·width / RUN
    image_stride_b,
    image_stride_c,
    image_stride_s,
    baseline_stride_b,
    baseline_stride_c,
    baseline_stride_s,
    mask_stride_n,
    mask_stride_h,
    mask_stride_w,
    label_stride_b,
    label_stride_s,
    KIND: tl.constexpr,  # "cells", "pixels", "regions" or "ranks"
    ONE_COLOUR: tl.constexpr,  # the baseline is the same for all pixels
    CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,  # of the batch that is written
    IMAGE_FLAT: tl.constexpr,  # the image's memory has the order of the channels-last batch
    BASELINE_FLAT: tl.constexpr,
    ALIGN_CORNERS: tl.constexpr,
    INSERT: tl.constexpr,  # keep the ranks below the count, not those from it on
    ALONG_ROW: tl.constexpr,  # no run passes the end of a row
    RUN: tl.constexpr,  # pixels in a store of 16 bytes
    BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr,
    INT64: tl.constexpr,  # offsets inside one image, mask or label map pass 31 bits
):
    """Write baseline + m·(image - baseline) for N masks in one pass.

    The masks are those of Score-CAM (Wang et al. 2020), RISE (Petsiuk et al. 2018), LIME and
    KernelSHAP (regions), and of deletion and insertion (ranks). A program owns BLOCK pixels of one
    output: it computes their weights once, in registers, then walks the channels.
    """
    GROUPS: tl.constexpr = BLOCK // RUN
    n_blocks = tl.cdiv(runs, GROUPS)
    mask = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    b_run = block * GROUPS + tl.arange(0, GROUPS)[:, None]  # (GROUPS, 1)
    b_step = tl.arange(0, RUN)[None, :]  # (1, RUN)
    if INT64:
        b_run = b_run.to(tl.int64)
    b_pixel = b_run * RUN + b_step  # (GROUPS, RUN)

    image = mask
    found = image >= 0
    if p_owner is not None:
        image = tl.load(p_owner + mask).to(tl.int64)
        found = (image >= 0) & (image < images)
    p_image += image * image_stride_b
    p_mask = p_masks + mask * mask_stride_n

    # Weights (GROUPS, RUN). What points nowhere reads nothing, and gives NaN.
    if KIND == "cells" or KIND == "pixels":
        if ALONG_ROW:
            row_runs = width // RUN
            b_row = b_run // row_runs  # (GROUPS, 1)
            b_column = (b_run - b_row * row_runs) * RUN + b_step
        else:
            b_row = b_pixel // width
            b_column = b_pixel - b_row * width
        if p_shifts is not None:
            down = tl.load(p_shifts + mask * 2)
            along = tl.load(p_shifts + mask * 2 + 1)
            found &= (down >= 0) & (down <= size_h - height)
            found &= (along >= 0) & (along <= size_w - width)
            b_row += down.to(tl.int32)
            b_column += along.to(tl.int32)
        m_read = b_run < tl.where(found, runs, 0)
        if p_ranges is not None:
            low, span = whole_range(p_ranges + mask * 2 * n_parts, n_parts, BLOCK_P)
        b_weight = mask_at(
            p_mask, b_row, b_column, m_read, rows, columns, mask_stride_h, mask_stride_w,
            scale_h, scale_w, KIND, ALIGN_CORNERS, INT64,
        )  # fmt: skip
        if p_ranges is not None:
            # Times the reciprocal, then what that left over: as exact as div_rn, which takes ten
            # times the instructions, so that the maximum gives 1.
            span += 1e-8
            inverse = tl.div_rn(1.0, span)
            b_above = b_weight - low
            b_weight = b_above * inverse
            b_weight = tl.fma(tl.fma(-b_weight, span, b_above), inverse, b_weight)
    else:
        labels = mask
        if p_label_owner is not None:
            labels = tl.load(p_label_owner + mask).to(tl.int64)
            found &= (labels >= 0) & (labels < maps)
        m_read = b_run < tl.where(found, runs, 0)
        p_label = p_labels + labels * label_stride_b + b_pixel * label_stride_s
        b_label = tl.load(p_label, mask=m_read, other=0)
        if KIND == "regions":  # stride_h belongs to a dimension of 1
            m_known = m_read & (b_label >= 0) & (b_label < columns)
            b_index = b_label.to(tl.int64) if INT64 else b_label.to(tl.int32)
            b_weight = tl.load(p_mask + b_index * mask_stride_w, mask=m_known, other=0)
            b_weight = tl.where(m_known, b_weight.to(tl.float32), float("nan"))
        else:
            count = tl.load(p_mask).to(tl.int64)  # one sign for all types of labels
            b_weight = ((b_label >= count) != INSERT).to(tl.float32)
    b_weight = tl.where(found, b_weight, float("nan"))

    # m·image + (1 - m)·baseline is exact at both ends, and m·image exactly where there is no
    # baseline; baseline + m·(image - baseline) is not.
    p_out += mask * CHANNELS * (runs * RUN)
    if p_baseline is not None:
        p_baseline += image * baseline_stride_b
    if CHANNELS_LAST:
        # BLOCK pixels are CHANNELS times BLOCK elements that follow one another. They keep the
        # shape (GROUPS, RUN), by which the compiler gives a thread whole runs of pixels too.
        b_of_pixel = tl.reshape(b_weight, (BLOCK,))
        for lap in range(CHANNELS):
            b_lap_run = lap * GROUPS + tl.arange(0, GROUPS)[:, None]  # (GROUPS, 1)
            b_element = b_lap_run * RUN + b_step  # (GROUPS, RUN)
            b_near = b_element // CHANNELS  # pixel of the block
            b_channel = b_element - b_near * CHANNELS
            b_lap_weight = tl.gather(b_of_pixel, tl.reshape(b_near, (BLOCK,)), 0)
            b_lap_weight = tl.reshape(b_lap_weight, (GROUPS, RUN))
            if INT64:
                b_lap_run = b_lap_run.to(tl.int64)
                b_near = b_near.to(tl.int64)
                b_channel = b_channel.to(tl.int64)
            b_lap_run += block * (GROUPS * CHANNELS)
            b_near += block * BLOCK
            b_element = b_lap_run * RUN + b_step
            m_lap_read = b_lap_run < tl.where(found, runs * CHANNELS, 0)
            b_offset = b_element
            if not IMAGE_FLAT:
                b_offset = b_channel * image_stride_c + b_near * image_stride_s
            b_image = tl.load(p_image + b_offset, mask=m_lap_read, other=0.0).to(tl.float32)
            b_rest = (1.0 - b_lap_weight) * baseline_value
            if p_baseline is not None:
                b_offset = b_element
                if not BASELINE_FLAT:
                    b_offset = b_channel * baseline_stride_c + b_near * baseline_stride_s
                b_level = tl.load(p_baseline + b_offset, mask=m_lap_read, other=0.0)
                b_rest = (1.0 - b_lap_weight) * b_level.to(tl.float32)
            tl.store(
                p_out + b_element,
                tl.fma(b_lap_weight, b_image, b_rest),
                mask=b_lap_run < runs * CHANNELS,
            )
    else:
        b_rest = (1.0 - b_weight) * baseline_value
        for channel in range(CHANNELS):
            far = tl.cast(channel, tl.int64)
            p_tile = p_image + far * image_stride_c + b_pixel * image_stride_s
            b_image = tl.load(p_tile, mask=m_read, other=0.0).to(tl.float32)
            if p_baseline is not None:
                p_level = p_baseline + far * baseline_stride_c
                if ONE_COLOUR:
                    b_level = tl.load(p_level, mask=found, other=0.0)
                else:
                    p_level += b_pixel * baseline_stride_s
                    b_level = tl.load(p_level, mask=m_read, other=0.0)
                b_rest = (1.0 - b_weight) * b_level.to(tl.float32)
            p_tile = p_out + far * (runs * RUN) + b_pixel
            tl.store(p_tile, tl.fma(b_weight, b_image, b_rest), mask=b_run < runs)


def plan(
    picture: Picture, weights: Weights, *, channels_last: bool, dtype: torch.dtype
) -> tuple[list[Launch], Tensor]:
    """Choose the launches for checked tensors and allocate what they write.

    Args:
        picture: The images (B, C, H, W) and their baseline.
        weights: What the weight of each pixel is computed from.
        channels_last: The memory layout of what is written.
        dtype: float32, float16 or bfloat16: of what is written.

    Returns:
        The launches, not yet run, in their order, and the batch (N, C, H, W) that the last fills.
    """
    images, channels, height, width = picture.image.shape
    count, pixels = len(weights.values), height * width
    block = PROGRAM_BYTES // dtype.itemsize
    n_blocks = triton.cdiv(pixels, block)
    shape = (count, height, width, channels) if channels_last else (count, channels, height, width)
    out = torch.empty(shape, dtype=dtype, device=picture.image.device)
    out = out.permute(0, 3, 1, 2) if channels_last else out
    run = math.gcd(pixels, STORE_BYTES // dtype.itemsize)
    # With one channel both layouts are the same memory; the simpler half of the kernel fills it.
    last = channels_last and channels > 1

    image = planes(picture.image)
    baseline = None if picture.baseline is None else planes(picture.baseline)
    one_colour = baseline is not None and baseline.stride_s == 0
    labels = None if weights.labels is None else planes(weights.labels.unsqueeze(1))
    masks = mask_arguments(weights)
    kind = masks["KIND"]
    launches = []
    ranges = None
    if weights.stretch:
        launches.append(plan_ranges(weights))
        ranges = launches[0].arguments["p_ranges"]
    n_parts = 0 if ranges is None else ranges.shape[2]
    known = [part for part in (image, baseline, labels) if part is not None]
    scattered = not last and any(part.stride_s not in (0, 1) for part in known)
    arguments = {
        "p_out": out,
        "p_image": image.tensor,
        "p_baseline": None if baseline is None else baseline.tensor,
        "p_masks": weights.values,
        "p_labels": None if labels is None else labels.tensor,
        "p_owner": picture.owner,
        "p_label_owner": weights.label_owner,
        "p_shifts": weights.shifts,
        "p_ranges": ranges,
        "baseline_value": picture.value,
        "images": images,
        "maps": 0 if labels is None else len(labels.tensor),
        **masks,
        "size_h": weights.size[0],
        "size_w": weights.size[1],
        "n_parts": n_parts,
        "height": height,
        "width": width,
        "runs": pixels // run,
        "image_stride_b": _stride_b(image),
        "image_stride_c": image.stride_c,
        "image_stride_s": image.stride_s,
        "baseline_stride_b": 0 if baseline is None else _stride_b(baseline),
        "baseline_stride_c": 0 if baseline is None else baseline.stride_c,
        "baseline_stride_s": 0 if baseline is None else baseline.stride_s,
        "label_stride_b": 0 if labels is None else _stride_b(labels),
        "label_stride_s": 0 if labels is None else labels.stride_s,
        "ONE_COLOUR": one_colour,
        "CHANNELS": channels,
        "CHANNELS_LAST": last,
        "IMAGE_FLAT": last and _is_flat(image),
        "BASELINE_FLAT": last and baseline is not None and _is_flat(baseline),
        "INSERT": weights.insert,
        "ALONG_ROW": width % run == 0,
        "RUN": run,
        "BLOCK": block,
        "BLOCK_P": BLOCK_P,
        "INT64": (
            channels * pixels >= INT32_LIMIT
            or reach(weights.values) >= INT32_LIMIT
            or any(part.needs_int64 for part in known)
        ),
    }
    elements = {
        "p_image": channels * pixels,
        "p_baseline": channels * (n_blocks if one_colour and not last else pixels),
        "p_masks": LOADS[kind] * (n_blocks if kind == "ranks" else pixels),
        "p_labels": pixels,
        "p_owner": n_blocks,
        "p_label_owner": n_blocks,
        "p_shifts": n_blocks * 2,
        "p_ranges": n_blocks * 2 * n_parts,
    }
    launches.append(
        Launch(
            kernel=masked_batch_kernel,
            grid=(count * n_blocks,),
            arguments=arguments,
            num_warps=NUM_WARPS,
            max_registers=MAX_REGISTERS if scattered else None,
            reads={
                name: count * number * arguments[name].element_size()
                for name, number in elements.items()
                if arguments[name] is not None
            },
            writes={"p_out": out.numel() * out.element_size()},
            scratch=("p_ranges",),
        )
    )
    return launches, out


def _stride_b(part: Planes) -> int:
    """From one image to the next; what there is only one of serves all outputs."""
    return part.stride_b if len(part.tensor) > 1 else 0


def _is_flat(part: Planes) -> bool:
    """Whether the memory of one image has the order of a channels-last one."""
    return part.stride_c == 1 and part.stride_s == part.tensor.shape[1]
