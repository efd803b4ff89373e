"""The Grad-CAM family: feature maps weighted by their gradients.

A is a layer's activations and G the gradients of the raw score by them, both (B, C, h, w). Each
function returns what a rule adds up over the channels, (B, C, h, w), as its paper writes it; the
map is the sum, then ReLU and min-max for each image. In a call one kernel computes all requested
rules, and the tests compare it with the functions here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from cam._engine.heatmaps import rule_maps
from cam._engine.method_sources import LayerGradients
from cam._methods.base.maps import axes_of_places, promote
from cam._methods.base.method_registry import register_method
from cam.types import Maps

Rule = Callable[[Tensor, Tensor], Tensor]
"""From activations and gradients (B, C, h, w) to the terms (B, C, h, w) of a map."""

# The share of a map that may come from channels beside a pole without a remark.
POLE_SHARE = 0.1

RULES: dict[str, Rule] = {}
"""Name → formula."""


def register_rule(name: str, *, title: str, kind: str = "evidence") -> Callable[[Rule], Rule]:
    """Register a rule of the fused kernel as a method."""

    def add(rule: Rule) -> Rule:
        def method(layer: LayerGradients) -> Maps:
            return compute_rule(name, layer)

        method.__doc__ = rule.__doc__
        RULES[name] = rule
        register_method(
            name,
            title=title,
            family="cam",
            kind=kind,
            reads=LayerGradients,
            cost="1 forward, and the backward down to the layer",
            kernel_rules=(name,),
            volumes=True,
        )(method)
        return rule

    return add


def compute_rule(name: str, layer: LayerGradients) -> Maps:
    """Compute a rule's map by the kernel; its terms on demand."""
    maps = layer.rule_maps
    if name not in maps:  # the base of another CAM
        maps = rule_maps(layer.activations, layer.gradients, (name,))
    return replace(
        maps[name],
        terms=lambda: RULES[name](promote(layer.activations), promote(layer.gradients)),
        remarks=tuple(_warn_of_poles(name, layer)) if name in _POLES else (),
    )


def _warn_of_poles(name: str, layer: LayerGradients) -> Iterator[tuple[int, str]]:
    """Remark on maps to which channels beside a rule's pole give a tenth or more."""
    activations = promote(layer.activations)
    if not activations.numel() or float(activations.amin()) >= 0:
        return
    gradients = promote(layer.gradients)
    near = _POLES[name](activations, gradients)  # (B, C)
    if not near.any():
        return
    strengths = RULES[name](activations, gradients).abs().sum(axes_of_places(activations))  # (B, C)
    shares = (strengths * near).sum(1) / strengths.sum(1)
    for image, share in enumerate(shares.tolist()):
        if share >= POLE_SHARE:
            yield (
                image,
                f"{share:.0%} of the map comes from channels in which {name} divides by about 0, "
                "since this layer's activations are negative too; use gradcam or hirescam, or a "
                "layer after a ReLU",
            )


def _near_pole_of_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Find channels where 2 + G ΣA comes below half of its 2 for some positive gradient."""
    axes = axes_of_places(activations)
    return gradients.amax(axes).clamp(min=0) * activations.sum(axes) < -1


def _near_pole_of_xgradcam(activations: Tensor, _gradients: Tensor) -> Tensor:
    """Find channels whose ΣA is below a hundredth of Σ|A|."""
    axes = axes_of_places(activations)
    return activations.sum(axes).abs() < activations.abs().sum(axes) / 100


_POLES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam_plus_plus": _near_pole_of_plus_plus,
    "xgradcam": _near_pole_of_xgradcam,
}


@register_rule(
    "gradcam",
    title="Grad-CAM",
)
def gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Where a layer's feature maps raise the score, each map weighted by its mean gradient.

    w_c = mean over space of G_c; map = Σ_c w_c A_c.

    References:
        Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization, ICCV 2017, equations 1 and 2
    """
    weights = gradients.mean(axes_of_places(gradients), keepdim=True)
    return weights * activations


@register_rule(
    "xgradcam",
    title="XGrad-CAM",
    kind="contribution",
)
def xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM whose weights count a gradient where the feature map is active.

    w_c = Σ_s A_cs G_cs / (Σ_s A_cs + 1e-7); map = Σ_c w_c A_c.

    References:
        Fu et al., Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs,
        BMVC 2020, equation 8
    """
    sums = activations.sum(axes_of_places(activations), keepdim=True)
    products = activations * gradients
    weights = products.sum(axes_of_places(products), keepdim=True) / (sums + 1e-7)
    return weights * activations


@register_rule(
    "gradcam_plus_plus",
    title="Grad-CAM++",
)
def gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM that does not favour large objects: only positive gradients count, few ones more.

    w_c = Σ_s α_cs max(G_cs, 0) with α = G² / (2 G² + G³ Σ_s A_cs); map = Σ_c w_c A_c.

    References:
        Chattopadhay et al., Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
        Convolutional Networks, WACV 2018, equations 10 and 19
    """
    sums = activations.sum(axes_of_places(activations), keepdim=True)
    # α max(G, 0) with G² taken out of the fraction, where it would underflow.
    shares = torch.where(gradients > 0, gradients / (2 + gradients * sums), gradients * 0)
    return shares.sum(axes_of_places(shares), keepdim=True) * activations


@register_rule(
    "layercam",
    title="LayerCAM",
)
def layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each place of each feature map weighted by its own positive gradient; good at early layers.

    map_s = Σ_c max(G_cs, 0) A_cs.

    References:
        Jiang et al., LayerCAM: Exploring Hierarchical Class Activation Maps for Localization, IEEE
        Transactions on Image Processing 2021, equations 5 and 6
    """
    return gradients.clamp(min=0) * activations


@register_rule(
    "hirescam",
    title="HiResCAM",
    kind="contribution",
)
def hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Each place of each feature map weighted by its own gradient: where the score comes from.

    map_s = Σ_c G_cs A_cs.

    References:
        Draelos and Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of
        convolutional neural networks, 2020, equation 3
    """
    return gradients * activations


@register_rule(
    "gradcam_elementwise",
    title="Grad-CAM, elementwise",
)
def gradcam_elementwise(activations: Tensor, gradients: Tensor) -> Tensor:
    """HiResCAM that keeps only what speaks for the class, channel by channel.

    map_s = Σ_c max(G_cs A_cs, 0).

    References:
        pytorch-grad-cam 1.5.7, GradCAMElementWise (Gildenblat and contributors)
    """
    return (gradients * activations).clamp(min=0)
