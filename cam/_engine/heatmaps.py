"""From the maps of layers to one heatmap of the picture's size."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cam.types import Maps

# As pytorch-grad-cam.
EPSILON = 1e-7
FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda stacked: stacked.mean(0),
    "max": lambda stacked: stacked.amax(0),
}
# Those that are a method's own and no choice of the caller's.
_FUSED: dict[str, Callable[[Tensor], Tensor]] = FUSIONS | {
    "product": lambda stacked: stacked.prod(0)
}


def heatmap_and_raw(
    maps: list[Maps], size: tuple[int, int] | None, fusion: str
) -> tuple[Tensor, Tensor]:
    """The heatmap at the input's size, and the raw map.

    Args:
        maps: Of each layer.
        size: (H, W) of the input; None: a map of the pixels has it already.
        fusion: One of :data:`FUSIONS`, or "product".
    """
    if size is None:
        return maps[0].normalised, maps[0].raw
    return _upsampled(maps, size, fusion), _fused_raw(maps, fusion)


def _upsampled(maps: list[Maps], size: tuple[int, int], fusion: str) -> Tensor:
    """Each layer's normalised map at the input's size, fused, and normalised once more.

    The order is pytorch-grad-cam's: interpolation between the centres of a coarse map cuts off its
    peak, so the result is stretched to [0, 1] again.
    """
    upsampled = [_at_size(one.normalised, size) for one in maps]
    if fusion == "product":
        # Here pytorch-grad-cam stretches each layer's map too.
        upsampled = [_stretched(one) for one in upsampled]
    return _stretched(_FUSED[fusion](torch.stack(upsampled)))


def _stretched(maps: Tensor) -> Tensor:
    low = maps.amin((1, 2), keepdim=True)
    high = maps.amax((1, 2), keepdim=True)
    return (maps - low).div_(high - low + EPSILON)


def _fused_raw(maps: list[Maps], fusion: str) -> Tensor:
    """The layers' signed maps, fused at the finest of their resolutions."""
    if len(maps) == 1:
        return maps[0].raw
    finest = max((one.raw.shape[-2:] for one in maps), key=lambda size: size[0] * size[1])
    return _FUSED[fusion](torch.stack([_at_size(one.raw, finest) for one in maps]))


def _at_size(maps: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(
        maps[:, None], size=tuple(size), mode="bilinear", align_corners=False
    )[:, 0]
