"""Each kernel's plain-torch truth: what the Triton kernels must equal, and what a CPU runs.

Every function here takes checked arguments. float16 and bfloat16 are computed in float32;
float32 and float64 in themselves.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-7  # as pytorch-grad-cam's scale_cam_image


class Weighted(NamedTuple):
    """What a rule gives: its signed map and the channel weights behind it."""

    signed: Tensor  # (B, h, w), before ReLU
    weights: Tensor  # (B, C)


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype that sums are computed in, and that results have: float64 or float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def gradcam(activations: Tensor, gradients: Tensor) -> Weighted:
    """Weight each channel by its mean gradient.

    w_c = mean_s G_cs (Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", eq. 1 and 2).
    """
    return _weighted(gradients.mean(dim=(2, 3)), activations)


def xgradcam(activations: Tensor, gradients: Tensor) -> Weighted:
    """Weight each channel by its gradient averaged over its activation.

    w_c = Σ_s A_cs G_cs / (Σ_s A_cs + ε) (Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate
    Visualization and Explanation of CNNs", eq. 8; ε as pytorch-grad-cam).
    """
    total = activations.sum(dim=(2, 3)) + EPSILON
    return _weighted((activations * gradients).sum(dim=(2, 3)) / total, activations)


def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Weighted:
    """Weight each channel by its positive gradients, those of few places more.

    w_c = Σ_s α_cs max(G_cs, 0) with α = G² / (2 G² + G³ Σ_s A_cs) = 1 / (2 + G Σ_s A_cs)
    (Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
    Convolutional Networks", eq. 19). The short form does not underflow where G² would.
    """
    total = activations.sum(dim=(2, 3), keepdim=True)
    terms = torch.where(gradients > 0, gradients / (2 + gradients * total), gradients * 0)
    return _weighted(terms.sum(dim=(2, 3)), activations)


def layercam(activations: Tensor, gradients: Tensor) -> Weighted:
    """Weight each place of each channel by its positive gradient.

    map_s = Σ_c max(G_cs, 0) A_cs (Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class
    Activation Maps for Localization", eq. 5 and 6).
    """
    return _by_position(_positive(gradients) * activations)


def hirescam(activations: Tensor, gradients: Tensor) -> Weighted:
    """Weight each place of each channel by its gradient.

    map_s = Σ_c G_cs A_cs (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful
    explanations of convolutional neural networks", eq. 3).
    """
    return _by_position(gradients * activations)


def gradcam_elementwise(activations: Tensor, gradients: Tensor) -> Weighted:
    """Keep the positive products of gradient and activation: map_s = Σ_c max(G_cs A_cs, 0).

    This is pytorch-grad-cam's GradCAMElementWise.
    """
    return _by_position(_positive(gradients * activations))


def _weighted(weights: Tensor, activations: Tensor) -> Weighted:
    """Σ_c w_c A_cs. On a GPU the product follows torch's float32 matmul precision setting."""
    pixels = activations.flatten(2)  # (B, C, h·w), a view also of channels-last
    signed = torch.bmm(weights.unsqueeze(1), pixels)  # (B, 1, h·w)
    return Weighted(signed.view(signed.shape[0], *activations.shape[2:]), weights)


def _by_position(products: Tensor) -> Weighted:
    return Weighted(products.sum(dim=1), products.new_full(products.shape[:2], torch.nan))


def _positive(values: Tensor) -> Tensor:
    """ReLU that keeps a NaN, and makes one of -Inf, so that clipping hides neither."""
    return torch.where(values > 0, values, values * 0)


RULE_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Weighted]] = {
    "gradcam": gradcam,
    "xgradcam": xgradcam,
    "gradcam_plus_plus": gradcam_plus_plus,
    "layercam": layercam,
    "hirescam": hirescam,
    "gradcam_elementwise": gradcam_elementwise,
}
RULES: tuple[str, ...] = tuple(RULE_FUNCTIONS)


def fused_cam(
    activations: Tensor, gradients: Tensor, rules: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Apply gradient-CAM rules one after the other.

    Args:
        activations: (B, C, h, w), floating point.
        gradients: The same shape and dtype.
        rules: K names out of `RULES`.

    Returns:
        The signed maps (B, K, h, w) and the weights (B, K, C), NaN for the rules that weigh every
        place by itself; float32, or float64 for float64.
    """
    dtype = working_dtype(activations)
    activations, gradients = activations.to(dtype), gradients.to(dtype)
    found = [RULE_FUNCTIONS[rule](activations, gradients) for rule in rules]
    signed = torch.stack([one.signed for one in found], dim=1)
    return signed, torch.stack([one.weights for one in found], dim=1)


def normalise(signed: Tensor) -> Tensor:
    """Bring each map to [0, 1]: ReLU, then min-max, as pytorch-grad-cam does.

    x = max(map, 0); (x - min x) / (1e-7 + (max x - min x)). A map with nothing above zero gives
    zeros. A map that is not finite everywhere gives NaN everywhere, so that a NaN or Inf in the
    layer is reported and never looks like an answer (a ReLU alone would hide a -Inf as a zero);
    the other maps of the batch are untouched.

    Args:
        signed: (..., h, w), float32 or float64, before ReLU.

    Returns:
        The same shape and dtype.
    """
    positive = signed.clamp_min(0).flatten(-2)  # (..., h·w)
    low, high = positive.aminmax(dim=-1, keepdim=True)
    scaled = (positive - low) / (EPSILON + (high - low))
    return _reported(scaled, signed)


def _reported(scaled: Tensor, source: Tensor) -> Tensor:
    """NaN for every map whose source is not finite everywhere; scaled is (..., h·w)."""
    finite = source.flatten(-2).isfinite().all(dim=-1, keepdim=True)
    return scaled.where(finite, torch.nan).view(source.shape)
