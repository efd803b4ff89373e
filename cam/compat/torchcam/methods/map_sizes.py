"""Bring maps to [0, 1] and to one size, as torchcam does."""

from torch import Tensor
from torch.nn import functional

# As torchcam's, in the denominators of its normalisation and weights.
EPSILON = 1e-8


def normalise(maps: Tensor, first: int = 1) -> Tensor:
    """Bring values over the axes from ``first`` on to [0, 1]."""
    axes = tuple(range(first, maps.ndim))
    maps = maps - maps.amin(axes, keepdim=True)
    return maps / (maps.amax(axes, keepdim=True) + EPSILON)


def largest_size(maps: list[Tensor]) -> tuple[int, ...]:
    """Return the largest extent along each axis behind the first."""
    return tuple(map(max, zip(*(part.shape[1:] for part in maps), strict=True)))


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Interpolate maps (B, h, w), or (B, d, h, w), linearly to a size."""
    mode = "bilinear" if maps.ndim == 3 else "trilinear"
    return functional.interpolate(maps[:, None], size, mode=mode, align_corners=False)[:, 0]
