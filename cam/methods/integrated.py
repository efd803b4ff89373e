"""Methods that gather the gradient by the pixels along a way from a blank picture to this one."""

import math

import numpy as np
import torch
from torch import Tensor

import kernels
from cam.capture import Capture
from cam.errors import MethodError
from cam.methods.registry import register
from cam.passes import Passes
from cam.types import Maps, Needs


@register(
    "integrated_gradients",
    title="Integrated gradients",
    family="gradient",
    needs=Needs(passes=True),
    cost="1 forward, and a forward and a backward for each step: 50 by default",
    citation=(
        "Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, "
        "equation 1; Gauss–Legendre quadrature as in captum 0.9, IntegratedGradients"
    ),
    percentile=99,
)
def integrated_gradients(
    captured: Capture,
    passes: Passes,
    *,
    steps: int = 50,
    baseline: float = 0.0,
) -> Maps:
    """How much each pixel adds to the score on the straight way from a blank picture to this one.

    With x the picture, x' the blank one and y the explained score:
    a = (x - x') ⊙ ∫₀¹ ∂y/∂x (x' + α (x - x')) dα; map = Σ_c a_c. The integral is taken by
    Gauss–Legendre quadrature, so the raw map of an image adds up to y(x) - y(x'), but for the
    error of the quadrature, which falls with more steps. The other map shows |Σ_c a_c|, min-max
    normalised for each image.

    The steps of one image share batches and those of different images do not, so an image has the
    same map in any batch.

    Args:
        captured: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the pictures on the way go.
        steps: Points at which the gradient is taken.
        baseline: What every pixel of the blank picture shows, after normalisation: 0 is the mean
            colour of a normalised picture.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter that makes no sense.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise MethodError(
            f"integrated_gradients' steps must be a whole number of at least 1, but is {steps!r}"
        )
    if isinstance(baseline, bool) or not isinstance(baseline, int | float):
        raise MethodError(f"integrated_gradients' baseline must be a number, but is {baseline!r}")
    if not math.isfinite(baseline):
        raise MethodError(f"integrated_gradients' baseline must be finite, but is {baseline!r}")
    points, weights = gauss_legendre(steps)
    start = torch.full_like(captured.inputs, baseline)
    total, ways = integrate(captured, passes, start, points, weights)
    normalised, raw = kernels.gradient_map(
        total, ways, reduce="sum", normalise=True, return_raw=True
    )
    return Maps(raw=raw, normalised=normalised)


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights (steps,) of the quadrature over [0, 1]; exact up to degree 2·steps - 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    # It is one over [-1, 1].
    return points / 2 + 0.5, weights / 2


def integrate(
    captured: Capture, passes: Passes, start: Tensor, points: np.ndarray, weights: np.ndarray
) -> tuple[Tensor, Tensor]:
    """The gradient of the score by the pixels, integrated on the straight way to each picture.

    Args:
        captured: Its inputs (B, C, H, W).
        passes: Where the pictures on the way go.
        start: (B, C, H, W) where the way begins.
        points: (steps,) in [0, 1], where on the way the gradient is taken.
        weights: (steps,) what each counts.

    Returns:
        The integral and the whole way, both (B, C, H, W), float32 or, for float64, that.
    """
    inputs = captured.inputs
    # Half precision would lose what each of many steps adds.
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    shares, counts = (torch.from_numpy(one).to(inputs.device, dtype) for one in (points, weights))
    start = start.to(dtype)
    ways = inputs.to(dtype) - start
    total = torch.zeros_like(ways)
    passes.expect(len(inputs) * len(shares))
    for image, way in enumerate(ways):
        for part in passes.chunks(len(shares)):
            share = shares[part][:, None, None, None]
            pictures = (start[image] + share * way).to(inputs.dtype)  # (n, C, H, W)
            owner = torch.full((len(pictures),), image, device=inputs.device)
            _, gradients = passes.gradients(pictures, owner)
            total[image] += torch.tensordot(counts[part], gradients.to(dtype), 1)
    return total, ways
