"""Choose the launch that reduces an input gradient to a map."""

import torch
import triton
from torch import Tensor

from ..launch.counters import zeroed
from ..launch.launcher_parts import Launch, Planes, planes
from .percentile_kernel import EXPONENTS, LOWER, UPPER
from .reference import ranks
from .saliency_kernel import COUNTS, gradient_map_kernel

NUM_WARPS = 8
# Channels and pixels of a tile. The number of channels and the layout alone choose, never the
# batch: an image gives the same bits in any batch.
#
# Colour images are read with all channels at once, 16 bytes a thread and load. Three channels side
# by side cannot be read as a vector, so such an image is read as the one long line that it is, and
# sorted into its channels afterwards (`_load_interleaved`).
COLOUR_IN_LINE = 4, 512
# Any other layout of a colour image costs an address for each element, so a tile is small.
COLOUR_STRIDED = 4, 128
# Gradients of inner layers: 32 channels of 16 bits are 64 bytes of channels-last memory, 64 pixels
# of 16 bits a full line of a contiguous one.
INNER_LAYER = 32, 64

# Reductions that the kernel calls by another name, by whether the result keeps its sign.
SIGN_REDUCTIONS: dict[tuple[str, bool | None], str] = {
    ("max", True): "signed max",
    ("sum", False): "absolute sum",
}


def _tile(gradient: Planes, inputs: Planes) -> tuple[tuple[int, int], bool]:
    """Choose the tile, and whether images are read as one line."""
    channels = gradient.tensor.shape[1]
    if channels > 4:
        return INNER_LAYER, False
    strides = [(part.stride_c, part.stride_s) for part in (gradient, inputs)]
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
    (block_c, block_s), interleaved = _tile(g, x)
    clipped = maps and percentile < 100
    rank, _, fraction = ranks(pixels, percentile) if clipped else (None, None, None)
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
        grid=(images * triton.cdiv(pixels, block_s),),
        arguments={
            **g.arguments("gradient"),
            **x.arguments("inputs"),
            "p_inputs": None if inputs is None else x.tensor,
            "p_raw": raw,
            "p_maps": normalised,
            "p_counters": zeroed(images * counters, gradient) if maps else None,
            "p_tables": empty(images, table, dtype=torch.int32) if clipped else None,
            "channels": channels,
            "pixels": pixels,
            "rank": rank,
            "fraction": fraction,
            "REDUCE": SIGN_REDUCTIONS.get((reduce, signed), reduce),
            "SIGNED": bool(signed),
            "INTERLEAVED": interleaved,
            "FOURS": pixels % 4 == 0,
            "TILE": (block_c, block_s, g.needs_int64 or x.needs_int64),
        },
        num_warps=NUM_WARPS,
        reads=reads,
        writes=writes,
        scratch=("p_counters",) * maps + ("p_tables",) * clipped,
        # Four programs share a core then; without a percentile more do, if the compiler is left be.
        max_registers=64 if clipped else None,
    )
    return launch, raw, normalised
