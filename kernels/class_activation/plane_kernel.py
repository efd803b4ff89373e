"""The gradient-CAM kernel for planes that fit in one tile."""
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from ..launch.tiles import count_bad, highest, is_last, load_tile, lowest, to_unit, widen
from .rule_equations import part_of, rule_at, weights_of


@triton.jit
def _load_packed(p_first, left, pixels, BLOCK_C: tl.constexpr, BLOCK_S: tl.constexpr):
    """Load the tile (channel, pixel) of planes without gaps between them.

    Planes of 49 pixels start anywhere, so a row of the tile cannot be read as a vector. All rows
    together can: they are one run of memory. It is read 16 bytes a thread, and the tile is picked
    out of it in shared memory, which is what `tl.gather` compiles to.
    """
    b_run = tl.arange(0, BLOCK_C * BLOCK_S)
    m_run = (b_run < left * pixels) & (b_run < BLOCK_C * pixels)
    b_values = tl.load(p_first + b_run, mask=m_run, other=0.0)
    b_channel = tl.arange(0, BLOCK_C)[:, None]
    b_pixel = tl.arange(0, BLOCK_S)[None, :]
    # Columns beyond the plane point at a neighbour, and those of the last rows past the run.
    b_index = tl.minimum(b_channel * pixels + b_pixel, BLOCK_C * BLOCK_S - 1)
    b_picked = tl.gather(b_values, tl.reshape(b_index, (BLOCK_C * BLOCK_S,)), axis=0)
    b_tile = tl.reshape(b_picked, (BLOCK_C, BLOCK_S)).to(tl.float32)
    return tl.where(b_pixel < pixels, b_tile, 0.0)


@triton.jit
def _load(planes, first, channels, pixels, PACKED: tl.constexpr, TILE: tl.constexpr):
    """Load the tile (channel, pixel) from a channel on, zero outside."""
    BLOCK_C: tl.constexpr = TILE[0]
    BLOCK_S: tl.constexpr = TILE[1]
    if PACKED:
        p_first = planes[0] + first * pixels
        b_tile = _load_packed(p_first, channels - first, pixels, BLOCK_C, BLOCK_S)
    else:
        b_channel = first + tl.arange(0, BLOCK_C)
        b_pixel = widen(tl.arange(0, BLOCK_S), TILE[4])
        b_tile = load_tile(planes, b_channel, b_pixel, channels, pixels)
    return b_tile


@triton.jit
def plane_cam_kernel(
    p_activations,  # (B, C, S) by strides
    p_gradients,  # (B, C, S) by strides
    p_maps,  # (B, K, S) float32, or None: normalised maps are not wanted
    p_signed,  # (B, K, S) float32, or None: signed maps are not wanted
    p_weights,  # (B, K, C) float32, or None: weights are not wanted
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
    PACKED: tl.constexpr,  # whether planes of A, of G, follow one another at any alignment
    TILE: tl.constexpr,
):
    """Compute all gradient-CAM rules, reading A and G once.

    TILE holds the channels of a tile, its pixels (at least those of a plane), the tiles of a
    program (one after the other), the partial maps that the last program sums at a time, and
    whether offsets inside an image pass 31 bits.

    The equations stand in `rule_equations`; then ReLU and pytorch-grad-cam's min-max,
    (x - min) / (1e-7 + (max - min)). A program owns BLOCK_C · TILES channels of one image. Each
    tile holds whole planes of them, so that a channel's weight and its part of every map come from
    the same registers. The parts add up in the program's own partial maps; the program that
    finishes last in an image sums those of all programs in a fixed order and normalises, so the
    result has the same bits whoever is last. Sums accumulate in float32.
    """
    BLOCK_C: tl.constexpr = TILE[0]
    BLOCK_S: tl.constexpr = TILE[1]
    TILES: tl.constexpr = TILE[2]
    BLOCK_P: tl.constexpr = TILE[3]
    BLOCK_K: tl.constexpr = triton.next_power_of_2(K)
    n_parts = tl.cdiv(channels, BLOCK_C * TILES)
    image = (tl.program_id(0) // n_parts).to(tl.int64)
    part = tl.program_id(0) % n_parts
    b_channel = tl.arange(0, BLOCK_C)  # (BLOCK_C,)
    b_pixel = tl.arange(0, BLOCK_S)  # (BLOCK_S,)
    m_pixel = b_pixel < pixels
    p_activations += image * activations_stride_b
    p_gradients += image * gradients_stride_b
    activations = (p_activations, activations_stride_c, activations_stride_s)
    gradients = (p_gradients, gradients_stride_c, gradients_stride_s)
    p_partials += image * n_parts * K * pixels

    # The loops are kept as loops, with nothing moved out of them: interleaved, the rules' sums
    # take twice the registers, and half as many programs fit on a core.
    for tile in tl.range(0, TILES, disable_licm=True):
        first = widen((part * TILES + tile) * BLOCK_C, TILE[4])
        b_gradient = _load(gradients, first, channels, pixels, PACKED[1], TILE)
        b_activation = _load(activations, first, channels, pixels, PACKED[0], TILE)
        for k in tl.range(0, K, disable_licm=True):
            rule = rule_at(CODE, k)
            b_weight = weights_of(rule, b_activation, b_gradient, pixels)
            if p_weights is not None:
                p_weight = p_weights + (image * K + k) * channels + first + b_channel
                tl.store(p_weight, b_weight, mask=first + b_channel < channels)
            b_part = part_of(rule, b_weight, b_activation, b_gradient)
            p_partial = p_partials + (part * K + k) * pixels + b_pixel
            if TILES > 1:
                b_part += tl.load(p_partial, mask=m_pixel & (tile > 0), other=0.0)
            tl.store(p_partial, b_part, mask=m_pixel)
        if TILES > 1:
            tl.debug_barrier()  # what one thread stored, another may load for the next tile

    if is_last(p_counters + image, n_parts):
        b_rule = tl.arange(0, BLOCK_K)
        b_out = b_rule[:, None] * pixels + b_pixel[None, :]  # (BLOCK_K, BLOCK_S)
        m_out = (b_rule[:, None] < K) & m_pixel[None, :]
        b_sum = tl.zeros((BLOCK_P, BLOCK_K, BLOCK_S), tl.float32)
        for start in range(0, n_parts, BLOCK_P):
            b_from = start + tl.arange(0, BLOCK_P)
            m_from = (b_from < n_parts)[:, None, None] & m_out[None, :, :]
            p_from = p_partials + (b_from * (K * pixels))[:, None, None] + b_out[None, :, :]
            # The partials come from other cores: read the cache that they share (`.cg`).
            b_sum += tl.load(p_from, mask=m_from, other=0.0, cache_modifier=".cg")
        b_map = tl.sum(b_sum, axis=0)  # (BLOCK_K, BLOCK_S)
        if p_signed is not None:
            tl.store(p_signed + image * K * pixels + b_out, b_map, mask=m_out)
        if p_maps is not None:
            b_positive = tl.maximum(b_map, 0.0)
            b_low = lowest(b_positive, m_out)[:, None]
            b_span = 1e-7 + (highest(b_positive, m_out)[:, None] - b_low)
            n_bad = count_bad(b_map, m_out)[:, None]  # of the signed map: ReLU would hide them
            b_unit = to_unit(b_positive, b_low, b_span, n_bad)
            tl.store(p_maps + image * K * pixels + b_out, b_unit, mask=m_out)
