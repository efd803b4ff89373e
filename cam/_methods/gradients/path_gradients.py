"""Integrated gradients along non-linear paths: blur IG and guided IG."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import fill_up, promote, reduce_gradient
from cam._methods.base.method_registry import register_method
from cam._methods.gradients.integrated_gradients import check_completeness
from cam.parameters import integer, number
from cam.types import Maps

# The authors' step for the derivative of a blur by its width.
_BLUR_STEP = 0.01
# Pixels; a kernel is eight times as wide.
_WIDEST = 10_000.0


@register_method(
    "guided_integrated_gradients",
    rules={
        "steps": integer(1),
        "fraction": number(above=0, most=1),
        "distance": number(0, 1),
        "baseline": number(),
    },
    title="Guided integrated gradients",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="2 forwards, and a forward and a backward for each step: 200 by default",
)
def guided_integrated_gradients(
    pixels: Pixels,
    passes: Passes,
    *,
    steps: int = 200,
    fraction: float = 0.25,
    distance: float = 0.02,
    baseline: float = 0.0,
) -> Maps:
    """Integrated gradients on a way that changes first those pixels which matter least just then.

    In each of the steps the L1 distance to the image x falls by the same amount. Of the values
    that may move, the given fraction with the smallest |∂y/∂x| moves towards x, all as far as the
    step needs or the corridor allows, then the next ones, until the distance is reached. The
    corridor keeps each value between what it has on the straight way ``distance`` before and
    ``distance`` after the step; 0 is the straight way, 1 leaves all free. With Δ the changes and G
    the gradients: a = Σ Δ ⊙ G; map = Σ_c a_c. The other map shows |Σ_c a_c|, min-max normalised
    for each image.

    The gradient of a step is taken once for all images of a batch, so rounding may differ with the
    batch, as far as convolutions differ.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images on the path go.
        steps: From the baseline to the image.
        fraction: Of the values, which move at once; above 0 and at most 1.
        distance: Half the corridor's width, from 0 to 1.
        baseline: What every pixel of the blank image shows, after normalisation.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Kapishnikov et al., Guided Integrated Gradients: an Adaptive Path Method for Removing Noise,
        CVPR 2021, algorithm 1 (in its form that stays near the straight way)
    """
    inputs = pixels.inputs
    count = len(inputs)
    passes.expect(count * (steps + 1))
    totals: list[Tensor] = []
    for part in passes.chunks(count):
        path = GuidedPath(inputs[part].flatten(1).double(), baseline, steps, fraction, distance)
        owner = torch.arange(part.start, part.stop, device=inputs.device)
        for step in range(steps):
            pictures = path.at.view_as(inputs[part]).to(inputs.dtype)
            _, gradients = passes.gradients(pictures, owner)
            path.go(step, gradients.flatten(1).double())
            passes.tell(partial(_sum_channels, passes, [*totals, path.total]))
        totals.append(path.total)
    starts = torch.full_like(inputs, baseline)
    maps = _sum_channels(passes, totals)
    return check_completeness(passes, maps, starts, "a blank image")


class GuidedPath:
    """Positions of pictures on their guided paths, as vectors of N values in float64.

    Attributes:
        at: (B, N).
        total: (B, N) contributions of the values to the score so far.
    """

    def __init__(
        self, ends: Tensor, start: float, steps: int, fraction: float, distance: float
    ) -> None:
        self._start, self._ends = torch.full_like(ends, start), ends
        self._steps, self._distance = steps, distance
        # The lower one of the two values around the quantile.
        self._rank = math.floor(fraction * (ends.shape[1] - 1)) + 1
        self._length = (ends - start).abs().sum(1, keepdim=True)
        self.at = self._start.clone()
        self.total = torch.zeros_like(ends)

    def go(self, step: int, gradients: Tensor) -> None:
        """Take one step with the gradients (B, N) at the present positions."""
        share = (step + 1) / self._steps
        differences = self._ends - self._start
        low = self._start + differences * max(share - self._distance, 0.0)
        high = self._start + differences * min(share + self._distance, 1.0)
        goal = self._length * (1 - share)  # (B, 1)
        before = self.at
        # Values that fell behind the corridor are moved to its edge.
        behind = (self.at - self._start) / differences < max(share - self._distance, 0.0)
        self.at = torch.where(behind, low, self.at)
        steepness = gradients.abs()
        # A picture equal to its start, or whose gradient is not a number, stays where it is.
        open_ = (self._length > 0) & steepness.isfinite().all(1, keepdim=True)
        while True:
            left = (self.at - self._ends).abs().sum(1, keepdim=True)
            free = self.at != high
            open_ = open_ & ~_is_close(left, goal) & free.any(1, keepdim=True)
            if not bool(open_.any()):
                break
            sizes = torch.where(free, steepness, torch.inf)
            limit = sizes.kthvalue(self._rank, 1, keepdim=True).values
            # Where fewer values are free than move at once, all of them do.
            moving = free & (sizes <= limit) & open_
            room = ((self.at - high).abs() * moving).sum(1, keepdim=True)
            part = (left - goal) / room
            enough = part <= 1
            moved = torch.where(enough, self.at + (high - self.at) * part, high)
            self.at = torch.where(moving, moved, self.at)
            open_ = open_ & ~enough
        self.total += (self.at - before) * gradients


def _is_close(values: Tensor, expected: Tensor) -> Tensor:
    """Test equality to 1e-9, relative or absolute."""
    largest = torch.maximum(values.abs(), expected.abs())
    return (values - expected).abs() <= (1e-9 * largest).clamp(min=1e-9)


@register_method(
    "blur_integrated_gradients",
    rules={"steps": integer(1), "sigma": number(above=0, most=_WIDEST)},
    title="Blur integrated gradients",
    family="gradient",
    kind="contribution",
    reads=Pixels,
    volumes=True,
    cost="2 forwards, and a forward and a backward for each step: 100 by default",
)
def blur_integrated_gradients(
    pixels: Pixels, passes: Passes, *, steps: int = 100, sigma: float = 50.0
) -> Maps:
    """How much each pixel adds to the score on the way from a blurred image to the sharp one.

    With L(σ) the image blurred by a Gaussian of width σ (beyond its edges it is 0, the mean
    colour of a normalised image): a = -∫ ∂y/∂L(σ) ⊙ ∂L/∂σ dσ from 0 to ``sigma``; map = Σ_c a_c.
    No blank image has to be chosen, and no pixel is of its colour. A volume is blurred along its
    planes or frames too. The other map shows |Σ_c a_c|,
    min-max normalised for each image.

    As in PAIR's program the integrand is taken where each step begins and ∂L/∂σ is a difference
    quotient over 0.01. The steps of one image share batches and those of different images do not.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the blurred images go.
        steps: Widths of the blur.
        sigma: The largest of them, in pixels, up to 10,000.

    Returns:
        Maps (B, H, W) float32, float64 for float64; the raw one is signed.

    Raises:
        MethodError: A parameter is out of range.

    References:
        Xu, Venugopalan and Sundararajan, Attribution in Scale and Space, CVPR 2020, section 3;
        steps as in PAIR's saliency 0.2.1, BlurIG
    """
    inputs = pixels.inputs
    # In double precision, because the quotient divides a small difference.
    sharp, depth = inputs.double(), inputs.ndim == 5
    total = torch.zeros_like(sharp)
    passes.expect(len(inputs) * (steps + 1))
    for image, picture in enumerate(sharp):
        for part in passes.chunks(steps):
            widths = [sigma * step / steps for step in range(part.start, part.stop)]
            blurred = torch.stack([blur(picture, width, depth) for width in widths])
            wider = torch.stack([blur(picture, width + _BLUR_STEP, depth) for width in widths])
            _, gradients = passes.gradients(blurred.to(inputs.dtype), image)
            total[image] -= ((wider - blurred) / _BLUR_STEP * gradients).sum(0) * sigma / steps
            passes.tell(partial(_sum_channels, passes, [total[: image + 1]]))
    starts = blur(sharp, sigma, depth).to(inputs.dtype)
    maps = _sum_channels(passes, [total])
    return check_completeness(passes, maps, starts, "a blurred image")


def blur(pictures: Tensor, sigma: float, depth: bool = False) -> Tensor:
    """Blur by a Gaussian truncated at four widths, zero beyond edges.

    A blur along an axis is a product with a matrix, which for wide blurs costs far less than a
    convolution.

    Args:
        pictures: (…, H, W) floats.
        sigma: Width in pixels; 0 changes nothing.
        depth: Whether there is an axis D before H, along which it is blurred too.
    """
    if not sigma:
        return pictures
    if depth:
        along_depth = _make_blur_matrix(pictures.shape[-3], sigma, pictures)
        pictures = torch.einsum("de,...ehw->...dhw", along_depth, pictures)
    along_rows = _make_blur_matrix(pictures.shape[-1], sigma, pictures)
    along_columns = _make_blur_matrix(pictures.shape[-2], sigma, pictures)
    return along_columns @ pictures @ along_rows


def _make_blur_matrix(side: int, sigma: float, like: Tensor) -> Tensor:
    """Make the symmetric matrix (side, side) of the weights between positions."""
    reach = int(4 * sigma + 0.5)
    at = torch.arange(max(reach + 1, side), device=like.device, dtype=torch.float64)
    weights = torch.exp(-((at / sigma) ** 2) / 2)
    weights[reach + 1 :] = 0
    weights = weights / (2 * weights.sum() - weights[0])
    positions = torch.arange(side, device=like.device)
    return weights[(positions[:, None] - positions).abs()].to(like.dtype)


def _sum_channels(passes: Passes, totals: Sequence[Tensor]) -> Maps:
    """Make maps of the first images' contributions in float64, (n, …) each; NaN for the others."""
    inputs = promote(passes.pixels.inputs)
    begun = torch.cat([total.view(-1, *inputs.shape[1:]) for total in totals])
    total = fill_up(list(begun), len(inputs)).to(inputs.dtype)
    return reduce_gradient(total)
