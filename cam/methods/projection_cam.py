"""CAMs that project a layer's feature maps on their first principal component."""

import torch
from torch import Tensor

from cam.capture import LayerCapture
from cam.methods.registry import register
from cam.types import Maps, Needs
from kernels import normalise


@register(
    "eigencam",
    title="Eigen-CAM",
    family="cam",
    needs=Needs(layer=True, activations=True),
    cost="1 forward",
    citation=(
        "Muhammad and Yeasin, Eigen-CAM: Class Activation Map using Principal Components, "
        "IJCNN 2020, equation 3"
    ),
)
def eigencam(layer: LayerCapture) -> Maps:
    """What a layer reacts to most, whatever the class: its maps' first principal component.

    map_s = Σ_c v_c A_cs with v the first principal axis of the h·w vectors A_s.
    """
    return _maps(layer.activations)


@register(
    "eigengradcam",
    title="Eigen-Grad-CAM",
    family="cam",
    needs=Needs(layer=True, activations=True, gradients=True),
    cost="1 forward, and the backward down to the layer",
    citation="pytorch-grad-cam 1.5.7, EigenGradCAM (Gildenblat and contributors)",
)
def eigengradcam(layer: LayerCapture) -> Maps:
    """Eigen-CAM of activations times gradients, so that it asks about the class.

    map_s = Σ_c v_c G_cs A_cs with v the first principal axis of the vectors G_s A_s.
    """
    assert layer.gradients is not None
    return _maps(layer.activations * layer.gradients)


def _maps(features: Tensor) -> Maps:
    raw = first_component(features)
    return Maps(raw=raw, normalised=normalise(raw))


def first_component(features: Tensor) -> Tensor:
    """Project each place's vector of channels on the first principal axis of all places.

    An axis has two directions, and the decomposition returns either. The one along which the mean
    of the vectors is positive is taken, so that what the layer reacts to is bright; the peers take
    whichever comes.

    Args:
        features: (B, C, h, w).

    Returns:
        (B, h, w) float32; NaN for an image whose features are not finite.
    """
    vectors = features.flatten(2).transpose(1, 2).float()  # (B, h·w, C)
    finite = vectors.isfinite().flatten(1).all(1)[:, None]
    vectors = vectors.where(finite[..., None], 0)
    centred = vectors - vectors.mean(1, keepdim=True)
    # The Gram matrix of the smaller side has the same component, and costs far less than an SVD of
    # a wide layer. In float64, because it squares the condition number.
    wide = centred.shape[1] <= centred.shape[2]
    double = centred.double()
    if wide:
        gram = double @ double.transpose(1, 2)  # (B, h·w, h·w)
        axis = (double.transpose(1, 2) @ torch.linalg.eigh(gram).eigenvectors[..., -1:])[..., 0]
        axis = torch.nn.functional.normalize(axis, dim=1, eps=1e-30)
    else:
        gram = double.transpose(1, 2) @ double  # (B, C, C)
        axis = torch.linalg.eigh(gram).eigenvectors[..., -1]
    axis = axis.float()  # (B, C)
    raw = torch.bmm(vectors, axis[..., None])[..., 0]  # (B, h·w)
    raw = raw * torch.where(raw.mean(1, keepdim=True) < 0, -1, 1)
    return raw.where(finite, torch.nan).view(-1, *features.shape[2:])
