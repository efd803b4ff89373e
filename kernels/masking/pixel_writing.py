"""Write the masked pixels of one program, for both kernels."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import widen


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
    return output, block, widen(b_run, TILE[2]), b_step


@triton.jit
def owner_of(p_owner, output, count):
    """Find which of several images or label maps an output takes, if any."""
    owner = tl.where(count > 1, output, 0)
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
    p_image,  # see `masked_batch_kernel`
    p_baseline,
    baseline_value,
    runs,
    LAYOUT: tl.constexpr,
    TILE: tl.constexpr,  # see `program_pixels`
):
    """Blend and store a block of pixels, channel by channel.

    NaN where something is missing.

    m·image + (1 - m)·baseline is exact at both ends, and m·image exactly where there is no
    baseline; baseline + m·(image - baseline) is not. LAYOUT says how many channels there are,
    whether the batch and the image are channels-last, the same of the baseline or that it is one
    "colour" for all pixels, and whether it is one for all images.
    """
    CHANNELS: tl.constexpr = LAYOUT[0]
    CHANNELS_LAST: tl.constexpr = LAYOUT[1]
    IMAGE_LAST: tl.constexpr = LAYOUT[2]
    BASELINE: tl.constexpr = LAYOUT[3]
    RUN: tl.constexpr = TILE[0]
    BLOCK: tl.constexpr = TILE[1]
    INT64: tl.constexpr = TILE[2]
    GROUPS: tl.constexpr = BLOCK // RUN
    pixels = runs * RUN
    b_weight = tl.where(exists, b_weight, float("nan"))
    p_image += image_number * CHANNELS * pixels
    p_out += output * CHANNELS * pixels
    if not LAYOUT[4]:
        p_baseline += image_number * CHANNELS * (1 if BASELINE == "colour" else pixels)
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
            b_channel = widen(b_channel, INT64)
            b_lap_run = widen(b_lap_run, INT64) + block * (GROUPS * CHANNELS)
            b_near = widen(b_near, INT64) + block * BLOCK
            b_element = b_lap_run * RUN + b_step
            m_lap_read = b_lap_run < tl.where(exists, runs * CHANNELS, 0)
            b_place = b_channel * pixels + b_near
            b_offset = b_element if IMAGE_LAST else b_place
            b_image = tl.load(p_image + b_offset, mask=m_lap_read, other=0.0).to(tl.float32)
            b_rest = (1.0 - b_lap_weight) * baseline_value
            if p_baseline is not None:
                b_offset = b_element if BASELINE == "last" else b_place
                b_offset = b_channel if BASELINE == "colour" else b_offset
                b_level = tl.load(p_baseline + b_offset, mask=m_lap_read, other=0.0)
                b_rest = (1.0 - b_lap_weight) * b_level.to(tl.float32)
            tl.store(
                p_out + b_element,
                tl.fma(b_lap_weight, b_image, b_rest),
                mask=b_lap_run < runs * CHANNELS,
            )
    else:
        b_run = widen(block * GROUPS + b_group, INT64)
        b_pixel = b_run * RUN + b_step  # (GROUPS, RUN)
        m_read = b_run < tl.where(exists, runs, 0)
        b_rest = (1.0 - b_weight) * baseline_value
        for channel in range(CHANNELS):
            far = tl.cast(channel, tl.int64)
            b_place = far * pixels + b_pixel
            b_last = b_pixel * CHANNELS + channel
            b_offset = b_last if IMAGE_LAST else b_place
            b_image = tl.load(p_image + b_offset, mask=m_read, other=0.0).to(tl.float32)
            if p_baseline is not None:
                if BASELINE == "colour":
                    b_level = tl.load(p_baseline + channel, mask=exists, other=0.0)
                else:
                    b_offset = b_last if BASELINE == "last" else b_place
                    b_level = tl.load(p_baseline + b_offset, mask=m_read, other=0.0)
                b_rest = (1.0 - b_weight) * b_level.to(tl.float32)
            tl.store(p_out + b_place, tl.fma(b_weight, b_image, b_rest), mask=b_run < runs)
