"""Solve for removed pixels on grids of halving size (multigrid).

A level holds all memory that its work needs and all views of it that its steps take: the pieces are
so small that to make a view takes as long as to compute with it.

Times 12, the neighbours' weights are [1 2 1] down times [1 2 1] along, less 4 in the middle, and
[1 2 1] is [1 1] twice: four additions of a plane to itself, shifted. For that each plane has a
frame of zeros.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

# At a side of this or less, all of a system's pixels are solved for at once.
SMALL = 7


class Field:
    """Planes with their frame.

    Attributes:
        whole: (C, N, P), P = (h + 2)·(w + 2).
        inside: (C, N, h, w), the same without the frame, a view.
    """

    def __init__(self, systems: int, channels: int, size: tuple[int, int], like: Tensor) -> None:
        height, width = size[0] + 2, size[1] + 2
        self.whole = like.new_zeros(channels, systems, height * width)
        self.framed = self.whole.view(channels, systems, height, width)
        self.inside = self.framed[..., 1:-1, 1:-1]
        flat = self.whole.view(-1)
        self.first, self.later = flat[:-1], flat[1:]

    def repeat_edges(self) -> None:
        """Show in the frame the pixels beside it."""
        framed = self.framed
        framed[..., 0].copy_(framed[..., 1])
        framed[..., -1].copy_(framed[..., -2])
        framed[..., 0, :].copy_(framed[..., 1, :])
        framed[..., -1, :].copy_(framed[..., -2, :])

    def clear_edges(self) -> None:
        """Set the frame to 0 again."""
        for edge in (0, -1):
            self.framed[..., edge].zero_()
            self.framed[..., edge, :].zero_()


class Level:
    """One grid for a number of systems of one size.

    Attributes:
        size: (h, w).
        number: (N, h, w), of how many of the picture's given pixels it is the mean.
        free: (N, P), 1 where a value is sought; 0 where it is given and in the frame.
        share: free / (12 Σ w), the inverse of the system's diagonal.
        middle: free · (12 Σ w + 4), what a pixel itself has in the system when the neighbours come
            as :meth:`around`.
        right: The right side, 0 where not free.
        answer: The solution of :func:`cycle`.
        values: Pixels, and what is guessed where they are removed.
    """

    def __init__(self, systems: int, channels: int, size: tuple[int, int], like: Tensor) -> None:
        def field() -> Field:
            return Field(systems, channels, size, like)

        height, width = self.size = size
        # How many of [1 2 1] lie in the picture, down and along; a single pixel has no neighbours.
        diagonal = torch.outer(*(_count_weights(side, like) for side in size)) - 4
        self._diagonal = diagonal.clamp(min=1)
        self._each_share = functional.pad(1 / self._diagonal, (1, 1, 1, 1)).flatten()
        self._each_middle = functional.pad(self._diagonal + 4, (1, 1, 1, 1)).flatten()
        self.number = like.new_zeros(systems, *size)
        free = Field(systems, 1, size, like)
        self.free, self.free_inside = free.whole[0], free.inside[0]
        self.share, self.middle = torch.empty_like(self.free), torch.empty_like(self.free)
        self.right, self.answer, self.values, self._once = field(), field(), field(), field()
        self._shifts(field(), field(), field())
        tall, wide = height + height % 2, width + width % 2
        self._halved = like.new_empty(channels, systems, tall // 2, wide)
        if max(size) <= SMALL:
            self._system = _build_system(self._diagonal)
            self._identity = torch.eye(height * width, dtype=like.dtype, device=like.device)
        self._wide = like.new_empty(channels, systems, tall // 2 + 2, wide)
        self._tall = like.new_empty(channels, systems, tall, wide)
        self.finer = self._tall[..., :height, :width]

    def _shifts(self, first: Field, second: Field, result: Field) -> None:
        """Make the views of the four additions; ``first`` holds the first sum."""
        row, end = self.size[1] + 2, first.whole.numel()
        sums, pairs, last = (field.whole.view(-1) for field in (first, second, result))
        self._around = result.whole
        self._pairs = self.pairs(result)
        self._beyond = []
        if self.size[0] % 2:
            self._beyond.append(result.framed[..., -1, :])
        if self.size[1] % 2:
            self._beyond.append(result.framed[..., -1])
        self._first = sums[: end - 1]
        self._second = sums[: end - 2], sums[1 : end - 1], pairs[: end - 2]
        end -= 2
        self._third = pairs[: end - row], pairs[row:end], sums[: end - row]
        end -= row
        self._fourth = sums[: end - row], sums[row:end], last[1 + row : 1 + end]

    def pairs(self, field: Field) -> Tensor:
        """View the planes with one frame line where a side is odd."""
        height, width = (side + side % 2 for side in self.size)
        return field.framed[..., 1 : 1 + height, 1 : 1 + width]

    def mark(self, fixed: Tensor, number: Tensor) -> None:
        """Set which pixels are given, (N, h, w), 1 or 0."""
        self.number = number
        torch.sub(1, fixed, out=self.free_inside)
        torch.mul(self.free, self._each_share, out=self.share)
        torch.mul(self.free, self._each_middle, out=self.middle)

    def around(self, field: Field) -> Tensor:
        """Compute 12 Σ_j w_j x_j + 4 x_i, which the next call overwrites.

        (C, N, P); what stands in the frame means nothing.
        """
        torch.add(field.first, field.later, out=self._first)
        for first, later, out in (self._second, self._third, self._fourth):
            torch.add(first, later, out=out)
        return self._around

    def sweep(self, field: Field) -> None:
        """Make one Jacobi sweep in place, for ``start``'s right side."""
        around = self.around(field).sub_(field.whole, alpha=4)
        torch.addcmul(self._once.whole, around, self.share, out=field.whole)

    def start(self, right: Tensor) -> Field:
        """Make the first sweep, from zero."""
        torch.mul(right, self.share, out=self._once.whole)
        return self._once

    def halve(self, planes: Tensor, out: Tensor) -> None:
        """Sum over blocks of 2 × 2 of planes with even sides."""
        torch.add(planes[..., 0::2, :], planes[..., 1::2, :], out=self._halved)
        torch.add(self._halved[..., 0::2], self._halved[..., 1::2], out=out)

    def restrict_residual(self, out: Tensor) -> None:
        """Sum the first sweep's residual over blocks of 2 × 2.

        Only where all of a block is sought: elsewhere they mean nothing.
        """
        self.around(self._once).sub_(self._once.whole, alpha=4)
        for edge in self._beyond:
            edge.zero_()
        self.halve(self._pairs, out)

    def refine(self, coarse: Field) -> Tensor:
        """Refine a coarser grid, bilinear between the centres of pixels.

        Beyond the edges lies what the frame holds.
        """
        framed, wide, tall = coarse.framed, self._wide, self._tall
        torch.lerp(framed[..., 1:-1], framed[..., :-2], 0.25, out=wide[..., 0::2])
        torch.lerp(framed[..., 1:-1], framed[..., 2:], 0.25, out=wide[..., 1::2])
        torch.lerp(wide[..., 1:-1, :], wide[..., :-2, :], 0.25, out=tall[..., 0::2, :])
        torch.lerp(wide[..., 1:-1, :], wide[..., 2:, :], 0.25, out=tall[..., 1::2, :])
        return self.finer

    def correct(self) -> Field:
        """Add the coarser grid's correction to the first sweep, and sweep again."""
        answer = self.answer
        torch.addcmul(self._once.inside, self.finer, self.free_inside, out=answer.inside)
        self.sweep(answer)
        return answer

    def invert(self) -> None:
        """Invert the systems of a small grid, (N, h·w, h·w)."""
        free = self.free_inside.flatten(1)
        # A given pixel's row is that of the identity: nothing is sought of it.
        system = torch.where(free[:, :, None] > 0, self._system * free[:, None, :], self._identity)
        self._inverse = torch.linalg.inv_ex(system)[0]

    def solve(self, right: Tensor) -> Field:
        """Solve the small grid for a right side (C, N, P)."""
        height, width = self.size
        channels, systems, _ = right.shape
        inside = right.view(self.right.framed.shape)[..., 1:-1, 1:-1]
        columns = inside.reshape(channels, systems, -1).permute(1, 2, 0)  # (N, h·w, C)
        solution = torch.bmm(self._inverse, columns).permute(2, 0, 1)
        self.answer.inside.copy_(solution.view(channels, systems, height, width))
        return self.answer


