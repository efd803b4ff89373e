"""The Grad-CAM family: feature maps weighted by what their gradients say of them."""

import kernels
from cam.capture import LayerCapture
from cam.methods.registry import register
from cam.types import Maps, Needs


@register(
    "gradcam",
    title="Grad-CAM",
    family="cam",
    needs=Needs(layer=True, activations=True, gradients=True),
    cost="1 forward, and the backward down to the layer",
    citation=(
        "Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based "
        "Localization, ICCV 2017, equations 1 and 2"
    ),
)
def gradcam(layer: LayerCapture) -> Maps:
    """Where a layer's feature maps raise the score, each map weighted by its mean gradient.

    With activations A and gradients G of the raw score, both (B, C, h, w):
    w_c = mean over space of G_c; map = ReLU(Σ_c w_c A_c), min-max normalised for each image.
    """
    assert layer.gradients is not None
    normalised, signed = kernels.fused_cam(
        layer.activations, layer.gradients, rules=("gradcam",), return_signed=True
    )
    return Maps(raw=signed[:, 0], normalised=normalised[:, 0])
