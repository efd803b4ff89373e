"""The form that most CAMs have: feature maps, each with a weight, added up."""

import torch
from torch import Tensor

from cam import kernels
from cam.types import Maps


def weigh_maps(weights: Tensor, activations: Tensor) -> Maps:
    """Σ_c w_c A_c, as it is and normalised.

    Args:
        weights: (B, C).
        activations: (B, C, h, w), floats of any dtype.

    Returns:
        Maps (B, h, w) float32, float64 for float64.
    """
    dtype = torch.promote_types(activations.dtype, torch.float32)
    weights = weights.to(dtype)
    raw = torch.einsum("bc,bchw->bhw", weights, activations.to(dtype))
    return Maps(
        raw=raw,
        normalised=kernels.normalise(raw),
        terms=lambda: weights[..., None, None] * activations.to(dtype),
    )
