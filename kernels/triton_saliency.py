"""The Triton kernel that reduces an input gradient to a map, and its launcher."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import Launch, planes
from kernels.triton_parts import count_bad, highest, is_last, load_tile, lowest, to_unit


@dataclass(frozen=True)
class Shape:
    """How one program tiles its image: channels at a time by pixels, and its warps."""

    most_channels: float
    block_c: int
    block_s: int
    num_warps: int


# The number of channels alone chooses, never the batch: an image gives the same bits in any batch.
SHAPES = (
    # Colour images: all channels at once, and four pixels of each a thread. Three channels side by
    # side cannot be read as a vector, so every element costs an address: a wider tile takes all
    # registers.
    Shape(most_channels=4, block_c=4, block_s=512, num_warps=4),
    # Gradients of inner layers: 32 channels of 16 bits are 64 bytes of channels-last memory,
    # 64 pixels of 16 bits a full line of a contiguous one.
    Shape(most_channels=float("inf"), block_c=32, block_s=64, num_warps=4),
)

BLOCK_P = 1024  # partial ranges, or pixels, that the last program takes at a time


@triton.jit
def gradient_map_kernel(
    p_gradient,  # (B, C, S) by strides
    p_inputs,  # (B, C, S) by strides, or None
    p_raw,  # (B, S) float32
    p_maps,  # (B, S) float32, or None: normalised maps are not wanted
    p_ranges,  # (B, 2, n_blocks) float32 scratch: lowest, highest; or None
    p_bad,  # (B, n_blocks) int32 scratch: how many are not finite; or None
    p_counters,  # (B,) int32 scratch, zero; or None
    channels,
    pixels,
    gradient_stride_b,
    gradient_stride_c,
    gradient_stride_s,
    inputs_stride_b,
    inputs_stride_c,
    inputs_stride_s,
    REDUCE: tl.constexpr,  # "max", "sum" or "l2"
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_P: tl.constexpr,
    INT64: tl.constexpr,  # offsets inside an image pass 31 bits
):
    """Gradient saliency in one launch: every element of G, and of I, is read once.

    With x = G or G·I: max_c |x_c|, Σ_c x_c or √Σ_c x_c² (Simonyan et al. 2013, "Deep Inside
    Convolutional Networks", section 3), then min-max of its absolute value, without an ε, which
    would dim small gradients. A program owns BLOCK_S pixels of one image; the program that
    finishes last in an image normalises them all.
    """
    n_blocks = tl.cdiv(pixels, BLOCK_S)
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    b_pixel = block * BLOCK_S + tl.arange(0, BLOCK_S)  # (BLOCK_S,)
    b_channel = tl.arange(0, BLOCK_C)  # (BLOCK_C,)
    if INT64:
        b_pixel = b_pixel.to(tl.int64)
        b_channel = b_channel.to(tl.int64)
    m_pixel = b_pixel < pixels
    p_gradient += image * gradient_stride_b
    p_raw += image * pixels

    if REDUCE == "max":
        b_bits = tl.zeros((BLOCK_C, BLOCK_S), tl.int32)
    else:
        b_sum = tl.zeros((BLOCK_C, BLOCK_S), tl.float32)
    for first in range(0, channels, BLOCK_C):
        b_value = load_tile(
            p_gradient, first + b_channel, b_pixel, channels, pixels, gradient_stride_c,
            gradient_stride_s,
        )  # fmt: skip
        if p_inputs is not None:
            b_value *= load_tile(
                p_inputs + image * inputs_stride_b, first + b_channel, b_pixel, channels, pixels,
                inputs_stride_c, inputs_stride_s,
            )  # fmt: skip
        if REDUCE == "max":
            # The bits of floats without sign are ordered like the floats, with NaN above Inf:
            # their integer maximum keeps the NaN that a maximum of floats would drop.
            b_bits = tl.maximum(b_bits, tl.abs(b_value).to(tl.int32, bitcast=True))
        elif REDUCE == "sum":
            b_sum += b_value
        else:
            b_sum += b_value * b_value
    if REDUCE == "max":
        b_raw = tl.max(b_bits, axis=0).to(tl.float32, bitcast=True)  # (BLOCK_S,)
    elif REDUCE == "sum":
        b_raw = tl.sum(b_sum, axis=0)
    else:
        b_raw = tl.sqrt(tl.sum(b_sum, axis=0))
    tl.store(p_raw + b_pixel, b_raw, mask=m_pixel)

    if p_maps is not None:
        p_low = p_ranges + image * 2 * n_blocks
        p_high = p_low + n_blocks
        p_bad += image * n_blocks
        tl.store(p_low + block, lowest(tl.abs(b_raw), m_pixel))
        tl.store(p_high + block, highest(tl.abs(b_raw), m_pixel))
        tl.store(p_bad + block, count_bad(b_raw, m_pixel))
        if is_last(p_counters + image, n_blocks):
            # All of this comes from other cores, so it is read from the cache they share (`.cg`).
            low = float("inf")
            high = 0.0
            n_bad = 0
            for first in range(0, n_blocks, BLOCK_P):
                b_part = first + tl.arange(0, BLOCK_P)
                m_part = b_part < n_blocks
                b_low = tl.load(p_low + b_part, mask=m_part, other=0.0, cache_modifier=".cg")
                b_high = tl.load(p_high + b_part, mask=m_part, other=0.0, cache_modifier=".cg")
                b_bad = tl.load(p_bad + b_part, mask=m_part, other=0, cache_modifier=".cg")
                low = tl.minimum(low, lowest(b_low, m_part))
                high = tl.maximum(high, highest(b_high, m_part))
                n_bad += tl.sum(b_bad, axis=0)
            span = tl.where(high > low, high - low, 1.0)
            for start in range(0, pixels, BLOCK_P):
                b_here = start + tl.arange(0, BLOCK_P)
                m_here = b_here < pixels
                b_value = tl.load(p_raw + b_here, mask=m_here, other=0.0, cache_modifier=".cg")
                b_unit = to_unit(tl.abs(b_value), low, span, n_bad)
                tl.store(p_maps + image * pixels + b_here, b_unit, mask=m_here)


def plan(
    gradient: Tensor, inputs: Tensor | None, reduce: str, *, maps: bool
) -> tuple[Launch, Tensor, Tensor | None]:
    """Choose the launch for checked tensors and allocate what it writes.

    Scratch belongs to this call alone, so that calls on several streams never meet.

    Args:
        gradient: (B, C, H, W), float32, float16 or bfloat16.
        inputs: The same shape, dtype and device, or None; the layout may differ.
        reduce: "max", "sum" or "l2".
        maps: Whether normalised maps are wanted beside the raw ones.

    Returns:
        The launch, not yet run, and what it will fill: the raw maps (B, H, W), and the normalised
        ones (B, H, W) if they are wanted.
    """
    images, channels, height, width = gradient.shape
    pixels = height * width
    shape = next(shape for shape in SHAPES if channels <= shape.most_channels)
    n_blocks = triton.cdiv(pixels, shape.block_s)
    g = planes(gradient)
    x = g if inputs is None else planes(inputs)

    def empty(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(size, dtype=dtype, device=gradient.device)

    raw = empty(images, height, width)
    normalised = empty(images, height, width) if maps else None
    launch = Launch(
        kernel=gradient_map_kernel,
        grid=(images * n_blocks,),
        arguments={
            "p_gradient": g.tensor,
            "p_inputs": None if inputs is None else x.tensor,
            "p_raw": raw,
            "p_maps": normalised,
            "p_ranges": empty(images, 2, n_blocks) if maps else None,
            "p_bad": empty(images, n_blocks, dtype=torch.int32) if maps else None,
            "p_counters": (
                torch.zeros(images, dtype=torch.int32, device=gradient.device) if maps else None
            ),
            "channels": channels,
            "pixels": pixels,
            "gradient_stride_b": g.stride_b,
            "gradient_stride_c": g.stride_c,
            "gradient_stride_s": g.stride_s,
            "inputs_stride_b": x.stride_b,
            "inputs_stride_c": x.stride_c,
            "inputs_stride_s": x.stride_s,
            "REDUCE": reduce,
            "BLOCK_C": shape.block_c,
            "BLOCK_S": shape.block_s,
            "BLOCK_P": BLOCK_P,
            "INT64": g.needs_int64 or x.needs_int64,
        },
        num_warps=shape.num_warps,
    )
    return launch, raw, normalised
