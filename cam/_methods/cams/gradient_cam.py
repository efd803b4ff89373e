"""The Grad-CAM family: feature maps weighted by what their gradients say of them.

A is a layer's activations and G the gradients of the raw score by them, both (B, C, h, w). Every
map ends in ReLU and min-max for each image. The rules asked for in one call share one kernel.
"""

from dataclasses import replace

import torch
from torch import Tensor

from cam import kernels
from cam._engine.capture import LayerCapture
from cam._methods.base.method_registry import register_method
from cam.types import Maps, Needs

_COST = "1 forward, and the backward down to the layer"


def _needs(rule: str) -> Needs:
    return Needs(layer=True, activations=True, gradients=True, rules=frozenset({rule}))


@register_method(
    "gradcam",
    title="Grad-CAM",
    family="cam",
    needs=_needs("gradcam"),
    cost=_COST,
    citation=(
        "Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based "
        "Localization, ICCV 2017, equations 1 and 2"
    ),
)
def gradcam(layer: LayerCapture) -> Maps:
    """Where a layer's feature maps raise the score, each map weighted by its mean gradient.

    w_c = mean over space of G_c; map = Σ_c w_c A_c.
    """
    return ruled("gradcam", layer)


@register_method(
    "xgradcam",
    title="XGrad-CAM",
    family="cam",
    needs=_needs("xgradcam"),
    cost=_COST,
    citation=(
        "Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs, "
        "BMVC 2020, equation 8"
    ),
)
def xgradcam(layer: LayerCapture) -> Maps:
    """Grad-CAM whose weights count a gradient where the feature map is active.

    w_c = Σ_s A_cs G_cs / (Σ_s A_cs + 1e-7); map = Σ_c w_c A_c.
    """
    return ruled("xgradcam", layer)


@register_method(
    "gradcam_plus_plus",
    title="Grad-CAM++",
    family="cam",
    needs=_needs("gradcam_plus_plus"),
    cost=_COST,
    citation=(
        "Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep "
        "Convolutional Networks, WACV 2018, equations 10 and 19"
    ),
)
def gradcam_plus_plus(layer: LayerCapture) -> Maps:
    """Grad-CAM that does not favour large objects: only positive gradients count, few ones more.

    w_c = Σ_s α_cs max(G_cs, 0) with α = G² / (2 G² + G³ Σ_s A_cs); map = Σ_c w_c A_c.
    """
    return ruled("gradcam_plus_plus", layer)


@register_method(
    "layercam",
    title="LayerCAM",
    family="cam",
    needs=_needs("layercam"),
    cost=_COST,
    citation=(
        "Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, "
        "IEEE Transactions on Image Processing 2021, equations 5 and 6"
    ),
)
def layercam(layer: LayerCapture) -> Maps:
    """Each place of each feature map weighted by its own positive gradient; good at early layers.

    map_s = Σ_c max(G_cs, 0) A_cs.
    """
    return ruled("layercam", layer)


@register_method(
    "hirescam",
    title="HiResCAM",
    family="cam",
    needs=_needs("hirescam"),
    cost=_COST,
    citation=(
        "Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of "
        "convolutional neural networks, 2020, equation 3"
    ),
)
def hirescam(layer: LayerCapture) -> Maps:
    """Each place of each feature map weighted by its own gradient: where the score comes from.

    map_s = Σ_c G_cs A_cs.
    """
    return ruled("hirescam", layer)


@register_method(
    "gradcam_elementwise",
    title="Grad-CAM, elementwise",
    family="cam",
    needs=_needs("gradcam_elementwise"),
    cost=_COST,
    citation="pytorch-grad-cam 1.5.7, GradCAMElementWise (Gildenblat and contributors)",
)
def gradcam_elementwise(layer: LayerCapture) -> Maps:
    """HiResCAM that keeps only what speaks for the class, channel by channel.

    map_s = Σ_c max(G_cs A_cs, 0).
    """
    return ruled("gradcam_elementwise", layer)


def ruled(rule: str, layer: LayerCapture) -> Maps:
    """The map of a rule that the layer's methods ask for, and what it is the sum of."""
    return replace(layer.rule(rule), terms=lambda: _terms(rule, layer))


def _terms(rule: str, layer: LayerCapture) -> Tensor:
    """What a rule adds up over the channels, (B, C, h, w)."""
    assert layer.gradients is not None
    dtype = torch.promote_types(layer.activations.dtype, torch.float32)
    activations, gradients = layer.activations.to(dtype), layer.gradients.to(dtype)
    if rule == "layercam":
        return gradients.clamp(min=0) * activations
    if rule == "hirescam":
        return gradients * activations
    if rule == "gradcam_elementwise":
        return (gradients * activations).clamp(min=0)
    weights: Tensor = kernels.fused_cam(activations, gradients, (rule,), return_weights=True)[-1]
    return weights[:, 0, :, None, None] * activations
