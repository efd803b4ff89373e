"""Filling in removed pixels from their neighbours: the linear system of ROAD, many at once.

Every removed pixel becomes the weighted mean of its eight neighbours, known or removed too:
Σ_j w_j (x_i - x_j) = 0, with w = 1/6 for the four that share an edge, 1/12 for those at the corners
and none beyond the picture (Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for
Attribution Methods", section 4.2). This is a Laplace equation, whose boundary values are the known
pixels: symmetric and positive definite as long as one pixel is known. It is solved by conjugate
gradients with one multigrid V-cycle as preconditioner, in which a Jacobi sweep of this very stencil
leaves a third of what is rough. All systems of a batch run together, and one that is done rests,
so that it ends at the same place in any batch.

Times 12, the neighbours' weights are [1 2 1] down times [1 2 1] along, less 4 in the middle, and
[1 2 1] is [1 1] twice: four additions of a plane to itself, shifted. For that each plane has a
frame of zeros.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

_MOST_ITERATIONS = 60
_COARSEST = 8
_FEW = 20_000
# What a correction leaves of the error, at most: a quarter to a third where it was measured.
_LEFT = 1 / 3
# As many systems as a CPU's cache likes; a GPU takes them all.
_SYSTEMS_ON_A_CPU = 3


def impute(images: Tensor, removed: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Fill in the removed pixels of each image.

    Args:
        images: (N, C, H, W); what the removed pixels hold does not matter.
        removed: (N, H, W) bool; at least one pixel of each image is known.
        tolerance: The largest error of a pixel, as a share of the image's largest absolute value;
            about, as it is judged by the last correction.

    Returns:
        (N, C, H, W) in float32, or float64 for float64; all NaN for an image that is not finite
        where it is known.
    """
    dtype = torch.promote_types(images.dtype, torch.float32)
    size = len(images) if images.is_cuda else _SYSTEMS_ON_A_CPU
    filled = torch.empty(images.shape, dtype=dtype, device=images.device)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        holes = removed[part]
        known = images[part].to(dtype).masked_fill(holes[:, None], 0)
        # Planes touch in memory, and 0 · NaN would spread.
        broken = ~known.flatten(1).sum(1).isfinite()
        if bool(broken.any()):
            known[broken] = 0
        planes = known.transpose(0, 1).contiguous()  # (C, N, H, W)
        filled[part] = _solve(planes, holes, tolerance).transpose(0, 1)
        if bool(broken.any()):
            filled[part][broken] = torch.nan
    return filled


