"""Project feature maps on their first principal component."""

import torch
from torch import Tensor
from torch.nn import functional


def first_component(features: Tensor) -> Tensor:
    """Project each position's vector of channels on the first principal axis.

    An axis has two directions, and a decomposition returns either. The one along which the sum of
    the channels grows is taken, so that what the layer reacts to is bright; pytorch-grad-cam takes
    either.

    Args:
        features: (B, C, h, w).

    Returns:
        (B, h, w) float32; NaN for an image whose features are not finite.
    """
    centred, finite = centre(features)
    # The Gram matrix of the smaller side has the same component, and costs far less than an SVD of
    # a wide layer. In float64, because it squares the condition number.
    wide = centred.shape[1] <= centred.shape[2]
    double = centred.double()
    if wide:
        gram = double @ double.transpose(1, 2)  # (B, h·w, h·w)
        axis = (double.transpose(1, 2) @ torch.linalg.eigh(gram).eigenvectors[..., -1:])[..., 0]
        axis = functional.normalize(axis, dim=1, eps=1e-30)
    else:
        gram = double.transpose(1, 2) @ double  # (B, C, C)
        axis = torch.linalg.eigh(gram).eigenvectors[..., -1]
    axis = axis.float()  # (B, C)
    raw = torch.bmm(centred, axis[..., None])[..., 0]  # (B, h·w)
    return orient(raw, centred).where(finite, torch.nan).view(-1, *features.shape[2:])


def centre(features: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the mean vector of all positions.

    Returns (B, h·w, C) float32, and (B, 1) whether all values of an image are finite.

    Vectors of an image that is not are zeros.
    """
    vectors = features.flatten(2).transpose(1, 2).float()  # (B, h·w, C)
    finite = vectors.isfinite().flatten(1).all(1)[:, None]
    vectors = vectors.where(finite[..., None], 0)
    return vectors - vectors.mean(1, keepdim=True), finite


def orient(raw: Tensor, centred: Tensor) -> Tensor:
    """Turn components (B, h·w) along the sum of the channels."""
    along = (raw * centred.sum(2)).sum(1, keepdim=True)
    return raw * torch.where(along < 0, -1, 1)
