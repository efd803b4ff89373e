"""Measure how fine a map is, and how much it varies."""

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from cam.errors import MetricError

# The usual share of spectral roll-off, the frequency below which nearly all of a signal lies.
ROLL_OFF = 0.95


def effective_resolution(maps: Tensor, share: float = ROLL_OFF) -> Tensor:
    """Measure the smallest distance in pixels at which a map shows detail.

    Half a period of the map's roll-off frequency f, 1/(2f): ``share`` of its power, its mean left
    out, lies at frequencies up to f. By Nyquist and Shannon (Shannon 1949, "Communication in the
    Presence of Noise", theorem 1) a map without finer detail could be drawn from points that far
    apart, and nothing was lost. The power is that of the discrete cosine transform, which mirrors
    the map at its edges, so that an edge does not count as detail; f is the length of the vector
    of both frequencies, in periods a pixel.

    A wave of period P resolves P/2, a Gaussian exp(-d²/2σ²) resolves πσ/√(ln 20) = 1.815 σ.

    Args:
        maps: (B, H, W) floats, at least 2 × 2.
        share: Of the power, above 0 and below 1.

    Returns:
        (B,) float64 of at least 1, since nothing is finer than a pixel; NaN where a map is the same
        everywhere, or not finite.

    Raises:
        MetricError: Maps of another shape, or a share outside its range.
    """
    if not 0 < share < 1:
        raise MetricError(f"share must lie above 0 and below 1, but is {share}")
    values = _check(maps)
    height, width = values.shape[1:]
    # The k-th cosine has k half periods on the way from edge to edge.
    down, across = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    frequency = np.hypot(down[:, None], across).ravel()
    order = frequency.argsort(kind="stable")
    distances = np.full(len(values), np.nan)
    for index, heatmap in enumerate(values):
        if not np.isfinite(heatmap).all() or heatmap.max() == heatmap.min():
            continue
        power = fft.dctn(heatmap - heatmap.mean(), norm="ortho").ravel() ** 2
        gathered = power[order].cumsum()
        cut = frequency[order[np.searchsorted(gathered, share * gathered[-1])]]
        distances[index] = max(1.0, 1 / (2 * cut))
    return torch.from_numpy(distances)


def total_variation(maps: Tensor) -> Tensor:
    """Measure a map's total variation, divided by its pixels.

    (Σ |A(y+1, x) - A(y, x)| + Σ |A(y, x+1) - A(y, x)|) / HW, the anisotropic form (Rudin, Osher and
    Fatemi 1992, "Nonlinear Total Variation Based Noise Removal Algorithms"). Divided by the number
    of pixels, it is comparable between pictures of different sizes.

    Args:
        maps: (B, H, W) floats, at least 2 × 2.

    Returns:
        (B,) float64; 0 where a map is the same everywhere, NaN where it is not finite.

    Raises:
        MetricError: Maps of another shape.
    """
    values = _check(maps)
    steps = [np.abs(np.diff(values, axis=axis)).sum((1, 2)) for axis in (1, 2)]
    return torch.from_numpy((steps[0] + steps[1]) / values[0].size)


def _check(maps: Tensor) -> np.ndarray:
    if maps.ndim != 3 or min(maps.shape[1:]) < 2:
        raise MetricError(f"maps must be (B, H, W), at least 2 × 2, but are {tuple(maps.shape)}")
    values: np.ndarray = maps.detach().double().cpu().numpy()
    return values