def build_levels(systems: int, channels: int, size: tuple[int, int], like: Tensor) -> list[Level]:
    """Build grids from the picture's to one of ``SMALL`` pixels a side.

    Args:
        systems: N, how many are solved together.
        channels: C, of each picture.
        size: (H, W).
        like: Of the dtype and device that the levels are to have.
    """
    grids = [Level(systems, channels, size, like)]
    while max(size) > SMALL:
        size = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        grids.append(Level(systems, channels, size, like))
    return grids


def mark(grids: list[Level], fixed: Tensor) -> list[Level]:
    """Mark the given pixels on all levels, and return levels to solve.

    Args:
        grids: Of :func:`build_levels`.
        fixed: (N, H, W), 1 or 0. A coarse pixel is sought where all its pixels are.
    """
    number = fixed
    for depth, grid in enumerate(grids):
        grid.mark(fixed, number)
        if bool(fixed.all()):
            return grids[:depth]
        if grid is grids[-1]:
            grid.invert()
        else:
            height, width = grid.size
            even = fixed.new_zeros(len(fixed), height + height % 2, width + width % 2)
            even[:, :height, :width] = fixed
            rows = even[:, 0::2] + even[:, 1::2]
            number = rows[..., 0::2] + rows[..., 1::2]
            fixed = (number > 0).to(number.dtype)
    return grids


