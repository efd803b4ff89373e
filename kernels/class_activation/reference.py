"""Gradient-CAM rules in plain torch: the kernel's truth, and the CPU's way.

float16 and bfloat16 are computed in float32; float32 and float64 in themselves.
"""

import math
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ..launch.launcher_parts import is_real
from ..launch.normalisation import EPSILON, normalise, working_dtype
from .rules import Rule


class CamMaps(NamedTuple):
    """The requested results, float32, or float64 for float64; None otherwise."""

    maps: Tensor | None  # (B, K, h, w) in [0, 1]
    signed: Tensor | None  # (B, K, h, w), before ReLU
    weights: Tensor | None  # (B, K, C), NaN for rules that weigh no channels


def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Iterable[Rule],
    maps: bool = True,
    signed: bool = True,
    weights: bool = True,
) -> CamMaps:
    """Compute the maps of K rules; `kernels.fused_cam` gives their equations and sources.

    On a GPU the product Σ_c w_c A_cs follows torch's float32 matmul precision setting.

    Args:
        activations: (B, C, h, w), floating point.
        gradients: The same shape and dtype.
        rules: K of them.
        maps: Whether normalised maps are wanted.
        signed: Whether signed maps are wanted.
        weights: Whether channel weights are wanted.
    """
    dtype = working_dtype(activations)
    rules = tuple(rules)
    buffers: list[Tensor] = []
    groups = []
    for a, g in _groups(activations, gradients):
        layer = _Layer(a.to(dtype), g.to(dtype), buffers)
        results = {rule: layer.compute(rule) for rule in sorted(rules, key=_ORDER.index)}
        groups.append([results[rule] for rule in rules])
    stacked = _join([[rule_map for _, rule_map in group] for group in groups])
    return CamMaps(
        maps=normalise(stacked) if maps else None,
        signed=stacked if signed else None,
        weights=_join([[_whole(*pair, activations) for pair in group] for group in groups])
        if weights
        else None,
    )


def _join(groups: list[list[Tensor]]) -> Tensor:
    """Put together what groups of images have for each rule, (B, K, ...)."""
    stacked = [
        torch.stack(group, dim=1) if len(group) > 1 else group[0].unsqueeze(1) for group in groups
    ]
    return stacked[0] if len(stacked) == 1 else torch.cat(stacked)


def _whole(weight: Tensor | None, rule_map: Tensor, activations: Tensor) -> Tensor:
    """Give the weights (n, C) of a rule, NaN where it has none."""
    if weight is not None:
        return weight
    return rule_map.new_full((len(rule_map), activations.shape[1]), torch.nan)


# Rules that share a buffer's content follow one another; the last of them may overwrite it.
_ORDER = (
    *(Rule.GRADCAM, Rule.LAYERCAM, Rule.GRADCAM_PLUS_PLUS),
    *(Rule.XGRADCAM, Rule.HIRESCAM, Rule.GRADCAM_ELEMENTWISE),
)
GROUP_BYTES = 1 << 20  # of a float32 copy of A: with G and two buffers it stays in a core's cache


def _groups(activations: Tensor, gradients: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Divide a batch into images that are computed together.

    The size of an image alone decides how many, never the batch. Elsewhere than in the memory of a
    CPU, and while a compiler traces, the whole batch is one group.
    """
    images = len(activations)
    step = max(1, GROUP_BYTES * images // (4 * activations.numel()))
    if images <= step or activations.device.type != "cpu" or not is_real(activations):
        yield activations, gradients
    else:
        yield from zip(torch.split(activations, step), torch.split(gradients, step), strict=True)


class _Layer:
    """A group of images, and what several rules need of it, computed once."""

    def __init__(self, a: Tensor, g: Tensor, buffers: list[Tensor]) -> None:
        self.a, self.g = a, g  # (n, C, h, w)
        self.images, _, self.height, self.width = a.shape
        # Kept from group to group: memory that is given back and taken anew costs more than the
        # sums in it.
        self._buffers = buffers
        # A branch needs values, which a compiler does not have, and a GPU only after a wait.
        self._may_ask = a.device.type == "cpu" and is_real(a)

    def compute(self, rule: Rule) -> tuple[Tensor | None, Tensor]:
        """Compute a rule's channel weights (n, C), or None, and its map (n, h, w)."""
        match rule:
            case Rule.GRADCAM:
                return self._weighted(self.g.mean(dim=(2, 3)))
            case Rule.XGRADCAM:
                weight = self.product.sum(dim=(2, 3)) / (self.total + EPSILON)
                return self._weighted(weight)
            case Rule.GRADCAM_PLUS_PLUS:
                return self._weighted(self._plus_plus_weights())
            case Rule.LAYERCAM:
                positive = self.positive_gradient
                return None, torch.mul(positive, self.a, out=self._buffer(1)).sum(dim=1)
            case Rule.HIRESCAM:
                return None, self.product.sum(dim=1)
            case Rule.GRADCAM_ELEMENTWISE:
                product = self.product
                return None, self._positive(product, product).sum(dim=1)

    @cached_property
    def total(self) -> Tensor:
        """ΣA, (n, C)."""
        return self.a.sum(dim=(2, 3))

    @cached_property
    def product(self) -> Tensor:
        """A G, (n, C, h, w); it takes the place of the positive gradient."""
        return torch.mul(self.g, self.a, out=self._buffer(0))

    @cached_property
    def positive_gradient(self) -> Tensor:
        """max(G, 0), (n, C, h, w)."""
        return self._positive(self.g, self._buffer(0))

    def _weighted(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Σ_c w_c A_cs."""
        # A matrix product, of a view also where channels are last.
        rule_map = torch.bmm(weight.unsqueeze(1), self.a.flatten(2))  # (n, 1, h·w)
        return weight, rule_map.view(self.images, self.height, self.width)

    def _plus_plus_weights(self) -> Tensor:
        # α G = G / (2 + G ΣA), a short form that does not underflow where G² would.
        g, total = self.g, self.total[:, :, None, None]
        if self._is_finite(self.total):
            # With max(G, 0) in both places there is no 0 / 0 where 2 + G ΣA is 0 for a G below 0.
            positive = self.positive_gradient
            below = torch.mul(positive, total, out=self._buffer(1)).add_(2)
            return torch.div(positive, below, out=below).sum(dim=(2, 3))
        return torch.where(g > 0, g / (2 + g * total), g * 0).sum(dim=(2, 3))

    def _positive(self, values: Tensor, out: Tensor | None) -> Tensor:
        """Apply a ReLU that hides neither a NaN nor an infinity.

        -Inf becomes NaN. Where there is none, `clamp_min` is the same, many times as fast.
        """
        if self._is_finite(values):
            return torch.clamp_min(values, 0, out=out)
        return torch.where(values > 0, values, values * 0)

    def _is_finite(self, values: Tensor) -> bool:
        """Check that nothing is NaN or infinite, where values can be asked for."""
        return self._may_ask and math.isfinite(values.sum().item())

    def _buffer(self, number: int) -> Tensor | None:
        """Give memory of A's shape and layout that is used again, where that can be."""
        if not self._may_ask:
            return None
        if len(self._buffers) <= number:
            self._buffers.append(torch.empty_like(self.a))
        return self._buffers[number][: self.images]
