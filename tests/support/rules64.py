"""The gradient-CAM rules in float64, from their equations, channel by channel."""

import torch
from torch import Tensor

NO_WEIGHTS = ("layercam", "hirescam", "gradcam_elementwise")


def channel_weights(rule: str, a: Tensor, g: Tensor) -> Tensor:
    """w_c of one rule for a and g (B, C, h, w) in float64."""
    if rule == "gradcam":
        return g.sum((2, 3)) / (g.shape[2] * g.shape[3])
    if rule == "xgradcam":
        return (a * g).sum((2, 3)) / (a.sum((2, 3)) + 1e-7)
    total = a.sum((2, 3), keepdim=True)
    alpha = g**2 / (2 * g**2 + g**3 * total)
    alpha[g == 0] = 0
    return (alpha * g.clamp(min=0)).sum((2, 3))


def signed_map(rule: str, a: Tensor, g: Tensor) -> Tensor:
    """The map (B, h, w) before ReLU."""
    if rule == "layercam":
        return (g.clamp(min=0) * a).sum(1)
    if rule == "hirescam":
        return (g * a).sum(1)
    if rule == "gradcam_elementwise":
        return (g * a).clamp(min=0).sum(1)
    return torch.einsum("bc,bchw->bhw", channel_weights(rule, a, g), a)


def min_max(signed: Tensor) -> Tensor:
    """ReLU, then pytorch-grad-cam's scaling."""
    positive = signed.clamp(min=0)
    low = positive.amin((-2, -1), keepdim=True)
    high = positive.amax((-2, -1), keepdim=True)
    return (positive - low) / (1e-7 + high - low)


def truth64(activations: Tensor, gradients: Tensor, rules) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, signed maps (B, K, h, w) and weights (B, K, C) of several rules."""
    a, g = activations.double().cpu(), gradients.double().cpu()
    signed = torch.stack([signed_map(rule, a, g) for rule in rules], 1)
    none = torch.full(a.shape[:2], torch.nan, dtype=torch.float64)
    weights = [none if rule in NO_WEIGHTS else channel_weights(rule, a, g) for rule in rules]
    return min_max(signed), signed, torch.stack(weights, 1)
