"""Make maps of weights, gradients or raw values; check a baseline.

An image's maps have two axes, those of a volume or a clip three: what is said here of (B, h, w)
holds for (B, d, h, w).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cam import kernels
from cam.errors import MethodError
from cam.types import Maps


def promote(tensor: Tensor) -> Tensor:
    """Convert half precision, in which sums lose small terms, to float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def axes_of_places(features: Tensor) -> tuple[int, ...]:
    """Return the axes of (B, C, …) along which there are places."""
    return tuple(range(2, features.ndim))


def normalise_maps(raw: Tensor) -> Tensor:
    """Bring each map of a batch to [0, 1], as :func:`kernels.normalise` does."""
    return kernels.normalise(raw.flatten(1, -2)).view_as(raw)


def weigh_maps(weights: Tensor, activations: Tensor) -> Maps:
    """Sum a layer's feature maps, each times its weight: Σ_c w_c A_c.

    Args:
        weights: (B, C).
        activations: (B, C, h, w) or (B, C, d, h, w), floats of any dtype.

    Returns:
        Maps (B, h, w) float32, float64 for float64.
    """
    activations = promote(activations)
    weights = weights.to(activations.dtype)
    letters = "hw" if activations.ndim == 4 else "dhw"
    raw = torch.einsum(f"bc,bc{letters}->b{letters}", weights, activations)
    spread = weights.view(*weights.shape, *[1] * len(letters))
    return Maps(raw=raw, normalised=normalise_maps(raw), terms=lambda: spread * activations)


def reduce_gradient(
    gradient: Tensor,
    factor: Tensor | None = None,
    reduce: str = "sum",
) -> Maps:
    """Reduce a gradient by the pixels, times a factor, over its channels.

    Args:
        gradient: (B, C, H, W), floats of any dtype.
        factor: Of the same shape; None: 1.
        reduce: ``"sum"``, or ``"max"`` of absolute values.

    Returns:
        Maps (B, H, W) float32, float64 for float64; normalised are their absolute values.
    """
    normalised, raw = kernels.gradient_map(
        gradient, factor, reduce=reduce, normalise=True, return_raw=True
    )
    return Maps(raw, normalised)


def stretch(raw: Tensor) -> Maps:
    """Stretch each raw map to [0, 1], without a ReLU.

    There is no ε, which would swallow the map of a class with a probability of 1e-6.
    """
    axes = tuple(range(1, raw.ndim))
    low, high = raw.amin(axes, keepdim=True), raw.amax(axes, keepdim=True)
    return Maps(raw, (raw - low) / torch.where(high == low, 1, high - low))


def fill_up(maps: Sequence[Tensor], count: int) -> Tensor:
    """Stack maps of the first images of a batch; those of the others are NaN.

    Args:
        maps: (…) each, of one shape.
        count: Images of the batch, B.

    Returns:
        (B, …).
    """
    begun = torch.stack(list(maps))
    return torch.cat([begun, begun.new_full((count - len(begun), *begun.shape[1:]), torch.nan)])


@contextmanager
def refuse_baseline(method: str) -> Iterator[None]:
    """Refuse a baseline that a kernel cannot broadcast to the picture.

    Raises:
        MethodError: It does not fit.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise MethodError(f"{method}'s baseline does not fit the image: {error}") from None
