"""Gradient-CAM rules in plain torch: the kernel's truth, and the CPU's way.

float16 and bfloat16 are computed in float32; float32 and float64 in themselves.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

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
    a, g = activations.to(dtype), gradients.to(dtype)  # (B, C, h, w)
    rule_maps, rule_weights = [], []
    for rule in rules:
        match rule:
            case Rule.GRADCAM:
                weight = g.mean(dim=(2, 3))  # (B, C)
            case Rule.XGRADCAM:
                weight = (a * g).sum(dim=(2, 3)) / (a.sum(dim=(2, 3)) + EPSILON)
            case Rule.GRADCAM_PLUS_PLUS:
                # α G = G / (2 + G ΣA), a short form that does not underflow where G² would.
                total = a.sum(dim=(2, 3), keepdim=True)
                weight = torch.where(g > 0, g / (2 + g * total), g * 0).sum(dim=(2, 3))
            case Rule.LAYERCAM:
                product = _positive(g) * a  # (B, C, h, w)
            case Rule.HIRESCAM:
                product = g * a
            case Rule.GRADCAM_ELEMENTWISE:
                product = _positive(g * a)
        if rule.weighs_channels:
            # A matrix product, of a view also where channels are last.
            rule_map = torch.bmm(weight.unsqueeze(1), a.flatten(2)).view(len(a), *a.shape[2:])
        else:
            rule_map = product.sum(dim=1)
            weight = product.new_full(product.shape[:2], torch.nan)
        rule_maps.append(rule_map)
        rule_weights.append(weight)
    stacked = torch.stack(rule_maps, dim=1)
    return CamMaps(
        maps=normalise(stacked) if maps else None,
        signed=stacked if signed else None,
        weights=torch.stack(rule_weights, dim=1) if weights else None,
    )


def _positive(values: Tensor) -> Tensor:
    """Apply a ReLU that hides neither a NaN nor an infinity.

    -Inf becomes NaN.
    """
    return torch.where(values > 0, values, values * 0)
