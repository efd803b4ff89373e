"""Gradient maps in plain torch: the kernel's truth, and the CPU's way.

Every function here takes checked arguments. float16 and bfloat16 are computed in float32;
float32 and float64 in themselves.
"""

import math

import torch
from torch import Tensor

from ..launch.normalisation import mark_non_finite, working_dtype


def ranks(count: int, percentile: float) -> tuple[int, int, float]:
    """Locate a percentile among sorted values, as `numpy.percentile` does by default.

    Args:
        count: How many values there are, at least one.
        percentile: From 0 to 100.

    Returns:
        The ranks, from 0, of the values below and above it, and how far it lies from the one to
        the other, in [0, 1).
    """
    position = (count - 1) * (percentile / 100)
    rank = min(math.floor(position), count - 1)
    return rank, min(rank + 1, count - 1), position - rank


def gradient_map(
    gradient: Tensor, inputs: Tensor | None, reduce: str, signed: bool | None
) -> Tensor:
    """Reduce an input gradient over its channels.

    With x = G, or G·I where inputs are given: "max" is max_c |x_c|, the saliency map of Simonyan
    et al. 2013, "Deep Inside Convolutional Networks", section 3, or, signed, the x_c behind it,
    the first one among equals; "sum" is Σ_c x_c, or, not signed, Σ_c |x_c|; "l2" is the root of
    Σ_c x_c².

    Args:
        gradient: (B, C, H, W), floating point.
        inputs: The same shape and dtype, or None.
        reduce: "max", "sum" or "l2".
        signed: Whether the map keeps its sign, or None for the way each reduction is best known.

    Returns:
        (B, H, W), float32, or float64 for float64.
    """
    values = gradient.to(working_dtype(gradient))
    if inputs is not None:
        values = values * inputs.to(values.dtype)
    if reduce == "max":
        if signed:
            largest = values.abs().argmax(dim=1, keepdim=True)
            return values.gather(1, largest).squeeze(1)
        return values.abs().amax(dim=1)
    if reduce == "sum":
        return (values.abs() if signed is False else values).sum(dim=1)
    return values.square().sum(dim=1).sqrt()


def stretch(raw: Tensor, signed: bool, percentile: float) -> Tensor:
    """Bring each map to [0, 1], or to [-1, 1] with sign.

    x = |map|; (min(x, P) - min x) / (P - min x), where P is a percentile of x; a signed map is
    its sign times min(x, P) / P. There is no ε: gradients by pixels are small numbers (1e-3 and
    less, and smaller yet for inputs of 0 to 255), which one would dim. Where P is no more than the
    value that gives 0, all that is above it is clipped to 1, which is what the fractions tend to;
    so a map that is the same everywhere gives zeros. A map that is not finite everywhere gives NaN
    everywhere; the other maps of the batch are untouched.

    Args:
        raw: (..., h, w), float32 or float64.
        signed: Whether the result keeps the sign.
        percentile: Where the scale ends, from 0 to 100, the largest value.

    Returns:
        The same shape and dtype.
    """
    size = raw.abs().flatten(-2)  # (..., h·w)
    floor = torch.zeros_like(size[..., :1]) if signed else size.amin(dim=-1, keepdim=True)
    ceiling = _percentile(size, percentile)
    unit = (size.minimum(ceiling) - floor) / torch.where(ceiling > floor, ceiling - floor, 1)
    unit = unit.masked_fill((ceiling <= floor) & (size > floor), 1)
    if signed:
        unit = torch.where(raw.flatten(-2) < 0, -unit, unit)
    return mark_non_finite(unit, raw)


def _percentile(values: Tensor, percentile: float) -> Tensor:
    """Compute `numpy.percentile` of each row, also of more than 16 million values."""
    if percentile == 100:
        return values.amax(dim=-1, keepdim=True)
    rank, next_rank, fraction = ranks(values.shape[-1], percentile)
    below = values.kthvalue(rank + 1, dim=-1, keepdim=True).values
    above = values.kthvalue(next_rank + 1, dim=-1, keepdim=True).values
    return below + (above - below) * fraction
