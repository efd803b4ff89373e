"""Make layers' maps by one kernel, and one heatmap of them."""

from collections.abc import Callable, Collection
from math import prod

import torch
from torch import Tensor

from cam import kernels
from cam.types import Maps, resize

# As pytorch-grad-cam.
EPSILON = 1e-7
FUSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda stacked: stacked.mean(0),
    "max": lambda stacked: stacked.amax(0),
}
# With the fusions that a method fixes itself.
_FUSED: dict[str, Callable[[Tensor], Tensor]] = FUSIONS | {
    "product": lambda stacked: stacked.prod(0)
}


def rule_maps(activations: Tensor, gradients: Tensor, rules: Collection[str]) -> dict[str, Maps]:
    """Return each rule's map of a layer.

    Args:
        activations: (B, C, h, w) or (B, C, d, h, w) floats.
        gradients: The same shape and dtype.
        rules: Names of rules of :func:`kernels.fused_cam`.
    """
    if not rules:
        return {}
    names = tuple(sorted(rules))
    normalised, signed = kernels.fused_cam(activations, gradients, names, return_signed=True)
    return {rule: Maps(signed[:, k], normalised[:, k]) for k, rule in enumerate(names)}


def heatmap_and_raw(
    maps: list[Maps], size: tuple[int, ...] | None, fusion: str
) -> tuple[Tensor, Tensor]:
    """Return the heatmap at the input's size, and the raw map.

    Args:
        maps: Of each layer.
        size: (H, W) or (D, H, W) of the input; None: a map of the pixels has it already.
        fusion: One of :data:`FUSIONS`, or "product".
    """
    if size is None:
        return maps[0].normalised, maps[0].raw
    return _upsample(maps, size, fusion), _fuse_raw(maps, fusion)


def _upsample(maps: list[Maps], size: tuple[int, ...], fusion: str) -> Tensor:
    """Upsample normalised maps to the input's size, fuse and normalise them.

    The order is pytorch-grad-cam's: interpolation between the centres of a coarse map cuts off its
    peak, so the result is stretched to [0, 1] again.
    """
    upsampled = [resize(layer.normalised, size) for layer in maps]
    if fusion == "product":
        # Here pytorch-grad-cam stretches each layer's map too.
        upsampled = [_stretch(map_) for map_ in upsampled]
    return _stretch(_FUSED[fusion](torch.stack(upsampled)))


def _stretch(maps: Tensor) -> Tensor:
    axes = tuple(range(1, maps.ndim))
    low = maps.amin(axes, keepdim=True)
    high = maps.amax(axes, keepdim=True)
    return (maps - low).div_(high - low + EPSILON)


def _fuse_raw(maps: list[Maps], fusion: str) -> Tensor:
    """Fuse the layers' signed maps at the finest of their resolutions."""
    if len(maps) == 1:
        return maps[0].raw
    finest = max((layer.raw.shape[1:] for layer in maps), key=prod)
    return _FUSED[fusion](torch.stack([resize(layer.raw, finest) for layer in maps]))
