"""The original CAM, weighted by a linear classifier behind a mean."""

import torch
from torch import Tensor, nn

from cam._engine.method_sources import LayerActivations, Pixels
from cam._engine.passes import Passes
from cam._engine.precision import tolerance
from cam._methods.base.maps import axes_of_places, promote, weigh_maps
from cam._methods.base.method_registry import register_method
from cam.errors import MethodError
from cam.targets import select_scores
from cam.types import Maps


@register_method(
    "cam",
    title="CAM",
    family="cam",
    kind="evidence",
    reads=LayerActivations,
    volumes=True,
    cost="1 forward",
)
def class_activation_map(layer: LayerActivations, passes: Passes) -> Maps:
    """Where a layer's feature maps show what the classifier weighs for the class.

    Where the logits are y = W mean_s(A) + b, with A the layer's maps: map = Σ_c w_c A_c with w the
    row of W that belongs to the class. For any other target t it is w = Wᵀ ∂t/∂y. There Grad-CAM
    is the same, but for a factor of h·w.

    Args:
        layer: Its activations (B, C, h, w), floats of any dtype.
        passes: Where the classifier is found; it runs no pass.

    Returns:
        Maps (B, h, w) float32, float64 for float64.

    Raises:
        MethodError: Between the layer and the logits is more than a mean and one linear layer.

    References:
        Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, equation 2
    """
    pixels = passes.pixels
    matrix = _find_classifier(passes.module, layer, pixels)
    with torch.enable_grad():
        logits = pixels.logits.detach().clone().requires_grad_()
        scores, _ = select_scores(logits, pixels.targets)
        (slope,) = torch.autograd.grad(scores.sum(), logits)  # (B, classes)
    activations = promote(layer.activations)
    return weigh_maps(slope.to(activations) @ matrix.to(activations), activations)


def _find_classifier(module: nn.Module, layer: LayerActivations, pixels: Pixels) -> Tensor:
    """Find the matrix (classes, C) from the layer's mean to the logits."""
    pooled = layer.activations.float().mean(axes_of_places(layer.activations))  # (B, C)
    logits = pixels.logits.float()
    finite = logits.flatten(1).isfinite().all(1) & pooled.isfinite().all(1)
    limit = tolerance(module, logits.device) * logits[finite].abs().max() if finite.any() else 0
    for child in module.modules():
        if not isinstance(child, nn.Linear | nn.Conv2d | nn.Conv3d):
            continue
        matrix = child.weight.detach().flatten(1)
        if logits.ndim != 2 or matrix.shape != (logits.shape[1], pooled.shape[1]):
            continue
        predicted = pooled @ matrix.float().T
        if child.bias is not None:
            predicted = predicted + child.bias.detach().float()
        if bool(((predicted - logits)[finite].abs() <= limit).all()):
            return matrix
    raise MethodError(
        f"cam needs a network whose logits are one linear layer of the mean of layer {layer.name!r}"
        ", and they are not; choose the layer that is pooled, or use 'gradcam', which is the same "
        "where cam can be had"
    )
