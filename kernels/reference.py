"""Each kernel's plain-torch truth: what the Triton kernels must equal, and what a CPU runs.

Every function here takes checked arguments. float16 and bfloat16 are computed in float32;
float32 and float64 in themselves.
"""

from collections.abc import Callable
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
    """Weight each channel by its mean gradient and sum the channels.

    w_c = mean_s G_cs and map_s = Σ_c w_c A_cs, which is eq. 1 and, before its ReLU, eq. 2 of
    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization". On a GPU the product follows torch's own float32 matmul precision setting.

    Args:
        activations: (B, C, h, w), floating point.
        gradients: The same shape and dtype.

    Returns:
        The signed map (B, h, w) and the weights (B, C), float32, or float64 for float64.
    """
    dtype = working_dtype(activations)
    weights = gradients.to(dtype).mean(dim=(2, 3))  # (B, C)
    pixels = activations.to(dtype).flatten(2)  # (B, C, h·w), a view also of channels-last
    signed = torch.bmm(weights.unsqueeze(1), pixels)  # (B, 1, h·w)
    return Weighted(signed.view(signed.shape[0], *activations.shape[2:]), weights)


RULE_FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Weighted]] = {"gradcam": gradcam}
RULES: tuple[str, ...] = tuple(RULE_FUNCTIONS)


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


def stretch(raw: Tensor) -> Tensor:
    """Bring the absolute value of each map to [0, 1] by min-max, whatever its scale.

    x = |map|; (x - min x) / (max x - min x). There is no ε: gradients by pixels are small numbers
    (1e-3 and less, and smaller yet for inputs of 0 to 255), which one would dim. A map that is the
    same everywhere gives zeros. A map that is not finite everywhere gives NaN everywhere; the
    other maps of the batch are untouched.

    Args:
        raw: (..., h, w), float32 or float64.

    Returns:
        The same shape and dtype.
    """
    size = raw.abs().flatten(-2)  # (..., h·w)
    low, high = size.aminmax(dim=-1, keepdim=True)
    span = torch.where(high > low, high - low, 1)
    return _reported((size - low) / span, raw)


def _reported(scaled: Tensor, source: Tensor) -> Tensor:
    """NaN for every map whose source is not finite everywhere; scaled is (..., h·w)."""
    finite = source.flatten(-2).isfinite().all(dim=-1, keepdim=True)
    return scaled.where(finite, torch.nan).view(source.shape)


def gradient_map(gradient: Tensor, inputs: Tensor | None, reduce: str) -> Tensor:
    """Reduce an input gradient over its channels.

    With x = G, or G·I where inputs are given: "max" is max_c |x_c|, the saliency map of Simonyan
    et al. 2013, "Deep Inside Convolutional Networks", section 3; "sum" is Σ_c x_c, signed; "l2"
    is the root of Σ_c x_c².

    Args:
        gradient: (B, C, H, W), floating point.
        inputs: The same shape and dtype, or None.
        reduce: "max", "sum" or "l2".

    Returns:
        (B, H, W), float32, or float64 for float64.
    """
    values = gradient.to(working_dtype(gradient))
    if inputs is not None:
        values = values * inputs.to(values.dtype)
    if reduce == "max":
        return values.abs().amax(dim=1)
    if reduce == "sum":
        return values.sum(dim=1)
    return values.square().sum(dim=1).sqrt()
