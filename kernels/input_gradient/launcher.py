"""The Triton kernel that reduces an input gradient to a map, and its launcher."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..launch.counters import zeroed
from ..launch.launcher_parts import Launch, Planes, planes
from ..launch.tiles import is_last, load_tile
from .percentile_kernel import (
    EXPONENTS,
    INFINITY,
    LOWER,
    UNSIGNED,
    UPPER,
    count_exponents,
    percentile_of,
)
from .reference import ranks


@dataclass(frozen=True)
class Shape:
    """How one program tiles its image: channels at a time by pixels, and its warps."""

    block_c: int
    block_s: int
    num_warps: int


# The number of channels and the layout alone choose, never the batch: an image gives the same
# bits in any batch.
#
# Colour images are read with all channels at once, 16 bytes a thread and load. Three channels side
# by side cannot be read as a vector, so such an image is read as the one long line that it is, and
# sorted into its channels afterwards (`_load_interleaved`).
COLOUR_IN_LINE = Shape(block_c=4, block_s=512, num_warps=8)
# Any other layout of a colour image costs an address for each element, so a tile is small.
COLOUR_STRIDED = Shape(block_c=4, block_s=128, num_warps=8)
# Gradients of inner layers: 32 channels of 16 bits are 64 bytes of channels-last memory, 64 pixels
# of 16 bits a full line of a contiguous one.
INNER_LAYER = Shape(block_c=32, block_s=64, num_warps=8)

# What the kernel calls a reduction, by the caller's name and by whether the result keeps its sign.
KERNEL_REDUCTIONS = {
    ("max", None): "max",
    ("max", False): "max",
    ("max", True): "signed max",
    ("sum", None): "sum",
    ("sum", False): "absolute sum",
    ("sum", True): "sum",
    ("l2", None): "l2",
    ("l2", False): "l2",
}

BLOCK_P = 2048  # pixels that the last program takes at a time

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
    """Load the tile (channel, pixel) from pixel `first` of an image whose channels lie together.

    The image is one line of memory, so it is read in vectors, and each element then fetched to its
    place; 3 channels are no power of two, which the compiler could have turned by itself.
    """
    b_place = tl.arange(0, BLOCK_C * BLOCK_S)
    n_tile = BLOCK_S * channels
    m_line = (b_place < n_tile) & (first * channels + b_place < pixels * channels)
    b_line = tl.load(p_image + first * channels + b_place, mask=m_line, other=0.0)
    b_channel = b_place % BLOCK_C
    # A tile of fewer channels than BLOCK_C ends in zeros: the first of them fills what is missing.
    b_from = tl.where(b_channel < channels, b_place // BLOCK_C * channels + b_channel, n_tile)
    b_tile = tl.gather(b_line, b_from, axis=0).reshape((BLOCK_S, BLOCK_C))
    return tl.trans(b_tile).to(tl.float32)


@triton.jit
def _load(
    p_image, first, start, channels, pixels, stride_c, stride_s, INTERLEAVED: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr, INT64: tl.constexpr,
):  # fmt: skip
    """Load the tile (channel, pixel) of one image as float32, zero beyond its edges."""
    if INTERLEAVED:  # then a tile holds all channels
        return _load_interleaved(p_image, start, channels, pixels, BLOCK_C, BLOCK_S)
    b_channel = first + tl.arange(0, BLOCK_C)
    b_pixel = start + tl.arange(0, BLOCK_S)
    if INT64:
        b_channel = b_channel.to(tl.int64)
        b_pixel = b_pixel.to(tl.int64)
    return load_tile(p_image, b_channel, b_pixel, channels, pixels, stride_c, stride_s)


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
    next_rank,  # of the value above it
    fraction,  # how far the percentile lies between the two
    gradient_stride_b,
    gradient_stride_c,
    gradient_stride_s,
    inputs_stride_b,
    inputs_stride_c,
    inputs_stride_s,
    REDUCE: tl.constexpr,  # "max", "signed max", "sum", "absolute sum" or "l2"
    SIGNED: tl.constexpr,  # maps keep their sign
    INTERLEAVED: tl.constexpr,  # all channels of a pixel lie together, pixel after pixel
    COUNTERS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_P: tl.constexpr,
    FOURS: tl.constexpr,  # pixels are a multiple of four, so that vectors of the map fit
    INT64: tl.constexpr,  # offsets inside an image pass 31 bits
):
    """Gradient saliency in one launch: every element of G, and of I, is read once.

    With x = G or G·I: max_c |x_c| or the x_c behind it, Σ_c x_c, Σ_c |x_c| or √Σ_c x_c² (Simonyan
    et al. 2013, "Deep Inside Convolutional Networks", section 3). Then, without an ε, which would
    dim small gradients, (|x| - min) / (P - min), or x / P if maps keep their sign, within [-1, 1];
    P is the largest |x| or a percentile of |x|. A program owns BLOCK_S pixels of one image; the
    program that finishes last in an image finds the percentile and normalises them all.
    """
    if FOURS:
        pixels = pixels // 4 * 4  # the same number, of which the compiler now knows it too
    n_blocks = tl.cdiv(pixels, BLOCK_S)
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    start = block * BLOCK_S
    b_pixel = start + tl.arange(0, BLOCK_S)  # (BLOCK_S,)
    m_pixel = b_pixel < pixels
    p_gradient += image * gradient_stride_b
    p_raw += image * pixels

    if REDUCE == "max" or REDUCE == "signed max":
        b_most = tl.full((BLOCK_C, BLOCK_S), -1, tl.int32)
        b_whose = tl.zeros((BLOCK_C, BLOCK_S), tl.int32)
    else:
        b_sum = tl.zeros((BLOCK_C, BLOCK_S), tl.float32)
    for first in range(0, channels, BLOCK_C):
        b_value = _load(
            p_gradient, first, start, channels, pixels, gradient_stride_c, gradient_stride_s,
            INTERLEAVED, BLOCK_C, BLOCK_S, INT64,
        )  # fmt: skip
        if p_inputs is not None:
            b_value *= _load(
                p_inputs + image * inputs_stride_b, first, start, channels, pixels,
                inputs_stride_c, inputs_stride_s, INTERLEAVED, BLOCK_C, BLOCK_S, INT64,
            )  # fmt: skip
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
    tl.store(p_raw + b_pixel, b_raw, mask=m_pixel)

    if p_maps is not None:
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
                    rank, next_rank, fraction, BLOCK_P, FOURS,
                )  # fmt: skip
            span = tl.where(ceiling > floor, ceiling - floor, 1.0)
            for here in range(0, pixels, BLOCK_P):
                b_here = here + tl.arange(0, BLOCK_P)
                m_here = b_here < pixels
                b_value = tl.load(p_raw + b_here, mask=m_here, other=0.0, cache_modifier=".cg")
                b_extent = tl.abs(b_value)
                # The correctly rounded division: the fast one may give more than 1 at the ceiling.
                b_unit = tl.minimum(b_extent, ceiling) - floor
                b_unit = tl.div_rn(b_unit, span + tl.zeros_like(b_unit))
                if rank is not None:
                    # Where most of a map is equal, its percentile is its floor: what is above it,
                    # however little, is 1 all the same.
                    b_unit = tl.where(b_extent > ceiling, 1.0, b_unit)
                if SIGNED:
                    b_unit = tl.where(b_value < 0, -b_unit, b_unit)
                b_unit = tl.where(high < INFINITY, b_unit, float("nan"))
                tl.store(p_maps + image * pixels + b_here, b_unit, mask=m_here)


def _shape(gradient: Planes, inputs: Planes) -> tuple[Shape, bool]:
    """Choose the tile, and say whether images are read as one line of pixels."""
    channels = gradient.tensor.shape[1]
    if channels > 4:
        return INNER_LAYER, False
    strides = [(one.stride_c, one.stride_s) for one in (gradient, inputs)]
    far = gradient.needs_int64 or inputs.needs_int64
    if channels > 1 and not far and strides == [(1, channels)] * 2:
        return COLOUR_IN_LINE, True
    in_order = gradient.stride_s == inputs.stride_s == 1
    return COLOUR_IN_LINE if in_order else COLOUR_STRIDED, False


def plan(
    gradient: Tensor,
    inputs: Tensor | None,
    reduce: str,
    *,
    signed: bool | None = None,
    maps: bool,
    percentile: float = 100.0,
) -> tuple[Launch, Tensor, Tensor | None]:
    """Choose the launch for checked tensors and allocate what it writes.

    Scratch belongs to this call alone, so that calls on several streams never meet.

    Args:
        gradient: (B, C, H, W), float32, float16 or bfloat16.
        inputs: The same shape, dtype and device, or None; the layout may differ.
        reduce: "max", "sum" or "l2".
        signed: Whether maps keep their sign, or None for the reduction's own way.
        maps: Whether normalised maps are wanted beside the raw ones.
        percentile: Of |map|; where normalised maps end, from 0 to 100, the largest value.

    Returns:
        The launch, not yet run, and what it will fill: the raw maps (B, H, W), and the normalised
        ones (B, H, W) if they are wanted.
    """
    images, channels, height, width = gradient.shape
    pixels = height * width
    g = planes(gradient)
    x = g if inputs is None else planes(inputs)
    shape, interleaved = _shape(g, x)
    clipped = maps and percentile < 100
    rank, next_rank, fraction = ranks(pixels, percentile) if clipped else (None, None, None)
    counters = COUNTS.value + (EXPONENTS.value if clipped else 0)
    table = UPPER.value + LOWER.value

    def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(size, dtype=dtype, device=gradient.device)

    size = 4 * images * pixels  # bytes of a float32 map of each image
    raw = empty(images, height, width)
    normalised = empty(images, height, width) if maps else None
    reads = {"p_gradient": gradient.numel() * gradient.element_size()}
    writes = {"p_raw": size}
    if inputs is not None:
        reads["p_inputs"] = inputs.numel() * inputs.element_size()
    if maps:
        reads["p_raw"] = size
        reads["p_counters"] = 4 * images * 2
        writes["p_maps"] = size
    if clipped:
        # A percentile takes two walks over the map, and looks up two ranks in the last table.
        reads["p_raw"] += 2 * size
        reads["p_counters"] += 4 * images * EXPONENTS.value
        reads["p_tables"] = 4 * images * (table + LOWER.value)
        writes["p_tables"] = 4 * images * table
    launch = Launch(
        kernel=gradient_map_kernel,
        grid=(images * triton.cdiv(pixels, shape.block_s),),
        arguments={
            "p_gradient": g.tensor,
            "p_inputs": None if inputs is None else x.tensor,
            "p_raw": raw,
            "p_maps": normalised,
            "p_counters": zeroed(images * counters, gradient) if maps else None,
            "p_tables": empty(images, table, dtype=torch.int32) if clipped else None,
            "channels": channels,
            "pixels": pixels,
            "rank": rank,
            "next_rank": next_rank,
            "fraction": fraction,
            "gradient_stride_b": g.stride_b,
            "gradient_stride_c": g.stride_c,
            "gradient_stride_s": g.stride_s,
            "inputs_stride_b": x.stride_b,
            "inputs_stride_c": x.stride_c,
            "inputs_stride_s": x.stride_s,
            "REDUCE": KERNEL_REDUCTIONS[reduce, signed],
            "SIGNED": bool(signed),
            "INTERLEAVED": interleaved,
            "COUNTERS": counters,
            "BLOCK_C": shape.block_c,
            "BLOCK_S": shape.block_s,
            "BLOCK_P": BLOCK_P,
            "FOURS": pixels % 4 == 0,
            "INT64": g.needs_int64 or x.needs_int64,
        },
        num_warps=shape.num_warps,
        reads=reads,
        writes=writes,
        scratch=("p_counters",) * maps + ("p_tables",) * clipped,
        # Four programs share a core then; without a percentile more do, if the compiler is left be.
        max_registers=64 if clipped else None,
    )
    return launch, raw, normalised
