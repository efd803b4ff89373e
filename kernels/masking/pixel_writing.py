"""Write the masked pixels of one program, for both kernels."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def program_pixels(runs, TILE: tl.constexpr):
    """Find a program's output, block, runs and pixels.

    TILE is a triple: the pixels of a store of 16 bytes, the pixels of a program, and whether
    offsets inside one image, mask or label map pass 31 bits.
    """
    RUN: tl.constexpr = TILE[0]
    GROUPS: tl.constexpr = TILE[1] // RUN
    n_blocks = tl.cdiv(runs, GROUPS)
    output = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    b_run = block * GROUPS + tl.arange(0, GROUPS)[:, None]  # (GROUPS, 1)
    b_step = tl.arange(0, RUN)[None, :]  # (1, RUN)
    if TILE[2]:
        b_run = b_run.to(tl.int64)
    return output, block, b_run, b_step


@triton.jit
def owner_of(p_owner, output, count):
    """Find which image or label map an output takes, if any."""
    owner = output
    exists = owner >= 0
    if p_owner is not None:
        owner = tl.load(p_owner + output).to(tl.int64)
        exists = (owner >= 0) & (owner < count)
    return owner, exists


@triton.jit
def write_pixels(
    b_weight,  # (GROUPS, RUN)
    exists,  # whether all that the output is made from exists
    output,
    block,
    image_number,
    p_out,
    image,  # pointer and strides: see `masked_batch_kernel`
    baseline,
    baseline_value,
    runs,
    LAYOUT: tl.constexpr,
    TILE: tl.constexpr,  # see `program_pixels`
):
    """Blend and store a block of pixels, channel by channel.

    NaN where something is missing.

    m·image + (1 - m)·baseline is exact at both ends, and m·image exactly where there is no
    baseline; baseline + m·(image - baseline) is not. LAYOUT says how many channels there are,
    whether the batch is channels-last, whether the memory of the image and of the baseline has the
    order of that batch, and whether the baseline is the same for all pixels.
    """
    CHANNELS: tl.constexpr = LAYOUT[0]
    CHANNELS_LAST: tl.constexpr = LAYOUT[1]
    IMAGE_FLAT: tl.constexpr = LAYOUT[2]
    BASELINE_FLAT: tl.constexpr = LAYOUT[3]
    ONE_COLOUR: tl.constexpr = LAYOUT[4]
    RUN: tl.constexpr = TILE[0]
    BLOCK: tl.constexpr = TILE[1]
    INT64: tl.constexpr = TILE[2]
    GROUPS: tl.constexpr = BLOCK // RUN
    p_image, image_stride_b, image_stride_c, image_stride_s = image
    p_baseline, baseline_stride_b, baseline_stride_c, baseline_stride_s = baseline
    b_weight = tl.where(exists, b_weight, float("nan"))
    p_image += image_number * image_stride_b
    p_out += output * CHANNELS * (runs * RUN)
    if p_baseline is not None:
        p_baseline += image_number * baseline_stride_b
    b_group = tl.arange(0, GROUPS)[:, None]  # (GROUPS, 1)
    b_step = tl.arange(0, RUN)[None, :]  # (1, RUN)
    if CHANNELS_LAST:
        # BLOCK pixels are CHANNELS times BLOCK elements that follow one another. They keep the
        # shape (GROUPS, RUN), by which the compiler gives a thread whole runs of pixels too.
        b_of_pixel = tl.reshape(b_weight, (BLOCK,))
        for lap in range(CHANNELS):
            b_lap_run = lap * GROUPS + b_group
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
            m_lap_read = b_lap_run < tl.where(exists, runs * CHANNELS, 0)
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
        b_run = block * GROUPS + b_group
        if INT64:
            b_run = b_run.to(tl.int64)
        b_pixel = b_run * RUN + b_step  # (GROUPS, RUN)
        m_read = b_run < tl.where(exists, runs, 0)
        b_rest = (1.0 - b_weight) * baseline_value
        for channel in range(CHANNELS):
            far = tl.cast(channel, tl.int64)
            p_tile = p_image + far * image_stride_c + b_pixel * image_stride_s
            b_image = tl.load(p_tile, mask=m_read, other=0.0).to(tl.float32)
            if p_baseline is not None:
                p_level = p_baseline + far * baseline_stride_c
                if ONE_COLOUR:
                    b_level = tl.load(p_level, mask=exists, other=0.0)
                else:
                    p_level += b_pixel * baseline_stride_s
                    b_level = tl.load(p_level, mask=m_read, other=0.0)
                b_rest = (1.0 - b_weight) * b_level.to(tl.float32)
            p_tile = p_out + far * (runs * RUN) + b_pixel
            tl.store(p_tile, tl.fma(b_weight, b_image, b_rest), mask=b_run < runs)
