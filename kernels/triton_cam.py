"""The Triton kernel of the gradient-CAM rules, and its launcher. Imported only with Triton."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.launch import Launch, Results, planes
from kernels.triton_parts import count_bad, highest, is_last, load_tile, lowest, to_unit


@dataclass(frozen=True)
class Shape:
    """How one program tiles its image: channels by pixels, and the warps that share a tile."""

    most_pixels: float
    block_c: int
    block_s: int
    block_p: int  # partial maps that the last program sums at a time
    num_warps: int


# The number of pixels alone chooses, never the batch: an image gives the same bits in any batch.
# A tile holds 2048 to 8192 elements, 16 to 32 a thread, of A and of G at once: enough loads in
# flight to cover the memory's latency, few enough registers to keep several programs on a core.
SHAPES = (
    # 1×1 to 4×4 (a last layer of small inputs, pooled features): width goes into the channels,
    # which are many there.
    Shape(most_pixels=16, block_c=128, block_s=16, block_p=16, num_warps=4),
    # 7×7 and 8×8 (the usual last layer at 224 and 256 pixels): one tile holds the whole plane,
    # and 64 channels of 16 bits are one full 128-byte line of channels-last memory.
    Shape(most_pixels=64, block_c=64, block_s=64, block_p=16, num_warps=4),
    # 14×14 and 16×16 (vision transformers, the stage before last): still one tile, on more warps.
    Shape(most_pixels=256, block_c=32, block_s=256, block_p=16, num_warps=8),
    # Anything larger is walked in chunks. Few channels a program, because early layers have few
    # in all and the number of programs must not fall below what fills a GPU; 16 channels of
    # 16 bits are one 32-byte sector of channels-last memory, the least that is worth fetching.
    # Few partial maps at a time, because more made the compiler spill registers.
    Shape(most_pixels=float("inf"), block_c=16, block_s=256, block_p=4, num_warps=4),
)


@triton.jit
def _sum_partials(p_partials, b_pixel, n_blocks, pixels, BLOCK_P: tl.constexpr):
    """Sum one image's partial maps over its programs, always in the same order.

    The partials come from other cores, so they are read from the cache they share (`.cg`).
    """
    b_sum = tl.zeros((BLOCK_P, b_pixel.shape[0]), tl.float32)
    for first in range(0, n_blocks, BLOCK_P):
        b_part = first + tl.arange(0, BLOCK_P).to(tl.int64)
        m_part = (b_part[:, None] < n_blocks) & (b_pixel[None, :] < pixels)
        p_part = p_partials + b_part[:, None] * pixels + b_pixel[None, :]
        b_sum += tl.load(p_part, mask=m_part, other=0.0, cache_modifier=".cg")
    return tl.sum(b_sum, axis=0)  # (BLOCK_S,)


@triton.jit
def gradcam_kernel(
    p_activations,  # (B, C, S) by strides
    p_gradients,  # (B, C, S) by strides
    p_maps,  # (B, S) float32, or None: normalised maps are not wanted
    p_signed,  # (B, S) float32, or None: signed maps are not wanted
    p_weights,  # (B, C) float32, or None: weights are not wanted
    p_partials,  # (B, n_blocks, S) float32 scratch
    p_counters,  # (B,) int32 scratch, zero
    channels,
    pixels,
    activations_stride_b,
    activations_stride_c,
    activations_stride_s,
    gradients_stride_b,
    gradients_stride_c,
    gradients_stride_s,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ONE_CHUNK: tl.constexpr,  # the whole plane fits in BLOCK_S pixels
    INT64: tl.constexpr,  # offsets inside an image pass 31 bits
):
    """Grad-CAM in one launch: every element of A and G is read once.

    w_c = mean_s G_cs; map_s = Σ_c w_c A_cs (Selvaraju et al. 2017, "Grad-CAM", eq. 1 and 2), then
    ReLU and pytorch-grad-cam's min-max, (x - min) / (1e-7 + (max - min)). A program owns BLOCK_C
    channels of one image and writes their part of the map; the program that finishes last in an
    image sums the parts in a fixed order and normalises, so the result has the same bits whoever
    is last. Sums accumulate in float32.
    """
    n_blocks = tl.cdiv(channels, BLOCK_C)
    image = (tl.program_id(0) // n_blocks).to(tl.int64)
    block = tl.program_id(0) % n_blocks
    b_channel = block * BLOCK_C + tl.arange(0, BLOCK_C)  # (BLOCK_C,)
    b_pixel = tl.arange(0, BLOCK_S)  # (BLOCK_S,)
    if INT64:
        b_channel = b_channel.to(tl.int64)
        b_pixel = b_pixel.to(tl.int64)
    p_activations += image * activations_stride_b
    p_gradients += image * gradients_stride_b
    p_partials += image * n_blocks * pixels
    p_partial = p_partials + block.to(tl.int64) * pixels

    if ONE_CHUNK:
        b_gradient = load_tile(
            p_gradients, b_channel, b_pixel, channels, pixels, gradients_stride_c,
            gradients_stride_s,
        )  # fmt: skip
        # Read A before the sum over G waits for its own loads: both are then on their way.
        b_activation = load_tile(
            p_activations, b_channel, b_pixel, channels, pixels, activations_stride_c,
            activations_stride_s,
        )  # fmt: skip
        b_weight = tl.sum(b_gradient, axis=1) / pixels  # (BLOCK_C,)
        b_part = tl.sum(b_weight[:, None] * b_activation, axis=0)  # (BLOCK_S,)
        tl.store(p_partial + b_pixel, b_part, mask=b_pixel < pixels)
    else:
        b_sum = tl.zeros((BLOCK_C, BLOCK_S), tl.float32)
        for start in range(0, pixels, BLOCK_S):
            b_sum += load_tile(
                p_gradients, b_channel, start + b_pixel, channels, pixels, gradients_stride_c,
                gradients_stride_s,
            )  # fmt: skip
        b_weight = tl.sum(b_sum, axis=1) / pixels  # (BLOCK_C,)
        for start in range(0, pixels, BLOCK_S):
            b_activation = load_tile(
                p_activations, b_channel, start + b_pixel, channels, pixels, activations_stride_c,
                activations_stride_s,
            )  # fmt: skip
            b_part = tl.sum(b_weight[:, None] * b_activation, axis=0)  # (BLOCK_S,)
            tl.store(p_partial + start + b_pixel, b_part, mask=start + b_pixel < pixels)

    if p_weights is not None:
        tl.store(p_weights + image * channels + b_channel, b_weight, mask=b_channel < channels)

    if is_last(p_counters + image, n_blocks):
        if ONE_CHUNK:
            b_map = _sum_partials(p_partials, b_pixel, n_blocks, pixels, BLOCK_P)
            m_pixel = b_pixel < pixels
            if p_signed is not None:
                tl.store(p_signed + image * pixels + b_pixel, b_map, mask=m_pixel)
            if p_maps is not None:
                b_positive = tl.maximum(b_map, 0.0)
                low = lowest(b_positive, m_pixel)
                high = highest(b_positive, m_pixel)
                n_bad = count_bad(b_map, m_pixel)  # of the signed map: ReLU would hide NaN, -Inf
                b_unit = to_unit(b_positive, low, 1e-7 + (high - low), n_bad)
                tl.store(p_maps + image * pixels + b_pixel, b_unit, mask=m_pixel)
        else:
            low = float("inf")
            high = 0.0
            n_bad = 0
            for start in range(0, pixels, BLOCK_S):
                b_here = start + b_pixel
                m_pixel = b_here < pixels
                b_map = _sum_partials(p_partials, b_here, n_blocks, pixels, BLOCK_P)
                if p_signed is not None:
                    tl.store(p_signed + image * pixels + b_here, b_map, mask=m_pixel)
                if p_maps is not None:
                    b_positive = tl.maximum(b_map, 0.0)
                    tl.store(p_maps + image * pixels + b_here, b_positive, mask=m_pixel)
                    low = tl.minimum(low, lowest(b_positive, m_pixel))
                    high = tl.maximum(high, highest(b_positive, m_pixel))
                    n_bad += count_bad(b_map, m_pixel)
            if p_maps is not None:
                tl.debug_barrier()  # what one thread stored above, another may read below
                for start in range(0, pixels, BLOCK_S):
                    b_here = start + b_pixel
                    m_pixel = b_here < pixels
                    b_positive = tl.load(p_maps + image * pixels + b_here, mask=m_pixel, other=0.0)
                    b_unit = to_unit(b_positive, low, 1e-7 + (high - low), n_bad)
                    tl.store(p_maps + image * pixels + b_here, b_unit, mask=m_pixel)


def plan(
    activations: Tensor, gradients: Tensor, *, maps: bool, signed: bool, weights: bool
) -> tuple[Launch, Results]:
    """Choose the launch for Grad-CAM on checked tensors and allocate what it writes.

    Scratch belongs to this call alone, so that calls on several streams never meet.

    Args:
        activations: (B, C, h, w), float32, float16 or bfloat16.
        gradients: The same shape, dtype and device; the layout may differ.
        maps: Whether normalised maps are wanted.
        signed: Whether signed maps are wanted.
        weights: Whether channel weights are wanted.

    Returns:
        The launch, not yet run, and the tensors it will fill.
    """
    images, channels, height, width = activations.shape
    pixels = height * width
    shape = next(shape for shape in SHAPES if pixels <= shape.most_pixels)
    n_blocks = triton.cdiv(channels, shape.block_c)
    a, g = planes(activations), planes(gradients)

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=torch.float32, device=activations.device)

    results = Results(
        maps=empty(images, 1, height, width) if maps else None,
        signed=empty(images, 1, height, width) if signed else None,
        weights=empty(images, 1, channels) if weights else None,
    )
    launch = Launch(
        kernel=gradcam_kernel,
        grid=(images * n_blocks,),
        arguments={
            "p_activations": a.tensor,
            "p_gradients": g.tensor,
            "p_maps": results.maps,
            "p_signed": results.signed,
            "p_weights": results.weights,
            "p_partials": empty(images, n_blocks, pixels),
            "p_counters": torch.zeros(images, dtype=torch.int32, device=activations.device),
            "channels": channels,
            "pixels": pixels,
            "activations_stride_b": a.stride_b,
            "activations_stride_c": a.stride_c,
            "activations_stride_s": a.stride_s,
            "gradients_stride_b": g.stride_b,
            "gradients_stride_c": g.stride_c,
            "gradients_stride_s": g.stride_s,
            "BLOCK_C": shape.block_c,
            "BLOCK_S": shape.block_s,
            "BLOCK_P": shape.block_p,
            "ONE_CHUNK": pixels <= shape.block_s,
            "INT64": a.needs_int64 or g.needs_int64,
        },
        num_warps=shape.num_warps,
    )
    return launch, results
