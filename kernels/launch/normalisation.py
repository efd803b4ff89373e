"""Choose the dtype of sums, and bring maps to [0, 1]."""

import torch
from torch import Tensor

EPSILON = 1e-7  # as pytorch-grad-cam's scale_cam_image


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Choose the dtype of sums and results: float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


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
    flat = signed.flatten(-2)  # (..., h·w)
    lowest, highest = flat.aminmax(dim=-1, keepdim=True)  # NaN where one is among them
    low = lowest.clamp_min(0)
    # Nothing times what is finite changes no span; times an infinity it is NaN.
    span = (highest.clamp_min(0) - low).add_(lowest + highest, alpha=0).add_(EPSILON)
    return (flat.clamp_min(0) - low).div_(span).view_as(signed)


def mark_non_finite(scaled: Tensor, source: Tensor) -> Tensor:
    """Replace every map whose source is not finite everywhere by NaN.

    Args:
        scaled: (..., h·w), made from the source.
        source: (..., h, w).

    Returns:
        The shape of the source.
    """
    finite = source.flatten(-2).isfinite().all(dim=-1, keepdim=True)
    return scaled.where(finite, torch.nan).view(source.shape)
