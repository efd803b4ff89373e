"""The gradient-CAM kernel for planes too large for one tile."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import count_bad, highest, is_last, load_tile, lowest, to_unit, widen
from .rule_equations import (
    ELEMENTWISE,
    GRADCAM,
    GRADCAM_PLUS_PLUS,
    HIRESCAM,
    LAYERCAM,
    XGRADCAM,
    at,
    has,
    plus_plus_terms,
    position_part,
    rule_at,
    xgradcam_weights,
)


@triton.jit
def _add_sum(p_sum, m_channel, b_more, start):
    """Add a chunk's sums over its pixels to those before it.

    In registers every thread of a channels-last tile would carry the sums of eight channels.
    """
    b_before = tl.load(p_sum, mask=m_channel & (start > 0), other=0.0)
    tl.store(p_sum, b_before + b_more, mask=m_channel)


@triton.jit
def _sum_parts(p_parts, b_pixel, n_parts, pixels, K: tl.constexpr, BLOCK_P: tl.constexpr):
    """Sum a rule's partial maps over programs, in a fixed order."""
    b_sum = tl.zeros((BLOCK_P, b_pixel.shape[0]), tl.float32)
    for start in range(0, n_parts, BLOCK_P):
        b_from = start + tl.arange(0, BLOCK_P).to(tl.int64)
        m_from = (b_from[:, None] < n_parts) & (b_pixel[None, :] < pixels)
        p_from = p_parts + b_from[:, None] * (K * pixels) + b_pixel[None, :]
        # The partials come from other cores: read the cache that they share (`.cg`).
        b_sum += tl.load(p_from, mask=m_from, other=0.0, cache_modifier=".cg")
    return tl.sum(b_sum, axis=0)  # (BLOCK_S,)


