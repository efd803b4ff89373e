"""The Triton kernels for weights that labels decide: regions and ranks."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from .pixel_writing import owner_of, program_pixels, write_pixels


@triton.jit
def _load_labels(
    p_labels, p_label_owner, output, exists, maps, b_run, b_step, runs, stride_b, stride_s,
    RUN: tl.constexpr,
):  # fmt: skip
    """Load the labels of a program's pixels, and say where they exist."""
    number, labelled = owner_of(p_label_owner, output, maps)
    exists &= labelled
    m_read = b_run < tl.where(exists, runs, 0)
    p_label = p_labels + number * stride_b + (b_run * RUN + b_step) * stride_s
    return tl.load(p_label, mask=m_read, other=0), m_read, exists


@triton.jit
def region_batch_kernel(
    p_out,  # (N, C, S), or (N, S, C) where CHANNELS_LAST
    p_image,  # (B, C, S) by strides
    p_baseline,  # (B, C, S) by strides, some of them 0; or None: baseline_value everywhere
    p_weights,  # (N, R) by strides
    p_labels,  # (K, S) by strides: regions
    p_owner,  # (N,): which image; or None: n, whose stride may be 0
    p_label_owner,  # (N,): which labels; or None: n, whose stride may be 0
    baseline_value,
    images,  # B
    maps,  # K
    regions,  # R
    runs,  # S / RUN
    image_stride_b,
    image_stride_c,
    image_stride_s,
    baseline_stride_b,
    baseline_stride_c,
    baseline_stride_s,
    weight_stride_n,
    weight_stride_r,
    label_stride_b,
    label_stride_s,
    ONE_COLOUR: tl.constexpr,  # the baseline is the same for all pixels
    CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,  # of the batch that is written
    IMAGE_FLAT: tl.constexpr,  # the image's memory has the order of the channels-last batch
    BASELINE_FLAT: tl.constexpr,
    RUN: tl.constexpr,  # pixels in a store of 16 bytes
    BLOCK: tl.constexpr,
    INT64: tl.constexpr,  # offsets inside one image, row of weights or label map pass 31 bits
):
    """Write baseline + m·(image - baseline), where m is the weight of a pixel's region.

    The regions are those of LIME and KernelSHAP. A program owns BLOCK pixels of one output. What
    points nowhere reads nothing, and gives NaN.
    """
    output, block, b_run, b_step = program_pixels(runs, RUN, BLOCK, INT64)
    image, exists = owner_of(p_owner, output, images)
    b_label, m_read, exists = _load_labels(
        p_labels, p_label_owner, output, exists, maps, b_run, b_step, runs, label_stride_b,
        label_stride_s, RUN,
    )  # fmt: skip
    m_region = m_read & (b_label >= 0) & (b_label < regions)
    b_index = b_label.to(tl.int64) if INT64 else b_label.to(tl.int32)
    p_weight = p_weights + output * weight_stride_n + b_index * weight_stride_r
    b_weight = tl.load(p_weight, mask=m_region, other=0).to(tl.float32)
    b_weight = tl.where(m_region, b_weight, float("nan"))
    write_pixels(
        b_weight, exists, output, block, image, p_out,
        (p_image, image_stride_b, image_stride_c, image_stride_s),
        (p_baseline, baseline_stride_b, baseline_stride_c, baseline_stride_s),
        baseline_value, runs, ONE_COLOUR, CHANNELS, CHANNELS_LAST, IMAGE_FLAT, BASELINE_FLAT,
        RUN, BLOCK, INT64,
    )  # fmt: skip


@triton.jit
def ranked_batch_kernel(
    p_out,  # (N, C, S), or (N, S, C) where CHANNELS_LAST
    p_image,  # (B, C, S) by strides
    p_baseline,  # (B, C, S) by strides, some of them 0; or None: baseline_value everywhere
    p_counts,  # (N,) by its stride
    p_labels,  # (K, S) by strides: ranks
    p_owner,  # (N,): which image; or None: n, whose stride may be 0
    p_label_owner,  # (N,): which labels; or None: n, whose stride may be 0
    baseline_value,
    images,  # B
    maps,  # K
    runs,  # S / RUN
    image_stride_b,
    image_stride_c,
    image_stride_s,
    baseline_stride_b,
    baseline_stride_c,
    baseline_stride_s,
    count_stride_n,
    label_stride_b,
    label_stride_s,
    ONE_COLOUR: tl.constexpr,  # the baseline is the same for all pixels
    CHANNELS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,  # of the batch that is written
    IMAGE_FLAT: tl.constexpr,  # the image's memory has the order of the channels-last batch
    BASELINE_FLAT: tl.constexpr,
    INSERT: tl.constexpr,  # keep the ranks below the count, not those from it on
    RUN: tl.constexpr,  # pixels in a store of 16 bytes
    BLOCK: tl.constexpr,
    INT64: tl.constexpr,  # offsets inside one image or label map pass 31 bits
):
    """Write the image at the ranks from a count on, or below it, and the baseline elsewhere.

    These are the steps of deletion and insertion. A program owns BLOCK pixels of one output. What
    points nowhere reads nothing, and gives NaN.
    """
    output, block, b_run, b_step = program_pixels(runs, RUN, BLOCK, INT64)
    image, exists = owner_of(p_owner, output, images)
    b_label, _, exists = _load_labels(
        p_labels, p_label_owner, output, exists, maps, b_run, b_step, runs, label_stride_b,
        label_stride_s, RUN,
    )  # fmt: skip
    count = tl.load(p_counts + output * count_stride_n).to(tl.int64)  # one sign for all labels
    b_weight = ((b_label >= count) != INSERT).to(tl.float32)
    write_pixels(
        b_weight, exists, output, block, image, p_out,
        (p_image, image_stride_b, image_stride_c, image_stride_s),
        (p_baseline, baseline_stride_b, baseline_stride_c, baseline_stride_s),
        baseline_value, runs, ONE_COLOUR, CHANNELS, CHANNELS_LAST, IMAGE_FLAT, BASELINE_FLAT,
        RUN, BLOCK, INT64,
    )  # fmt: skip
