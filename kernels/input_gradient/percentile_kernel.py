"""Find the exact percentile of a map inside a Triton kernel."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

# A float without sign is a whole number of 31 bits, in the same order. The percentile is found
# digit by digit: the exponent, then the mantissa's upper 12 and lower 11 bits.
UPPER_BITS = tl.constexpr(12)
LOWER_BITS = tl.constexpr(11)
EXPONENTS = tl.constexpr(2**8)
UPPER = tl.constexpr(2**12)
LOWER = tl.constexpr(2**11)

BLOCK_P = tl.constexpr(2048)  # pixels of the map that are taken at a time

INFINITY = tl.constexpr(0x7F800000)  # its bits
UNSIGNED = tl.constexpr(0x7FFFFFFF)  # all bits but that of the sign


@triton.jit
def count_exponents(p_counts, b_bits, m_bits):
    """Add one program's values to the counts of the exponents, (EXPONENTS,) int32.

    Few exponents occur in one image, so counts are gathered here before they are added.
    """
    b_count = tl.histogram(b_bits >> (UPPER_BITS + LOWER_BITS), EXPONENTS, mask=m_bits)
    tl.atomic_add(p_counts + tl.arange(0, EXPONENTS), b_count, mask=b_count > 0, sem="relaxed")


@triton.jit
def _locate(p_table, rank, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """Find the bin that holds a rank, and the count before it.

    A rank past all values gives BINS.
    """
    digit = 0
    before = 0
    total = 0
    for first in range(0, BINS, BLOCK):
        b_count = tl.load(p_table + first + tl.arange(0, BLOCK), cache_modifier=".cg")
        b_upto = total + tl.cumsum(b_count, axis=0)
        m_below = b_upto <= rank
        digit += tl.sum(m_below.to(tl.int32), axis=0)
        before = tl.maximum(before, tl.max(tl.where(m_below, b_upto, 0), axis=0))
        total += tl.sum(b_count, axis=0)
    return digit, before


@triton.jit
def _load_bits(p_raw, start, pixels, FOURS: tl.constexpr):
    """Load the bits of a stretch's absolute values, -1 past the end.

    What is loaded in vectors comes in the order in which every thread keeps its own values when it
    goes on to the scattered counters: in the map's order, they would have to change threads.
    """
    b_here = start + tl.arange(0, BLOCK_P)
    m_here = b_here < pixels
    b_value = tl.load(p_raw + b_here, mask=m_here, other=0.0, cache_modifier=".cg")
    b_bits = tl.where(m_here, b_value.to(tl.int32, bitcast=True) & UNSIGNED, -1)
    if FOURS:
        b_bits = tl.trans(b_bits.reshape((BLOCK_P // 4, 4))).reshape((BLOCK_P,))
    return b_bits


@triton.jit
def percentile_of(
    p_raw,  # (S,) float32, the map
    p_counts,  # (EXPONENTS,) int32, how many of its values have each exponent
    p_tables,  # (UPPER + LOWER,) int32 scratch
    pixels,
    rank,
    fraction,
    FOURS: tl.constexpr,
):
    """Interpolate between the map's magnitudes at two neighbouring ranks.

    One program does it, once all others of the image have counted their exponents. It counts the
    two other digits itself, each from the values that agree with the percentile in all digits
    before. Counts do not depend on the order of counting, so the result has the same bits every
    time.
    """
    for first in range(0, UPPER + LOWER, LOWER):
        p_empty = p_tables + first + tl.arange(0, LOWER)
        tl.store(p_empty, tl.zeros((LOWER,), tl.int32))
    tl.debug_barrier()  # what one thread stores or counts, another reads after a barrier

    next_rank = tl.minimum(rank + 1, pixels - 1)
    p_upper = p_tables
    p_lower = p_tables + UPPER
    exponent, before = _locate(p_counts, rank, EXPONENTS, EXPONENTS)
    rank -= before
    next_rank -= before
    for start in range(0, pixels, BLOCK_P):
        b_bits = _load_bits(p_raw, start, pixels, FOURS)
        m_same = b_bits >> (UPPER_BITS + LOWER_BITS) == exponent
        b_digit = (b_bits >> LOWER_BITS) & (UPPER - 1)
        tl.atomic_add(p_upper + b_digit, 1, mask=m_same, sem="relaxed")
    tl.debug_barrier()

    upper, before = _locate(p_upper, rank, UPPER, LOWER // 2)
    rank -= before
    next_rank -= before
    prefix = (exponent << UPPER_BITS) | upper
    b_above = tl.full((BLOCK_P,), INFINITY, tl.int32)  # the smallest values past the prefix
    for start in range(0, pixels, BLOCK_P):
        b_bits = _load_bits(p_raw, start, pixels, FOURS)
        m_same = b_bits >> LOWER_BITS == prefix
        tl.atomic_add(p_lower + (b_bits & (LOWER - 1)), 1, mask=m_same, sem="relaxed")
        m_above = b_bits >> LOWER_BITS > prefix
        b_above = tl.where(m_above, tl.minimum(b_above, b_bits), b_above)
    above = tl.min(b_above, axis=0)
    tl.debug_barrier()

    lower, _ = _locate(p_lower, rank, LOWER, LOWER // 2)
    next_lower, _ = _locate(p_lower, next_rank, LOWER, LOWER // 2)
    bits = (prefix << LOWER_BITS) | lower
    next_bits = tl.where(next_lower < LOWER, (prefix << LOWER_BITS) | next_lower, above)
    value = bits.to(tl.float32, bitcast=True)
    return value + (next_bits.to(tl.float32, bitcast=True) - value) * fraction
