"""Offer Quantus' ``explain_func`` over :func:`cam.attribute`."""

from typing import Any

import numpy as np
import torch
from torch import nn

from cam._attribution.attribution import attribute
from cam._engine.evaluation_mode import device_of
from cam._methods.base.method_registry import Method


def explain(
    model: nn.Module,
    inputs: np.ndarray,
    targets: np.ndarray,
    method: str | Method = "gradcam",
    **kwargs: Any,
) -> np.ndarray:
    """Explain for Quantus' metrics, which take this as their ``explain_func``.

    Args:
        model: Any classifier; it comes back as it was.
        inputs: (B, C, H, W).
        targets: (B,) integers.
        method: A name, or :func:`cam.method` with parameters.
        kwargs: ``layers``, ``fusion`` and ``batch_size`` go to :func:`cam.attribute`; what else
            Quantus sends, as its ``device``, is not needed.

    Returns:
        (B, 1, H, W) float32 heatmaps in [0, 1].

    Raises:
        CamError: As :func:`cam.attribute`.
    """
    options = {key: kwargs[key] for key in ("layers", "fusion", "batch_size") if key in kwargs}
    batch = torch.as_tensor(inputs, dtype=torch.float32, device=device_of(model))
    (attribution,) = attribute(model, batch, method, np.asarray(targets), **options).values()
    heatmap: np.ndarray = attribution.heatmap[:, None].cpu().numpy()
    return heatmap