def cycle(grids: list[Level], depth: int, right: Tensor) -> Field:
    """Approximate the solution for a right side; the next call overwrites it.

    One sweep, the coarser grid's answer to what that leaves, and one sweep.

    Args:
        grids: Of :func:`mark`.
        depth: At which level.
        right: (C, N, P), 0 where values are given.
    """
    grid = grids[depth]
    if max(grid.size) <= SMALL:
        return grid.solve(right)
    once = grid.start(right)
    if depth + 1 < len(grids):
        coarse = grids[depth + 1]
        grid.restrict_residual(coarse.right.inside)
        coarse.right.whole.mul_(coarse.free)
        grid.refine(cycle(grids, depth + 1, coarse.right.whole))
        return grid.correct()
    grid.answer.whole.copy_(once.whole)
    grid.sweep(grid.answer)
    return grid.answer


def guess(grids: list[Level], count: int) -> None:
    """Fill in removed pixels from the means around, ever finer.

    Args:
        grids: Of :func:`build_levels`, marked; the first one's ``values`` are the picture's, 0
            where they are removed, and filled in afterwards.
        count: How many levels have something to seek.
    """
    pairs = list(pairwise(grids[: count + 1]))
    for finer, coarse in pairs:
        finer.halve(finer.pairs(finer.values), coarse.values.inside)
        coarse.values.inside.div_(coarse.number.clamp(min=1))
    if 0 < count == len(grids):
        last = grids[-1]
        solution = last.solve(last.around(last.values) * last.free)
        last.values.whole.add_(solution.whole)
    for finer, coarse in reversed(pairs):
        coarse.values.repeat_edges()
        finer.refine(coarse.values)
        coarse.values.clear_edges()
        finer.values.inside.addcmul_(finer.finer, finer.free_inside)


def _count_weights(side: int, like: Tensor) -> Tensor:
    weight = like.new_full((side,), 4)
    weight[0] -= 1
    weight[-1] -= 1
    return weight


def _build_system(diagonal: Tensor) -> Tensor:
    """Build the matrix of a grid without a pixel given, (h·w, h·w)."""
    height, width = diagonal.shape
    rows, columns = (torch.arange(side, device=diagonal.device) for side in (height, width))
    down = (rows.view(-1, 1) - rows).abs()[:, None, :, None]
    along = (columns.view(-1, 1) - columns).abs()[None, :, None, :]
    weight = (2 - down).clamp(min=0) * (2 - along).clamp(min=0)
    weight = weight.reshape(height * width, height * width).to(diagonal.dtype)
    return torch.diag(diagonal.flatten()) - weight.fill_diagonal_(0)
