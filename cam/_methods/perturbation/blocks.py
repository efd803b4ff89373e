"""Hide windows of an image or blocks of a volume."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam import kernels

Baseline = float | Sequence[float]


class Blocks:
    """Positions of a window, at multiples of a stride along each axis.

    A last window that reaches beyond the edge is cut off there, so that every pixel is covered.

    Attributes:
        counts: How many positions there are along each axis.
        positions: And in all, K.

    Args:
        inputs: (B, C, H, W) or (B, C, D, H, W).
        window: Sides of the window, one for each of the axes behind the channels.
        stride: Pixels from one window to the next, along each of them.
    """

    def __init__(self, inputs: Tensor, window: Sequence[int], stride: Sequence[int]) -> None:
        self._inputs, self._window = inputs, tuple(window)
        self._sides, device = tuple(inputs.shape[2:]), inputs.device
        self._starts = [
            _starts(side, length, step, device)
            for side, length, step in zip(self._sides, window, stride, strict=True)
        ]
        self._covers = [
            _covers(*each) for each in zip(self._starts, window, self._sides, strict=True)
        ]
        self.counts = tuple(map(len, self._starts))
        shifts = [side - starts for side, starts in zip(self._sides, self._starts, strict=True)]
        self._shifts = torch.cartesian_prod(*shifts)  # (K, axes)
        self.positions = len(self._shifts)
        # One hole in the middle of a mask twice as large as the picture, which is cut to the
        # picture at a shift for each window.
        self._hole = torch.ones([2 * side for side in self._sides], dtype=torch.bool, device=device)
        self._hole[
            tuple(
                slice(side, side + length) for side, length in zip(self._sides, window, strict=True)
            )
        ] = False

    def hide(self, number: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
        """Hide windows.

        Args:
            number: (n,) of windows, k + K·b for the k-th of image b.
            baseline: What a hidden pixel shows.

        Returns:
            The images (n, C, …), and (n,) which image each was made from.
        """
        owner = number // self.positions
        mask = self._hole.expand(len(number), *self._hole.shape)
        shifts = self._shifts[number % self.positions]
        masked = kernels.masked_batch(
            self._inputs,
            mask,
            baseline,
            owner=owner,
            size=tuple(self._hole.shape),
            shifts=shifts,
        )
        return masked, owner

    def spread(self, values: Tensor) -> Tensor:
        """Add up, at each pixel, the values (B, *counts) of the windows that cover it.

        A window covers a pixel if it does along each axis, so no map of a window is needed.
        """
        if len(self._covers) == 2:
            over_rows, over_columns = self._covers
            summed: Tensor = over_rows.T @ values @ over_columns  # (B, H, W)
            return summed
        return torch.einsum("bijk,id,jh,kw->bdhw", values, *self._covers)


def _starts(side: int, window: int, stride: int, device: torch.device) -> Tensor:
    """List the starts of windows until one reaches the end."""
    steps = -(-(side - window) // stride) + 1
    return torch.arange(steps, device=device) * stride


def _covers(starts: Tensor, window: int, side: int) -> Tensor:
    """Return (windows, side), 1 where a window covers a position."""
    at = torch.arange(side, device=starts.device)
    return ((at >= starts[:, None]) & (at < starts[:, None] + window)).float()
