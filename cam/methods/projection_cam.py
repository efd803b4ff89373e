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

    map_s = Σ_c v_c (A_cs - mean_s A_cs) with v the first principal axis of the h·w vectors A_s;
    centred as in pytorch-grad-cam, which the paper's decomposition of A itself is not.
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

    map_s = Σ_c v_c (E_cs - mean_s E_cs) with E = G·A and v the first principal axis of its h·w
    vectors.
    """
    assert layer.gradients is not None
    return _maps(layer.activations * layer.gradients)


def _maps(features: Tensor) -> Maps:
    raw = first_component(features)
    return Maps(raw=raw, normalised=normalise(raw))


def first_component(features: Tensor) -> Tensor:
    """Project each place's vector of channels on the first principal axis of all places.

    An axis has two directions, and a decomposition returns either. The one along which the sum of
    the channels grows is taken, so that what the layer reacts to is bright; pytorch-grad-cam takes
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
    raw = torch.bmm(centred, axis[..., None])[..., 0]  # (B, h·w)
    along = (raw * centred.sum(2)).sum(1, keepdim=True)
    raw = raw * torch.where(along < 0, -1, 1)
    return raw.where(finite, torch.nan).view(-1, *features.shape[2:])