@triton.jit
def _sum_and_weigh_positions(
    activations, gradients, p_sums, p_part, b_channel, b_pixel, channels, pixels,
    CODE: tl.constexpr, K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Walk the planes once for sums and position-weighted maps.

    The sums are ΣA, ΣG and ΣAG; the maps are those of rules that weigh every position.
    """
    SUMS_G: tl.constexpr = has(CODE, K, GRADCAM)
    SUMS_AG: tl.constexpr = has(CODE, K, XGRADCAM)
    SUMS_A: tl.constexpr = has(CODE, K, XGRADCAM, GRADCAM_PLUS_PLUS)
    POSITIONS: tl.constexpr = has(CODE, K, LAYERCAM, HIRESCAM, ELEMENTWISE)
    m_channel = b_channel < channels
    for start in tl.range(0, pixels, BLOCK_S, disable_licm=True):
        b_here = start + b_pixel
        if SUMS_G or SUMS_AG or POSITIONS:
            b_gradient = load_tile(gradients, b_channel, b_here, channels, pixels)
        if SUMS_A or POSITIONS:
            b_activation = load_tile(activations, b_channel, b_here, channels, pixels)
        if SUMS_G or SUMS_A:
            for row in tl.range(0, 3, disable_licm=True):
                b_more = tl.zeros((BLOCK_C,), tl.float32)
                if SUMS_A:
                    if row == 0:
                        b_more = tl.sum(b_activation, axis=1)
                if SUMS_G:
                    if row == 1:
                        b_more = tl.sum(b_gradient, axis=1)
                if SUMS_AG:
                    if row == 2:
                        b_more = tl.sum(b_activation * b_gradient, axis=1)
                _add_sum(p_sums + row * channels + b_channel, m_channel, b_more, start)
        if POSITIONS:
            for k in tl.range(0, K, disable_licm=True):
                rule = rule_at(CODE, k)
                if rule > GRADCAM_PLUS_PLUS:
                    b_part = position_part(rule, b_activation, b_gradient)
                    tl.store(p_part + k * pixels + b_here, b_part, mask=b_here < pixels)
        tl.debug_barrier()  # what one thread stored, another may load


@triton.jit
def _store_weights(
    gradients, p_sums, p_weights, b_channel, b_pixel, channels, pixels,
    CODE: tl.constexpr, K: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Compute the channel weights from the sums.

    Grad-CAM++ walks the gradients for them.
    """
    m_channel = b_channel < channels
    b_plus_plus = tl.zeros((BLOCK_C,), tl.float32)
    if has(CODE, K, GRADCAM_PLUS_PLUS):
        b_sum_a = tl.load(p_sums + b_channel, mask=m_channel, other=0.0)
        for start in tl.range(0, pixels, BLOCK_S, disable_licm=True):
            b_gradient = load_tile(gradients, b_channel, start + b_pixel, channels, pixels)
            b_plus_plus += tl.sum(plus_plus_terms(b_gradient, b_sum_a), axis=1)
    for k in tl.static_range(K):
        if at(CODE, k) == GRADCAM:
            b_weight = tl.load(p_sums + channels + b_channel, mask=m_channel, other=0.0) / pixels
        elif at(CODE, k) == XGRADCAM:
            b_weight = xgradcam_weights(
                tl.load(p_sums + 2 * channels + b_channel, mask=m_channel, other=0.0),
                tl.load(p_sums + b_channel, mask=m_channel, other=0.0),
            )
        elif at(CODE, k) == GRADCAM_PLUS_PLUS:
            b_weight = b_plus_plus
        else:
            b_weight = tl.full((BLOCK_C,), float("nan"), tl.float32)
        tl.store(p_weights + k * channels + b_channel, b_weight, mask=m_channel)


@triton.jit
def _weigh_channels(
    activations, p_weights, p_part, b_channel, b_pixel, channels, pixels,
    CODE: tl.constexpr, K: tl.constexpr, BLOCK_S: tl.constexpr,
):  # fmt: skip
    """Walk the activations for the maps Σ_c w_c A_cs."""
    for start in tl.range(0, pixels, BLOCK_S, disable_licm=True):
        b_here = start + b_pixel
        b_activation = load_tile(activations, b_channel, b_here, channels, pixels)
        for k in tl.range(0, K, disable_licm=True):
            if rule_at(CODE, k) <= GRADCAM_PLUS_PLUS:
                p_weight = p_weights + k * channels + b_channel
                b_weight = tl.load(p_weight, mask=b_channel < channels, other=0.0)
                b_part = tl.sum(b_weight[:, None] * b_activation, axis=0)
                tl.store(p_part + k * pixels + b_here, b_part, mask=b_here < pixels)


@triton.jit
def _finish_map(
    p_parts, p_signed, p_map, b_pixel, n_parts, pixels,
    K: tl.constexpr, BLOCK_S: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Sum one rule's partial maps, and bring the map to [0, 1]."""
    low = float("inf")
    high = 0.0
    n_bad = 0
    for start in range(0, pixels, BLOCK_S):
        b_here = start + b_pixel
        m_here = b_here < pixels
        b_map = _sum_parts(p_parts, b_here, n_parts, pixels, K, BLOCK_P)
        if p_signed is not None:
            tl.store(p_signed + b_here, b_map, mask=m_here)
        if p_map is not None:
            b_positive = tl.maximum(b_map, 0.0)
            tl.store(p_map + b_here, b_positive, mask=m_here)
            low = tl.minimum(low, lowest(b_positive, m_here))
            high = tl.maximum(high, highest(b_positive, m_here))
            n_bad += count_bad(b_map, m_here)
    if p_map is not None:
        tl.debug_barrier()  # what one thread stored above, another may read below
        for start in range(0, pixels, BLOCK_S):
            b_here = start + b_pixel
            b_positive = tl.load(p_map + b_here, mask=b_here < pixels, other=0.0)
            b_unit = to_unit(b_positive, low, 1e-7 + (high - low), n_bad)
            tl.store(p_map + b_here, b_unit, mask=b_here < pixels)


@triton.jit
def walk_cam_kernel(
    p_activations,  # (B, C, S) by strides
    p_gradients,  # (B, C, S) by strides
    p_maps,  # (B, K, S) float32, or None: normalised maps are not wanted
    p_signed,  # (B, K, S) float32, or None: signed maps are not wanted
    p_weights,  # (B, K, C) float32
    p_sums,  # (B, 3, C) float32 scratch: ΣA, ΣG, ΣAG; or None: no rule needs one
    p_partials,  # (B, n_parts, K, S) float32 scratch
    p_counters,  # (B,) int32 scratch, zero
    channels,
    pixels,
    activations_stride_b,
    activations_stride_c,
    activations_stride_s,
    gradients_stride_b,
    gradients_stride_c,
    gradients_stride_s,
    CODE: tl.constexpr,  # the rules, as `encode` packs them
    K: tl.constexpr,  # how many rules
    TILE: tl.constexpr,  # as `plane_cam_kernel` takes it
):
    """Compute all rules, walking the planes in chunks of pixels.

    A program owns BLOCK_C channels of one image and walks their planes up to three times: for the
    sums ΣA, ΣG and ΣAG, and at once for the maps that weigh every position alone; for
    Grad-CAM++'s weights, which need ΣA first; and for the maps Σ_c w_c A_cs, which need w. A is
    read on the first and the third walk, G on the first and the second, and only on those that
    the rules ask for: twice at most, and once for Grad-CAM, LayerCAM, HiResCAM and the elementwise
    rule alone. The rest is as in `plane_cam_kernel`.
    """
    BLOCK_C: tl.constexpr = TILE[0]
    BLOCK_S: tl.constexpr = TILE[1]
    WEIGHTED: tl.constexpr = has(CODE, K, GRADCAM, XGRADCAM, GRADCAM_PLUS_PLUS)
    n_parts = tl.cdiv(channels, BLOCK_C)
    image = (tl.program_id(0) // n_parts).to(tl.int64)
    part = (tl.program_id(0) % n_parts).to(tl.int64)
    b_channel = (tl.program_id(0) % n_parts) * BLOCK_C + tl.arange(0, BLOCK_C)  # (BLOCK_C,)
    b_channel = widen(b_channel, TILE[4])
    b_pixel = widen(tl.arange(0, BLOCK_S), TILE[4])  # (BLOCK_S,)
    p_activations += image * activations_stride_b
    p_gradients += image * gradients_stride_b
    activations = (p_activations, activations_stride_c, activations_stride_s)
    gradients = (p_gradients, gradients_stride_c, gradients_stride_s)
    p_partials += image * n_parts * K * pixels
    p_part = p_partials + part * K * pixels
    if WEIGHTED:
        p_sums += image * 3 * channels
    p_weights += image * K * channels

    _sum_and_weigh_positions(
        activations, gradients, p_sums, p_part, b_channel, b_pixel, channels, pixels,
        CODE, K, BLOCK_C, BLOCK_S,
    )  # fmt: skip
    _store_weights(
        gradients, p_sums, p_weights, b_channel, b_pixel, channels, pixels,
        CODE, K, BLOCK_C, BLOCK_S,
    )  # fmt: skip
    if WEIGHTED:
        tl.debug_barrier()
        _weigh_channels(
            activations, p_weights, p_part, b_channel, b_pixel, channels, pixels, CODE, K, BLOCK_S
        )

    if is_last(p_counters + image, n_parts):
        for k in tl.range(0, K, disable_licm=True):
            first = (image * K + k) * pixels
            _finish_map(
                p_partials + k * pixels,
                p_signed if p_signed is None else p_signed + first,
                p_maps if p_maps is None else p_maps + first,
                b_pixel, n_parts, pixels, K, BLOCK_S, TILE[3],
            )  # fmt: skip
