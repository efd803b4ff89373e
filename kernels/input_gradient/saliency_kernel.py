"""The Triton kernel that reduces an input gradient and normalises it."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import is_last, load_tile, single, widen
from .percentile_kernel import (
    BLOCK_P,
    EXPONENTS,
    INFINITY,
    LOWER,
    UNSIGNED,
    UPPER,
    count_exponents,
    percentile_of,
)

# What an image's counters hold, by position: how many of its programs are done; of |map|, the bits
# of the largest value, and how far those of the smallest lie below infinity, so that all of it
# starts from zero. Then, if a percentile is wanted, how many values have each exponent, on a
# boundary of 16 bytes.
HIGH = tl.constexpr(1)
LOW = tl.constexpr(2)
COUNTS = tl.constexpr(4)


@triton.jit
def _load_interleaved(
    p_image, first, channels, pixels, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr
):
    """Load the tile (channel, pixel) of an image whose channels interleave.

    The image is one line of memory, so it is read in vectors, and each element then fetched to
    where it belongs; 3 channels are no power of two, which the compiler could have turned.
    """
    b_position = tl.arange(0, BLOCK_C * BLOCK_S)
    n_tile = BLOCK_S * channels
    m_line = (b_position < n_tile) & (first * channels + b_position < pixels * channels)
    b_line = tl.load(p_image + first * channels + b_position, mask=m_line, other=0.0)
    b_channel = b_position % BLOCK_C
    # A tile of fewer channels than BLOCK_C ends in zeros: the first of them fills what is missing.
    b_from = tl.where(b_channel < channels, b_position // BLOCK_C * channels + b_channel, n_tile)
    b_tile = tl.gather(b_line, b_from, axis=0).reshape((BLOCK_S, BLOCK_C))
    return tl.trans(b_tile).to(tl.float32)


@triton.jit
def _load(image, first, start, channels, pixels, INTERLEAVED: tl.constexpr, TILE: tl.constexpr):
    """Load the tile (channel, pixel) of one image, zero outside.

    The image is a pointer and the strides of channels and pixels. TILE is a triple: the channels
    and pixels of a tile, and whether offsets inside an image pass 31 bits.
    """
    BLOCK_C: tl.constexpr = TILE[0]
    BLOCK_S: tl.constexpr = TILE[1]
    if INTERLEAVED:  # then a tile holds all channels
        return _load_interleaved(image[0], start, channels, pixels, BLOCK_C, BLOCK_S)
    b_channel = widen(first + tl.arange(0, BLOCK_C), TILE[2])
    b_pixel = widen(start + tl.arange(0, BLOCK_S), TILE[2])
    return load_tile(image, b_channel, b_pixel, channels, pixels)


@triton.jit
def _reduce_channels(
    gradient, inputs, start, channels, pixels, REDUCE: tl.constexpr, INTERLEAVED: tl.constexpr,
    TILE: tl.constexpr,
):  # fmt: skip
    """Reduce G, or G·I, over its channels.

    Both are as `_load` takes them.
    """
    BLOCK_C: tl.constexpr = TILE[0]
    BLOCK_S: tl.constexpr = TILE[1]
    if REDUCE == "max" or REDUCE == "signed max":
        b_most = tl.full((BLOCK_C, BLOCK_S), -1, tl.int32)
        b_whose = tl.zeros((BLOCK_C, BLOCK_S), tl.int32)
    else:
        b_sum = tl.zeros((BLOCK_C, BLOCK_S), tl.float32)
    for first in range(0, channels, BLOCK_C):
        b_value = _load(gradient, first, start, channels, pixels, INTERLEAVED, TILE)
        if inputs[0] is not None:
            b_value *= _load(inputs, first, start, channels, pixels, INTERLEAVED, TILE)
        # The bits of floats without sign are ordered like the floats, with NaN above Inf: their
        # integer maximum keeps the NaN that a maximum of floats would drop.
        b_bits = b_value.to(tl.int32, bitcast=True)
        if REDUCE == "max":
            b_most = tl.maximum(b_most, b_bits & UNSIGNED)
        elif REDUCE == "signed max":
            # Beside the largest value, whose it is: the channel, and its sign in the last bit.
            m_more = (b_bits & UNSIGNED) > b_most
            b_channel = first + tl.arange(0, BLOCK_C)
            b_name = b_channel[:, None] * 2 + (b_value < 0).to(tl.int32)
            b_whose = tl.where(m_more, b_name, b_whose)
            b_most = tl.where(m_more, b_bits & UNSIGNED, b_most)
        elif REDUCE == "sum":
            b_sum += b_value
        elif REDUCE == "absolute sum":
            b_sum += tl.abs(b_value)
        else:
            b_sum += b_value * b_value
    if REDUCE == "max":
        b_raw = tl.max(b_most, axis=0).to(tl.float32, bitcast=True)  # (BLOCK_S,)
    elif REDUCE == "signed max":
        b_top = tl.max(b_most, axis=0)
        b_winner = tl.min(tl.where(b_most == b_top[None, :], b_whose, UNSIGNED), axis=0)
        b_size = b_top.to(tl.float32, bitcast=True)
        b_raw = tl.where(b_winner % 2 == 1, -b_size, b_size)
    elif REDUCE == "l2":
        b_raw = tl.sqrt(tl.sum(b_sum, axis=0))
    else:
        b_raw = tl.sum(b_sum, axis=0)
    return b_raw  # (BLOCK_S,)


@triton.jit
def _normalise(
    p_raw, p_map, pixels, floor, ceiling, finite, SIGNED: tl.constexpr, CLIPPED: tl.constexpr
):
    """Bring an image's map to [0, 1] or [-1, 1].

    It is NaN everywhere if it is not finite everywhere.
    """
    span = tl.where(ceiling > floor, ceiling - floor, 1.0)
    for start in range(0, pixels, BLOCK_P):
        b_here = start + tl.arange(0, BLOCK_P)
        m_here = b_here < pixels
        b_value = tl.load(p_raw + b_here, mask=m_here, other=0.0, cache_modifier=".cg")
        b_extent = tl.abs(b_value)
        # The correctly rounded division: the fast one may give more than 1 at the ceiling.
        b_unit = tl.minimum(b_extent, ceiling) - floor
        b_unit = tl.div_rn(b_unit, span + tl.zeros_like(b_unit))
        if CLIPPED:
            # Where most of a map is equal, its percentile is its floor: what is above it, however
            # little, is 1 all the same.
            b_unit = tl.where(b_extent > ceiling, 1.0, b_unit)
        if SIGNED:
            b_unit = tl.where(b_value < 0, -b_unit, b_unit)
        b_unit = tl.where(finite, b_unit, float("nan"))
        tl.store(p_map + b_here, b_unit, mask=m_here)


@triton.jit
def gradient_map_kernel(
    p_gradient,  # (B, C, S) by strides
    p_inputs,  # (B, C, S) by strides, or None
    p_raw,  # (B, S) float32
    p_maps,  # (B, S) float32, or None: normalised maps are not wanted
    p_counters,  # (B, COUNTERS) int32 scratch, zero; or None
    p_tables,  # (B, UPPER + LOWER) int32 scratch; or None: no percentile is wanted
    channels,
    pixels,
    rank,  # of the value below the percentile, from 0; or None: maps end at their largest value
    fraction,  # how far the percentile lies on the way to the next value
    gradient_stride_b,
    gradient_stride_c,
    gradient_stride_s,
    inputs_stride_b,
    inputs_stride_c,
    inputs_stride_s,
    REDUCE: tl.constexpr,  # "max", "signed max", "sum", "absolute sum" or "l2"
    SIGNED: tl.constexpr,  # maps keep their sign
    INTERLEAVED: tl.constexpr,  # all channels of a pixel lie together, pixel after pixel
    FOURS: tl.constexpr,  # pixels are a multiple of four, so that vectors of the map fit
    TILE: tl.constexpr,  # see `_load`
):
    """Compute gradient saliency, reading every element of G and I once.

    With x = G or G·I: max_c |x_c| or the x_c behind it, Σ_c x_c, Σ_c |x_c| or √Σ_c x_c² (Simonyan
    et al. 2013, "Deep Inside Convolutional Networks", section 3). Then, without an ε, which would
    dim small gradients, (|x| - min) / (P - min), or x / P if maps keep their sign, within [-1, 1];
    P is the largest |x| or a percentile of |x|. A program owns BLOCK_S pixels of one image; the
    program that finishes last in an image finds the percentile and normalises them all.
    """
    BLOCK_S: tl.constexpr = TILE[1]
    if FOURS:
        pixels = pixels // 4 * 4  # the same number, of which the compiler now knows it too
    n_blocks = tl.cdiv(pixels, BLOCK_S)
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    start = block * BLOCK_S
    b_pixel = start + tl.arange(0, BLOCK_S)
    m_pixel = b_pixel < pixels
    p_gradient += image * gradient_stride_b
    if p_inputs is not None:
        p_inputs += image * inputs_stride_b
    p_raw += image * pixels
    b_raw = _reduce_channels(
        (p_gradient, gradient_stride_c, gradient_stride_s),
        (p_inputs, inputs_stride_c, inputs_stride_s),
        start, channels, pixels, REDUCE, INTERLEAVED, TILE,
    )  # fmt: skip
    tl.store(p_raw + b_pixel, b_raw, mask=m_pixel)

    if p_maps is not None:
        COUNTERS: tl.constexpr = COUNTS if rank is None else COUNTS + EXPONENTS
        p_counters += image * COUNTERS
        b_bits = b_raw.to(tl.int32, bitcast=True) & UNSIGNED
        high = tl.max(tl.where(m_pixel, b_bits, 0), axis=0)
        tl.atomic_max(p_counters + HIGH, high, sem="relaxed")
        low = tl.max(tl.where(m_pixel, INFINITY - b_bits, 0), axis=0)
        tl.atomic_max(p_counters + LOW, low, sem="relaxed")
        if rank is not None:
            count_exponents(p_counters + COUNTS, b_bits, m_pixel)
        if is_last(p_counters, n_blocks):
            # All of this comes from other cores, so it is read from the cache they share (`.cg`).
            high = tl.load(p_counters + HIGH, cache_modifier=".cg")
            low = INFINITY - tl.load(p_counters + LOW, cache_modifier=".cg")
            floor = low.to(tl.float32, bitcast=True)
            if SIGNED:
                floor = 0.0
            if rank is None:
                ceiling = high.to(tl.float32, bitcast=True)
            else:
                ceiling = percentile_of(
                    p_raw, p_counters + COUNTS, p_tables + image * (UPPER + LOWER), pixels,
                    rank, single(fraction), FOURS,
                )  # fmt: skip
            _normalise(
                p_raw, p_maps + image * pixels, pixels, floor, ceiling, high < INFINITY, SIGNED,
                rank is not None,
            )  # fmt: skip
