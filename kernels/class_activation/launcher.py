"""Choose the gradient-CAM kernel for a layer, and its launch shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from ..launch.counters import zeroed
from ..launch.launcher_parts import Launch, Planes, planes
from .plane_kernel import plane_cam_kernel
from .reference import CamMaps
from .rules import Rule, encode
from .walking_kernel import walk_cam_kernel


@dataclass(frozen=True)
class Shape:
    """A tile's channels and pixels, and the warps that share it."""

    most_pixels: int
    block_c: int
    block_s: int
    tiles: int  # one after the other, by one program
    num_warps: int


# The number of pixels alone chooses, never the batch: an image gives the same bits in any batch.
# A thread holds 8 elements of A and 8 of G (16 bytes each in half precision), and at most 64
# registers: two programs of 16 warps share a core of 2048 threads, so one computes while the other
# waits for memory, and 32 KiB to 64 KiB are on their way to each core, more than twice what the
# latency of an H100's memory needs at its full bandwidth.
SHAPES = (
    # 1×1 to 4×4 (a last layer of small inputs, pooled features): width goes into the channels,
    # which are many there.
    Shape(most_pixels=16, block_c=128, block_s=16, tiles=1, num_warps=8),
    # 7×7 and 8×8 (the usual last layer at 224 and 256 pixels): 64 channels of 16 bits are one full
    # 128-byte line of channels-last memory.
    Shape(most_pixels=64, block_c=64, block_s=64, tiles=1, num_warps=16),
    # 14×14 and 16×16 (vision transformers, the stage before last): 16 channels of 16 bits are a
    # 32-byte sector, the least that is worth fetching. Four tiles share their partial maps, which
    # for six rules are else a third of what is read.
    Shape(most_pixels=256, block_c=16, block_s=256, tiles=4, num_warps=16),
    # 28×28 and 32×32: the same, on all threads that a program may have. With more than two tiles
    # the compiler spilled for half precision.
    Shape(most_pixels=1024, block_c=8, block_s=1024, tiles=2, num_warps=32),
)
# Larger planes are walked in chunks of pixels, 16 bytes of A and of G a thread. By bytes an
# element.
WALKS = {
    2: Shape(most_pixels=2**31 - 1, block_c=16, block_s=256, tiles=1, num_warps=16),
    4: Shape(most_pixels=2**31 - 1, block_c=16, block_s=128, tiles=1, num_warps=16),
}
MAX_REGISTERS = 64
# Partial values that a thread of the last program sums at a time: more made the compiler spill.
SUMMED = 2


def plan(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[Rule],
    *,
    maps: bool,
    signed: bool,
    weights: bool,
) -> tuple[Launch, CamMaps]:
    """Choose the launch for checked tensors and allocate what it writes.

    Scratch belongs to this call alone, so that calls on several streams never meet.

    Args:
        activations: (B, C, h, w), float32, float16 or bfloat16.
        gradients: The same shape, dtype and device; the layout may differ.
        rules: K of them.
        maps: Whether normalised maps are wanted.
        signed: Whether signed maps are wanted.
        weights: Whether channel weights are wanted.

    Returns:
        The launch, not yet run, and the tensors it will fill.
    """
    images, channels, height, width = activations.shape
    pixels, count = height * width, len(rules)
    a, g = planes(activations), planes(gradients)
    # Where no vector can be loaded, a pointer for each of 8 halves would not fit the registers.
    wide = _has_vectors(a) and _has_vectors(g)
    walk = WALKS[activations.element_size() if wide else 4]
    shape = next((shape for shape in SHAPES if pixels <= shape.most_pixels), walk)
    walks = shape is walk
    n_parts = triton.cdiv(channels, shape.block_c * shape.tiles)

    def empty(*size: int) -> Tensor:
        return torch.empty(size, dtype=torch.float32, device=activations.device)

    results = CamMaps(
        maps=empty(images, count, height, width) if maps else None,
        signed=empty(images, count, height, width) if signed else None,
        weights=empty(images, count, channels) if weights else None,
    )
    arguments: dict[str, Any] = {
        **a.arguments("activations"),
        **g.arguments("gradients"),
        "p_maps": results.maps,
        "p_signed": results.signed,
        "p_weights": results.weights,
        "p_partials": empty(images, n_parts, count, pixels),
        "p_counters": zeroed(images, activations),
        "channels": channels,
        "pixels": pixels,
        "CODE": encode(rules),
        "K": count,
    }
    block_k = 1 if walks else triton.next_power_of_2(count)
    summed = SUMMED * 32 * shape.num_warps // (block_k * shape.block_s)
    scratch = ["p_partials", "p_counters"]
    block_p = max(1, min(summed, triton.next_power_of_2(n_parts)))
    far = a.needs_int64 or g.needs_int64
    arguments["TILE"] = (shape.block_c, shape.block_s, shape.tiles, block_p, far)
    if walks:
        weighted = any(rule.weighs_channels for rule in rules)
        arguments["p_sums"] = empty(images, 3, channels) if weighted else None
        arguments["p_weights"] = results.weights if weights else empty(images, count, channels)
        scratch += ["p_sums"] if weights else ["p_sums", "p_weights"]
    else:
        arguments["PACKED"] = _is_packed(a, pixels), _is_packed(g, pixels)
    traffic = _traffic_of_walk if walks else _traffic_of_planes
    reads, writes = traffic(activations, rules, results, n_parts, shape)
    launch = Launch(
        kernel=walk_cam_kernel if walks else plane_cam_kernel,
        grid=(images * n_parts,),
        arguments=arguments,
        num_warps=shape.num_warps,
        reads=reads,
        writes=writes,
        scratch=tuple(scratch),
        max_registers=MAX_REGISTERS,
    )
    return launch, results


