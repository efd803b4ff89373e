"""Offer pytorch-grad-cam's token transforms, so that imports keep working.

This library finds token grids itself and does not call them.
"""

from torch import Tensor


def vit_reshape_transform(tensor: Tensor, height: int = 14, width: int = 14) -> Tensor:
    """Lay tokens on a grid (B, C, height, width) without the class token."""
    return tensor[:, 1:].reshape(len(tensor), height, width, -1).movedim(3, 1)


def swinT_reshape_transform(tensor: Tensor, height: int = 7, width: int = 7) -> Tensor:
    """Lay tokens on a grid (B, C, height, width)."""
    return tensor.reshape(len(tensor), height, width, -1).movedim(3, 1)