@dataclass(frozen=True, eq=False)
class _Grid:
    """One level. Fields are (C, N, P), P = (h + 2)·(w + 2): planes with their frame.

    Attributes:
        size: (h, w).
        free: (N, P), 1 where a value is sought, and 0 where it is known and in the frame.
        share: free / (12 Σ w), the inverse of the system's diagonal.
        channels: C.
    """

    size: tuple[int, int]
    free: Tensor
    share: Tensor
    channels: int

    def field(self) -> Tensor:
        """Zeros (C, N, P)."""
        return self.free.new_zeros(self.channels, *self.free.shape)

    def inside(self, field: Tensor) -> Tensor:
        """The planes without their frame, a view (C, N, h, w)."""
        return _inside(field, self.size)

    def pairs(self, field: Tensor) -> Tensor:
        """The planes with a row or column of the frame where one is odd, a view."""
        height, width = (side + side % 2 for side in self.size)
        whole = _rows(field, self.size)
        return whole[..., 1 : 1 + height, 1 : 1 + width]

    # What is written anew in every cycle: memory that a CPU must first be given costs more than
    # what is computed in it.
    @cached_property
    def right(self) -> Tensor:
        """Room for a right side, (C, N, P)."""
        return self.field()

    @cached_property
    def answer(self) -> Tensor:
        """Room for what a cycle finds, (C, N, P)."""
        return self.field()

    @cached_property
    def applied(self) -> Tensor:
        """Room for the system applied to a step, (C, N, P)."""
        return self.field()

    @cached_property
    def _work(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.field().view(-1), self.field().view(-1), self.field()

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """Σ over the pixels of a plane, (C, N, 1)."""
        product = torch.mul(first, second, out=self._work[0].view(first.shape))
        return product.sum(2, keepdim=True)

    def neighbours(self, values: Tensor) -> Tensor:
        """12 Σ_j w_j x_j at every pixel, in a field that the next call overwrites."""
        first, second, result = self._work
        flat, row = values.view(-1), self.size[1] + 2
        end = flat.numel()
        torch.add(flat[:-1], flat[1:], out=first[: end - 1])
        torch.add(first[: end - 2], first[1 : end - 1], out=second[: end - 2])
        end -= 2
        torch.add(second[: end - row], second[row:end], out=first[: end - row])
        end -= row
        middle = result.view(-1)[1 + row : 1 + end]
        torch.add(first[: end - row], first[row:end], out=middle)
        return result.sub_(values, alpha=4)


def _inside(field: Tensor, size: tuple[int, int]) -> Tensor:
    return _rows(field, size)[..., 1:-1, 1:-1]


def _rows(field: Tensor, size: tuple[int, int]) -> Tensor:
    return field.view(*field.shape[:-1], size[0] + 2, size[1] + 2)


def _framed(planes: Tensor) -> Tensor:
    """(…, h, w) as (…, P)."""
    return functional.pad(planes, (1, 1, 1, 1)).flatten(-2)


def _grids(removed: Tensor, dtype: torch.dtype, channels: int) -> list[_Grid]:
    """From the picture to coarser ones; a coarse pixel is sought where all its pixels are."""
    known = (~removed).to(dtype)  # (N, h, w)
    grids = []
    while True:
        size = (known.shape[1], known.shape[2])
        # How many of [1 2 1] lie in the picture, down and along.
        rows, columns = (_in_the_picture(side, known) for side in size)
        diagonal = torch.outer(rows, columns) - 4
        free = 1 - known
        # A single pixel has no neighbours.
        share = free / diagonal.clamp(min=1)
        grids.append(_Grid(size, _framed(free), _framed(share), channels))
        if max(size) < _COARSEST:
            return grids
        known = (_halved(known) > 0).to(dtype)
        if bool(known.all()):
            return grids


def _in_the_picture(side: int, like: Tensor) -> Tensor:
    weight = like.new_full((side,), 4)
    weight[0] -= 1
    weight[-1] -= 1
    return weight


def _solve(images: Tensor, removed: Tensor, tolerance: float) -> Tensor:
    """(C, N, H, W) and (N, H, W)."""
    grids = _grids(removed, images.dtype, len(images))
    fine = grids[0]
    found = _framed(_guess(images, (~removed).to(images.dtype)))
    # Below rounding there is nothing to be had.
    tolerance = max(tolerance, 8 * torch.finfo(images.dtype).eps)
    enough = tolerance / _LEFT * _largest(found).clamp(min=1e-30)  # (N,)
    diagonal = torch.where(fine.share > 0, 1 / fine.share, 0)
    left = fine.neighbours(found) * fine.free - diagonal * found
    correction = _cycle(grids, 0, left)
    step = correction.clone()
    change = fine.dot(left, correction)
    for _ in range(_MOST_ITERATIONS):
        active = _largest(correction) > enough
        if not bool(active.any()):
            break
        applied = torch.mul(diagonal, step, out=fine.applied)
        applied.addcmul_(fine.neighbours(step), fine.free, value=-1)
        length = (change / fine.dot(step, applied)).nan_to_num(0, 0, 0) * active[:, None]
        found.addcmul_(step, length)
        left.addcmul_(applied, length, value=-1)
        correction = _cycle(grids, 0, left)
        # Polak and Ribière's, as the cycle is not symmetric: (r' - r)·z' / r·z.
        turn = (-length * fine.dot(applied, correction) / change).nan_to_num(0, 0, 0)
        change = fine.dot(left, correction)
        step.mul_(turn).add_(correction)
    return fine.inside(found.add_(correction))


def _largest(field: Tensor) -> Tensor:
    """The largest absolute value of each system, (N,)."""
    return torch.maximum(field.amax(2), -field.amin(2)).amax(0)


def _cycle(grids: list[_Grid], level: int, right: Tensor) -> Tensor:
    """Roughly the solution for a right side (C, N, P), in a field that the next call overwrites.

    The right side is 0 where values are known. One sweep, the coarser grid's answer to what that
    leaves, and one sweep.
    """
    grid = grids[level]
    found = torch.mul(right, grid.share, out=grid.answer)
    if level + 1 < len(grids):
        coarse = grids[level + 1]
        # What is left of the right side after this first sweep is what neighbours hand over.
        left = grid.pairs(grid.neighbours(found).mul_(grid.free))
        below = coarse.right
        _sums_of_four(left, coarse.inside(below))
        better = coarse.inside(_cycle(grids, level + 1, below.mul_(coarse.free)))
        height, width = grid.size
        finer = _finer(better)[..., :height, :width]
        grid.inside(found).addcmul_(finer, _inside(grid.free, grid.size))
    # As many as the size tells, and not the batch.
    for _ in range(4 if max(grid.size) < _COARSEST else 1):
        torch.mul(grid.neighbours(found).add_(right), grid.share, out=found)
    return found


def _halved(planes: Tensor) -> Tensor:
    """Sums over blocks of 2 × 2, which may be smaller at the end."""
    height, width = planes.shape[-2:]
    even = functional.pad(planes, (0, width % 2, 0, height % 2))
    halved = even.new_empty(*even.shape[:-2], even.shape[-2] // 2, even.shape[-1] // 2)
    _sums_of_four(even, halved)
    return halved


def _sums_of_four(even: Tensor, halved: Tensor) -> None:
    rows = even[..., 0::2, :] + even[..., 1::2, :]
    torch.add(rows[..., 0::2], rows[..., 1::2], out=halved)


def _finer(coarse: Tensor) -> Tensor:
    """Twice as many rows and columns, bilinear between the centres of pixels.

    On a CPU, and for more than a few of them, this is faster than torch's own.
    """
    *planes, height, width = coarse.shape
    if coarse.is_cuda or coarse.numel() < _FEW:
        return functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
    wide = coarse.new_empty(*planes, height, 2 * width)
    _twice(coarse, wide, -1)
    tall = coarse.new_empty(*planes, 2 * height, 2 * width)
    _twice(wide, tall, -2)
    return tall


def _twice(coarse: Tensor, fine: Tensor, dim: int) -> None:
    count = coarse.shape[dim]
    first, later = coarse.narrow(dim, 0, count - 1), coarse.narrow(dim, 1, count - 1)
    dim %= fine.dim()
    by_two = fine.view(*fine.shape[:dim], count, 2, *fine.shape[dim + 1 :])
    even, odd = by_two.unbind(dim + 1)
    torch.lerp(later, first, 0.25, out=even.narrow(dim, 1, count - 1))
    torch.lerp(first, later, 0.25, out=odd.narrow(dim, 0, count - 1))
    even.narrow(dim, 0, 1).copy_(coarse.narrow(dim, 0, 1))
    odd.narrow(dim, count - 1, 1).copy_(coarse.narrow(dim, count - 1, 1))


def _guess(images: Tensor, known: Tensor) -> Tensor:
    """Removed pixels from the means of what is known around them, at finer and finer scales.

    Args:
        images: (C, N, H, W), 0 where removed.
        known: (N, H, W), 1 or 0.
    """
    if bool((known > 0).all()):
        return images
    height, width = images.shape[2:]
    if min(height, width) < 2:
        mean = images.sum((2, 3), keepdim=True) / known.sum((1, 2)).view(-1, 1, 1)
        return torch.where(known > 0, images, mean)
    total, number = _halved(images), _halved(known)
    coarse = _guess(total / number.clamp(min=1), (number > 0).to(known.dtype))
    return torch.where(known > 0, images, _finer(coarse)[..., :height, :width])
