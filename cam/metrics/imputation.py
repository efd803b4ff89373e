"""Filling in removed pixels from their neighbours: the linear system of ROAD, many at once.

Every removed pixel becomes the weighted mean of its eight neighbours, known or removed too:
Σ_j w_j (x_i - x_j) = 0, with w = 1/6 for the four that share an edge, 1/12 for those at the corners
and none beyond the picture (Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for
Attribution Methods", section 4.2). This is a Laplace equation, whose boundary values are the known
pixels: symmetric and positive definite as long as one pixel is known. It is solved by conjugate
gradients with one multigrid V-cycle as preconditioner, in which a Jacobi sweep of this very stencil
leaves a third of what is rough. All systems of a batch run together, and one that is done rests,
so that it ends at the same place in any batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_LINE = (1.0, 2.0, 1.0)
_MOST_ITERATIONS = 60
_COARSEST = 4
# As many systems as a CPU's cache likes; a GPU takes them all.
_SYSTEMS_ON_A_CPU = 16


def impute(images: Tensor, removed: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Fill in the removed pixels of each image.

    Args:
        images: (N, C, H, W); what the removed pixels hold does not matter.
        removed: (N, H, W) bool; at least one pixel of each image is known.
        tolerance: The largest error of a pixel, as a share of the image's largest absolute value:
            about, as it is judged by the last correction.

    Returns:
        (N, C, H, W) in float32, or float64 for float64.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    planes = images.to(dtype).transpose(0, 1)  # (C, N, H, W)
    size = len(images) if images.is_cuda else _SYSTEMS_ON_A_CPU
    solved = [
        _solve(some, holes, tolerance)
        for some, holes in zip(
            torch.split(planes, size, 1), torch.split(removed, size), strict=True
        )
    ]
    return torch.cat(solved, 1).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class _Grid:
    """One level: which of its cells are sought.

    Attributes:
        free: (N, h, w), 1 where a value is sought and 0 where it is known.
        share: free / Σ w, the inverse of the system's diagonal.
        stencil: (N, 1, 3, 3).
    """

    free: Tensor
    share: Tensor
    stencil: Tensor

    def neighbours(self, values: Tensor) -> Tensor:
        """Σ_j w_j x_j at every cell; values (C, N, h, w)."""
        return functional.conv2d(values, self.stencil, padding=1, groups=values.shape[1])


def _grids(removed: Tensor, dtype: torch.dtype) -> list[_Grid]:
    """From the picture to coarser ones; a coarse cell is sought where all its cells are."""
    line = torch.tensor(_LINE, dtype=dtype, device=removed.device)
    stencil = torch.outer(line, line) / 12
    stencil[1, 1] = 0
    stencil = stencil.expand(len(removed), 1, 3, 3).contiguous()
    known = (~removed).to(dtype)
    grids = []
    while True:
        ones = torch.ones_like(known[:1, None])
        weight = functional.conv2d(ones, stencil[:1], padding=1)[0]  # (1, h, w)
        free = 1 - known
        grids.append(_Grid(free, free / weight.clamp(min=1e-6), stencil))
        if min(known.shape[1:]) < _COARSEST:
            return grids
        known = functional.max_pool2d(known, 2, ceil_mode=True)
        if bool(known.all()):
            return grids


def _solve(images: Tensor, removed: Tensor, tolerance: float) -> Tensor:
    """(C, N, H, W) and (N, H, W)."""
    grids = _grids(removed, images.dtype)
    fine = grids[0]
    found = _guess(images.masked_fill(removed, 0), 1 - fine.free)
    enough = tolerance * found.abs().amax((0, 2, 3)).clamp(min=1e-30)  # (N,)
    # Where the diagonal is d: r = K x - d x, of the sought pixels.
    left = fine.free * fine.neighbours(found) - _diagonal(fine, found)
    step = correction = _cycle(grids, 0, left)
    change = _dot(left, correction)
    for _ in range(_MOST_ITERATIONS):
        # What is not finite is never below, and rests too.
        active = correction.abs().amax((0, 2, 3)) > enough
        if not bool(active.any()):
            break
        applied = _diagonal(fine, step) - fine.free * fine.neighbours(step)
        length = (change / _dot(step, applied)).nan_to_num(0, 0, 0) * active[:, None, None]
        found = torch.addcmul(found, step, length)
        left = torch.addcmul(left, applied, length, value=-1)
        correction = _cycle(grids, 0, left)
        # Polak and Ribière's, as the cycle is not symmetric: (r' - r)·z' / r·z.
        turn = (-length * _dot(applied, correction) / change).nan_to_num(0, 0, 0)
        change = _dot(left, correction)
        step = torch.addcmul(correction, step, turn)
    return found


def _diagonal(grid: _Grid, values: Tensor) -> Tensor:
    return torch.where(grid.free > 0, values / grid.share, 0)


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(C, N, 1, 1)."""
    shape = first.shape[:2]
    rows = first.flatten(2).flatten(0, 1).unsqueeze(1)
    columns = second.flatten(2).flatten(0, 1).unsqueeze(2)
    return torch.bmm(rows, columns).view(*shape, 1, 1)


def _cycle(grids: list[_Grid], level: int, right: Tensor) -> Tensor:
    """Roughly the solution for a right side (C, N, h, w) that is 0 where values are known."""
    grid = grids[level]
    found = right * grid.share
    if level + 1 < len(grids):
        # What is left of the right side after this first sweep is what neighbours hand over.
        left = grid.neighbours(found).mul_(grid.free)
        coarse = functional.avg_pool2d(left, 2, ceil_mode=True, divisor_override=1)
        coarse.mul_(grids[level + 1].free)
        better = _cycle(grids, level + 1, coarse)
        size = right.shape[2:]
        found.addcmul_(_finer(better, (size[0], size[1])), grid.free)
    # As many as the size tells, and not the batch.
    for _ in range(8 if min(right.shape[2:]) < _COARSEST else 1):
        found = grid.neighbours(found).add_(right).mul_(grid.share)
    return found


def _finer(coarse: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _guess(images: Tensor, known: Tensor) -> Tensor:
    """Removed pixels from the means of what is known around them, at finer and finer scales.

    Args:
        images: (C, N, H, W), 0 where removed.
        known: (N, H, W), 1 or 0.
    """
    if bool((known > 0).all()):
        return images
    if min(images.shape[2:]) < 2:
        mean = images.sum((2, 3), keepdim=True) / known.sum((1, 2), keepdim=True)
        return torch.where(known > 0, images, mean)
    total = functional.avg_pool2d(images, 2, ceil_mode=True, divisor_override=1)
    number = functional.avg_pool2d(known, 2, ceil_mode=True, divisor_override=1)
    coarse = _guess(total / number.clamp(min=1), (number > 0).to(known.dtype))
    size = (images.shape[2], images.shape[3])
    return torch.where(known > 0, images, _finer(coarse, size))
