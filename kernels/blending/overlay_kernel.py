"""The Triton kernel that upsamples, colours and blends heatmaps over images."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment, misc"

import triton
import triton.language as tl

from ..launch.tiles import single

# A group is 16 pixels, 48 bytes: three vectors of 16 bytes that start where a vector may. A thread
# has one group to blend, and its four quads of four pixels to colour.
GROUPS = tl.constexpr(128)
PIXELS = tl.constexpr(16 * 128)  # a program

# 1.5 · 2²³: a float32 of this size counts in ones, so adding it rounds, halves to even, and leaves
# the number in the low bits.
MANTISSA_UNIT = tl.constexpr(0x4B400000)


@triton.jit
def product(b_a, b_b):
    """Multiply a by b, rounding to float32 before anything is added.

    The compiler would fuse a product into the sum that takes it, on some GPUs and in some
    versions; a value that lies between two colours would then fall to another one than the
    reference's. It leaves a multiply-add alone.
    """
    return tl.fma(b_a, b_b, 0.0)


@triton.jit
def divide(b_n, multiplier, shift):
    """Divide: ⌊n / d⌋ for 0 ≤ n < 2³¹ from `reciprocal(d)`."""
    multiplier = multiplier.to(tl.uint32, bitcast=True)
    return (tl.umulhi(b_n.to(tl.uint32) * 2, multiplier) >> shift).to(tl.int32)


@triton.jit
def neighbours(b_at, scale, size):
    """Find the two samples around a pixel, and their weights.

    torch's formula for `align_corners=False`: t = max(scale · (at + ½) - ½, 0), held at the edges.
    The maximum is taken before ½ is subtracted, which changes no value and keeps product and
    difference apart.
    """
    b_position = tl.maximum(product(b_at.to(tl.float32) + 0.5, scale), 0.5) - 0.5
    b_low = tl.minimum(b_position.to(tl.int32), size - 1)
    b_high = tl.minimum(b_low + 1, size - 1)
    b_share = b_position - b_low.to(tl.float32)
    return b_low, b_high, 1 - b_share, b_share


@triton.jit
def samples(p_line, b_left, b_right, b_of_left, b_of_right):
    """Interpolate between two samples of one row of the heatmap."""
    b_near = product(b_of_left, tl.load(p_line + b_left).to(tl.float32))
    return b_near + product(b_of_right, tl.load(p_line + b_right).to(tl.float32))


@triton.jit
def paint(
    b_pixel,  # int32, counted from the program's first pixel
    STEP: tl.constexpr,  # columns to the right of it
    column,  # where the program's first pixel lies
    row,
    down,  # what belongs to one axis: see `overlay_kernel`
    across,
    p_heatmaps,  # of the program's first image
    stride_b,
    p_table,
    threshold,
    SAME: tl.constexpr,
    SIGNED: tl.constexpr,
):
    """Colour pixels as 0xBBGGRR, or -1 where the image stays."""
    height, height_multiplier, height_shift, heat_height, scale_y, stride_h = down
    width, width_multiplier, width_shift, heat_width, scale_x, stride_w = across
    b_x = column + b_pixel
    b_rows = divide(b_x, width_multiplier, width_shift)
    b_x += STEP - b_rows * width
    b_y = row + b_rows
    b_image = divide(b_y, height_multiplier, height_shift)
    b_y -= b_image * height
    p_image = p_heatmaps + b_image.to(tl.int64) * stride_b
    if SAME:
        p_row = p_image + b_y.to(tl.int64) * stride_h
        b_value = tl.load(p_row + b_x.to(tl.int64) * stride_w).to(tl.float32)
    else:
        b_top, b_bottom, b_of_top, b_of_bottom = neighbours(b_y, scale_y, heat_height)
        b_left, b_right, b_of_left, b_of_right = neighbours(b_x, scale_x, heat_width)
        b_left = b_left.to(tl.int64) * stride_w
        b_right = b_right.to(tl.int64) * stride_w
        p_top = p_image + b_top.to(tl.int64) * stride_h
        p_bottom = p_image + b_bottom.to(tl.int64) * stride_h
        b_upper = samples(p_top, b_left, b_right, b_of_left, b_of_right)
        b_lower = samples(p_bottom, b_left, b_right, b_of_left, b_of_right)
        b_value = product(b_of_top, b_upper) + product(b_of_bottom, b_lower)

    # A comparison with NaN is false, and `tl.maximum` makes a number of it. Factors of a power of
    # two are exact, so it does not matter what the compiler fuses here.
    b_size = tl.abs(b_value) if SIGNED else tl.maximum(b_value, 0.0)
    m_shown = (b_size >= threshold) & (b_value == b_value)
    b_index = b_value * 128 + 128 if SIGNED else b_value * 256
    b_index = tl.minimum(tl.maximum(b_index, 0.0), 255.0).to(tl.int32)
    return tl.where(m_shown, tl.load(p_table + b_index), -1)


@triton.jit
def blend(b_byte, b_colour, alpha, channel):
    """Blend bytes with colours; keep the byte where the colour is -1.

    round(old + alpha · (new - old)), halves to even.

    Bytes become floats, and the float a byte, by their bits. alpha has 16 bits behind the point,
    so the product is exact, and the only rounding is the one to a whole number.
    """
    b_old = (b_byte.to(tl.int32) | MANTISSA_UNIT).to(tl.float32, bitcast=True)
    b_new = ((b_colour >> 8 * channel) & 255 | MANTISSA_UNIT).to(tl.float32, bitcast=True)
    b_mixed = (b_old + alpha * (b_new - b_old)).to(tl.int32, bitcast=True)
    return tl.where(b_colour < 0, b_byte, b_mixed.to(tl.uint8))


@triton.jit
def halves(b_rows):
    """Split (N, 2 n) into its left and right (N, n)."""
    return tl.split(
        tl.trans(tl.reshape(b_rows, (b_rows.shape[0], 2, b_rows.shape[1] // 2)), (0, 2, 1))
    )


@triton.jit
def beside(b_left, b_right):
    """Join (N, n) and (N, n) to (N, 2 n)."""
    return tl.reshape(
        tl.trans(tl.join(b_left, b_right), (0, 2, 1)), (b_left.shape[0], 2 * b_left.shape[1])
    )


@triton.jit
def columns(b_rows):
    """Split (N, 16) into its 16 columns (N,)."""
    left, right = halves(b_rows)
    q0, q1 = halves(left)
    q2, q3 = halves(right)
    e0, e1 = halves(q0)
    e2, e3 = halves(q1)
    e4, e5 = halves(q2)
    e6, e7 = halves(q3)
    return (
        tl.split(e0) + tl.split(e1) + tl.split(e2) + tl.split(e3)
        + tl.split(e4) + tl.split(e5) + tl.split(e6) + tl.split(e7)
    )  # fmt: skip


@triton.jit
def rows(c):
    """Join 16 columns (N,) to (N, 16)."""
    left = beside(
        beside(tl.join(c[0], c[1]), tl.join(c[2], c[3])),
        beside(tl.join(c[4], c[5]), tl.join(c[6], c[7])),
    )
    right = beside(
        beside(tl.join(c[8], c[9]), tl.join(c[10], c[11])),
        beside(tl.join(c[12], c[13]), tl.join(c[14], c[15])),
    )
    return beside(left, right)


# Without this, Triton would compile anew for what divides each size of image.
SIZES = (
    "pixels", "width", "width_multiplier", "width_shift", "width_samples", "height",
    "height_multiplier", "height_shift", "height_samples", "height_stride", "stride_b",
)  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def overlay_kernel(
    p_images,  # (B, H, W, 3) uint8, contiguous
    p_heatmaps,  # (B, h, w) by strides
    p_table,  # (256,) int32: 0xBBGGRR
    p_out,  # (B, H, W, 3) uint8, contiguous
    pixels,  # B · H · W
    width,
    width_multiplier,  # with the shift, for `divide`
    width_shift,
    width_samples,  # of a heatmap
    width_scale,
    width_stride,
    height,
    height_multiplier,
    height_shift,
    height_samples,
    height_scale,
    height_stride,
    stride_b,
    alpha,
    threshold,
    SAME: tl.constexpr,  # heatmaps have the size of the images
    QUADS: tl.constexpr,  # four pixels that follow each other lie in one row
    SIGNED: tl.constexpr,  # heatmaps in [-1, 1], whose size is their absolute value
    HAS_TAIL: tl.constexpr,  # the images' bytes are no whole number of vectors
    INT64: tl.constexpr,  # there are more pixels than 31 bits count
):
    """Upsample, colour and blend in one launch.

    Upsampled maps and colours stay in registers.

    With v the heatmap between its samples (`neighbours`), c the colour min(⌊256 v⌋, 255) of the
    table, or that of (v + 1) / 2, every byte is round(image + alpha · (c - image)).

    The batch is one run of B·H·W pixels, whatever the size of its images: a program owns 16·GROUPS
    of them, 48·GROUPS bytes that start at a multiple of 16. It colours them with neighbouring
    threads at neighbouring quads, so that their loads from the heatmap fall together; then one
    exchange gives each thread the 16 colours of a group, which are the colours of three vectors of
    16 bytes. The few bytes after the last whole vector are painted once more, one by one.

    Floor: 3·B·H·W bytes of images read, as many written, and the heatmaps read once. On top of it
    come loads that the caches answer: with e bytes an element and P pixels painted, 4·e·P of the
    heatmaps (e·P where they have the size of the images) and 4·P of the table. P is B·H·W rounded
    up to whole programs, and 16 more where there is a tail: a program that reaches past the last
    pixel paints it again, which costs less than asking every load whether it may.
    """
    alpha, threshold = single(alpha), single(threshold)
    width_scale, height_scale = single(width_scale), single(height_scale)
    down = (height, height_multiplier, height_shift, height_samples, height_scale, height_stride)
    across = (width, width_multiplier, width_shift, width_samples, width_scale, width_stride)
    if INT64:
        first = tl.program_id(0).to(tl.int64) * PIXELS
        row = first // width
        column = (first - row * width).to(tl.int32)
        image = row // height
        row = (row - image * height).to(tl.int32)
    else:
        first = tl.program_id(0) * PIXELS
        row = divide(first, width_multiplier, width_shift)
        column = first - row * width
        image = divide(row, height_multiplier, height_shift)
        row -= image * height
    p_heatmaps += image.to(tl.int64) * stride_b
    p_images += first.to(tl.int64) * 3
    p_out += first.to(tl.int64) * 3
    count = tl.minimum(pixels - first, PIXELS).to(tl.int32)  # of this program's pixels
    size = 3 * count  # of its bytes

    words = ()
    for j in tl.static_range(4):
        b_quad = 4 * (4 * tl.arange(0, GROUPS)[:, None] + tl.arange(0, 4)[None, :])  # (GROUPS, 4)
        if QUADS:
            b_pixel = tl.minimum(b_quad, count - 4)
        else:
            b_pixel = tl.minimum(b_quad + j, count - 1)
        words = words + (
            paint(
                b_pixel, j if QUADS else 0, column, row, down, across, p_heatmaps, stride_b,
                p_table, threshold, SAME, SIGNED,
            ),
        )  # fmt: skip
    b_words = tl.join(tl.join(words[0], words[2]), tl.join(words[1], words[3]))
    colours = columns(tl.reshape(b_words, (GROUPS, 16)))

    for k in tl.static_range(3):
        b_start = 48 * tl.arange(0, GROUPS) + 16 * k  # (GROUPS,)
        b_byte = b_start[:, None] + tl.arange(0, 16)[None, :]  # (GROUPS, 16)
        m_byte = tl.broadcast_to((b_start + 16 <= size)[:, None], (GROUPS, 16))
        by_byte = ()
        for j in tl.static_range(16):
            by_byte = by_byte + (colours[(16 * k + j) // 3],)
        b_channel = (16 * k + tl.arange(0, 16)) % 3
        b_old = tl.load(p_images + b_byte, mask=m_byte)
        b_new = blend(b_old, rows(by_byte), alpha, b_channel[None, :])
        tl.store(p_out + b_byte, b_new, mask=m_byte)

    if HAS_TAIL:
        if count < PIXELS:
            b_last = size // 16 * 16 + tl.arange(0, 16)
            m_last = b_last < size
            b_word = paint(
                tl.minimum(b_last // 3, count - 1), 0, column, row, down, across, p_heatmaps,
                stride_b, p_table, threshold, SAME, SIGNED,
            )  # fmt: skip
            b_image = tl.load(p_images + b_last, mask=m_last)
            tl.store(p_out + b_last, blend(b_image, b_word, alpha, b_last % 3), mask=m_last)
