"""Integrate gradients along a line from a blank picture."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import fill_up, promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam.parameters import integer, number
from cam.types import Maps

# How far a map's sum may be from what it should be, as a share of that, without a remark.
TOLERANCE = 0.01


@register_method(
    "integrated_gradients",
    rules={"steps": integer(1), "baseline": number()},
    title="Integrated gradients",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="2 forwards, and a forward and a backward for each step: 50 by default",
)
def integrated_gradients(
    pixels: Pixels,
    passes: Passes,
    *,
    steps: int = 50,
    baseline: float = 0.0,
) -> Maps:
    """How much each pixel adds to the score on the straight way from a blank image to this one.

    With x the image, x' the blank one and y the explained score:
    a = (x - x') ⊙ ∫₀¹ ∂y/∂x (x' + α (x - x')) dα; map = Σ_c a_c. The integral is taken by
    Gauss–Legendre quadrature, so the raw map of an image adds up to y(x) - y(x'), but for the
    error of the quadrature, which falls with more steps; where it is above 1 %, the attribution's
    notes say so. The other map shows |Σ_c a_c|, min-max
    normalised for each image.

    The steps of one image share batches and those of different images do not, so an image has the
    same map in any batch.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on the path go.
        steps: Points at which the gradient is taken.
        baseline: What every pixel of the blank image shows, after normalisation: 0 is the mean
            colour of a normalised image.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017, equation 1;
        Gauss–Legendre quadrature as in captum 0.9, IntegratedGradients
    """
    inputs = pixels.inputs
    starts = inputs.new_full((len(inputs), *[1] * (inputs.ndim - 1)), baseline)
    passes.expect(len(inputs) * (steps + 1))
    total, differences = average_gradients(passes, starts, *gauss_legendre(steps), grows=True)
    maps = reduce_gradient(total, differences)
    return check_completeness(passes, maps, starts.expand_as(inputs), "a blank image")


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights (steps,) of Gauss–Legendre quadrature over [0, 1].

    It is exact for polynomials up to degree 2·steps - 1.
    """
    points, weights = np.polynomial.legendre.leggauss(steps)  # over [-1, 1]
    return points / 2 + 0.5, weights / 2


def average_gradients(
    passes: Passes, starts: Tensor, points: np.ndarray, weights: np.ndarray, grows: bool = False
) -> tuple[Tensor, Tensor]:
    """Average the gradient on the line to each picture.

    Args:
        passes: Where the pictures on the line go; their total was announced before.
        starts: Where the lines begin, of a shape that broadcasts to the inputs'.
        points: (steps,) in [0, 1], positions on the line.
        weights: (steps,), of the gradient at each.
        grows: Whether the map of the lines up to where they are is offered.

    Returns:
        The mean gradients and the inputs minus their starts, both (B, C, H, W), float32 at least;
        their product is the attribution.
    """
    # Half precision would lose what each of many steps adds.
    inputs = promote(passes.pixels.inputs)
    shares, counts = (torch.from_numpy(values).to(inputs) for values in (points, weights))
    starts = starts.to(inputs.dtype)
    differences = inputs - starts  # (B, C, H, W)
    total = torch.zeros_like(differences)

    def gather(image: int) -> Maps:
        """Make the maps of the images so far, NaN for those to come."""
        return reduce_gradient(fill_up(list(total[: image + 1]), len(total)), differences)

    for image, (start, difference) in enumerate(zip(starts, differences, strict=True)):
        for part in passes.chunks(len(shares)):
            share = shares[part].view(-1, *[1] * (inputs.ndim - 1))
            pictures = (start + share * difference).to(passes.pixels.inputs.dtype)  # (n, C, H, W)
            _, gradients = passes.gradients(pictures, image)
            total[image] += torch.tensordot(counts[part], gradients.to(inputs.dtype), 1)
            if grows:
                passes.tell(partial(gather, image))
    return total, differences


def check_completeness(
    passes: Passes,
    maps: Maps,
    starts: Tensor,
    kind: str,
    advice: str = "; more steps bring them nearer",
) -> Maps:
    """Remark on maps that do not add up to y(x) - y(x').

    It costs one score an image, and the wait for it.

    Args:
        passes: Where the baselines go; their total was announced before.
        maps: (B, H, W), signed.
        starts: (B, C, H, W) the baselines x'.
        kind: What a baseline is, in words.
        advice: The end of the sentence.

    Returns:
        The maps with the remarks.
    """
    expected = passes.pixels.scores.double() - passes.scores(starts).double()
    return check_sums(maps, expected, kind, advice)


def check_sums(maps: Maps, expected: Tensor, kind: str, advice: str) -> Maps:
    """Remark on maps (B, H, W) that do not add up to what is expected, (B,)."""
    raw = maps.raw.double()
    sums = raw.sum(tuple(range(1, raw.ndim)))
    remarks = []
    for image, (added, above) in enumerate(zip(sums.tolist(), expected.tolist(), strict=True)):
        # NaN is reported elsewhere, and is not above anything.
        if abs(added - above) > TOLERANCE * abs(above):
            share = f" ({abs(added - above) / abs(above):.0%} off)" if above else ""
            remarks.append(
                (
                    image,
                    f"the map adds up to {added:.3g}, but the score is {above:.3g} above that of "
                    f"{kind}{share}{advice}",
                )
            )
    return replace(maps, remarks=(*maps.remarks, *remarks))
