"""Methods that gather the gradient by the pixels along a way from a blank picture to this one."""

import math

import numpy as np
import torch

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
    inputs = captured.inputs
    # Half precision would lose what each of many steps adds.
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    points, weights = (
        torch.from_numpy(one / 2).to(inputs.device, dtype)
        for one in np.polynomial.legendre.leggauss(steps)
    )
    ways = inputs.to(dtype) - baseline  # (B, C, H, W)
    total = torch.zeros_like(ways)
    passes.expect(len(inputs) * steps)
    for image, way in enumerate(ways):
        for part in passes.chunks(steps):
            # The quadrature is one over [-1, 1].
            share = (points[part] + 0.5)[:, None, None, None]
            pictures = (baseline + share * way).to(inputs.dtype)  # (n, C, H, W)
            owner = torch.full((len(pictures),), image, device=inputs.device)
            _, gradients = passes.gradients(pictures, owner)
            total[image] += torch.tensordot(weights[part], gradients.to(dtype), 1)
    normalised, raw = kernels.gradient_map(
        total, ways, reduce="sum", normalise=True, return_raw=True
    )
    return Maps(raw=raw, normalised=normalised)