def _has_vectors(described: Planes) -> bool:
    """Check whether 16 bytes lie together, along planes or across channels."""
    other = described.stride_c if described.stride_s == 1 else described.stride_s
    return 1 in (described.stride_s, described.stride_c) and other % 16 == 0


def _is_packed(described: Planes, pixels: int) -> bool:
    """Check whether planes follow one another, with rows off 16 bytes.

    Triton tells the compiler which strides are multiples of 16 elements, and of nothing smaller.
    """
    follows = described.stride_s == 1 and described.stride_c == pixels
    return follows and pixels > 1 and pixels % 16 != 0


def _traffic_of_planes(
    layer: Tensor, rules: Sequence[Rule], results: CamMaps, n_parts: int, shape: Shape
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the bytes that `plane_cam_kernel` loads and stores, by parameter.

    One read of A and G and one write of what is wanted, which is the floor; beside it the partial
    maps: B · n_parts · K · h · w float32, stored and loaded once for each of a program's tiles.
    """
    whole = layer.numel() * layer.element_size()
    # A program goes through all of its tiles, also where the last ones have no channels left.
    partials = _map_bytes(layer, rules) * n_parts * shape.tiles
    reads = {"p_activations": whole, "p_gradients": whole, "p_partials": partials}
    return reads, _written(results) | {"p_partials": partials}


def _traffic_of_walk(
    layer: Tensor, rules: Sequence[Rule], results: CamMaps, n_parts: int, shape: Shape
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the bytes that `walk_cam_kernel` loads and stores, by parameter.

    A and G as often as the rules need them; partial maps once; a few values a channel and chunk.
    """
    images, channels, height, width = layer.shape
    n_chunks = triton.cdiv(height * width, shape.block_s)
    whole, map_bytes = layer.numel() * layer.element_size(), _map_bytes(layer, rules)
    row = 4 * images * channels  # one float32 a channel
    weighted, terms = sum(rule.weighs_channels for rule in rules), Rule.GRADCAM_PLUS_PLUS in rules
    first_a, first_g = {*rules} != {Rule.GRADCAM}, {*rules} != {Rule.GRADCAM_PLUS_PLUS}
    sums = terms + (Rule.GRADCAM in rules) + 2 * (Rule.XGRADCAM in rules)  # that weights need
    maps = map_bytes * (results.maps is not None)
    reads = {
        "p_activations": whole * (first_a + bool(weighted)),
        "p_gradients": whole * (first_g + terms),
        "p_sums": row * (3 * (n_chunks - 1) + sums) * bool(weighted),
        "p_weights": row * weighted * n_chunks,
        "p_partials": map_bytes * n_parts,
        "p_maps": maps,  # positive values, read again to be stretched
    }
    writes = {
        "p_maps": 2 * maps,
        "p_weights": row * len(rules),
        "p_sums": row * 3 * n_chunks * bool(weighted),
        "p_partials": map_bytes * n_parts,
    }
    return reads, _written(results) | writes


def _map_bytes(layer: Tensor, rules: Sequence[Rule]) -> int:
    return 4 * layer.shape[0] * len(rules) * layer.shape[2] * layer.shape[3]


def _written(results: CamMaps) -> dict[str, int]:
    """Count each result that is wanted, stored once."""
    return {
        f"p_{name}": 4 * result.numel()
        for name, result in results._asdict().items()
        if result is not None
    }
