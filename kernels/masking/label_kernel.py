"""The Triton kernel for weights that labels decide: regions and ranks."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import single
from .pixel_writing import owner_of, program_pixels, write_pixels


@triton.jit
def label_batch_kernel(
    p_out,  # (N, C, S), or (N, S, C) where it is channels-last
    p_image,  # (B, C, S), or (B, S, C)
    p_baseline,  # (B or 1, C, S), (B or 1, S, C) or (B or 1, C); or None: baseline_value everywhere
    p_values,  # (N, R) weights of regions, or (N,) counts of ranks
    p_labels,  # (K, S): regions or ranks
    p_owner,  # (N,): which image; or None: n, or the only one
    p_label_owner,  # (N,): which labels; or None: n, or the only ones
    baseline_value,
    images,  # B
    maps,  # K
    regions,  # R
    runs,  # S / RUN
    KIND: tl.constexpr,  # "regions", "deletion" or "insertion"
    LAYOUT: tl.constexpr,  # see `write_pixels`
    TILE: tl.constexpr,  # see `program_pixels`; 64 bits also for offsets in a row of weights
):
    """Write baseline + m·(image - baseline), with m from each pixel's label.

    By regions, m is the weight of the pixel's region (LIME, KernelSHAP). By ranks, m is 1 from a
    count on, or below it: the steps of deletion and of insertion. A program owns BLOCK pixels of
    one output. What points nowhere reads nothing, and gives NaN.
    """
    RUN: tl.constexpr = TILE[0]
    INT64: tl.constexpr = TILE[2]
    baseline_value = single(baseline_value)
    output, block, b_run, b_step = program_pixels(runs, TILE)
    image, exists = owner_of(p_owner, output, images)
    number, labelled = owner_of(p_label_owner, output, maps)
    exists &= labelled
    m_read = b_run < tl.where(exists, runs, 0)
    p_label = p_labels + number * (runs * RUN) + (b_run * RUN + b_step)
    b_label = tl.load(p_label, mask=m_read, other=0)
    if KIND == "regions":
        m_region = m_read & (b_label >= 0) & (b_label < regions)
        b_index = b_label.to(tl.int64) if INT64 else b_label.to(tl.int32)
        b_weight = tl.load(p_values + output * regions + b_index, mask=m_region, other=0)
        b_weight = tl.where(m_region, b_weight.to(tl.float32), float("nan"))
    else:
        count = tl.load(p_values + output).to(tl.int64)  # one sign for all labels
        b_weight = ((b_label >= count) != (KIND == "insertion")).to(tl.float32)
    write_pixels(
        b_weight, exists, output, block, image, p_out,
        p_image, p_baseline, baseline_value, runs, LAYOUT, TILE,
    )  # fmt: skip
