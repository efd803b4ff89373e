"""Draw until chance no longer decides a map, and tell its error."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from cam._engine.passes import Passes
from cam._methods.base.maps import fill_up
from cam.parameters import Rule, number
from cam.types import Maps

# Into how many the draws are divided: enough for a standard error, and few to keep in memory.
GROUPS = 10
# Draws before the first comparison of halves, and by how much they grow up to the next.
_FIRST = 60
_GROWTH = 1.5
# Below this correlation of halves a map is remarked on: another seed's is expected to correlate
# with it by less than 0.89.
_STEADY_HALVES = 0.8
STEADY: Rule = number(0, 1)

T = TypeVar("T")


@dataclass
class Sum:
    """A sum over draws, as a group gathers it.

    Attributes:
        total: Of any shape; 0 before the first draw.
        count: How many draws are in it.
    """

    total: Tensor | float = 0.0
    count: int = 0

    def add(self, total: Tensor, count: int) -> None:
        """Take the sum over some more draws in."""
        self.total, self.count = self.total + total, self.count + count


def mean_of(sums: Sequence[Sum]) -> Tensor:
    """Average over all draws of groups."""
    total = torch.stack([torch.as_tensor(group.total) for group in sums]).sum(0)
    return total / sum(group.count for group in sums)


@dataclass(frozen=True)
class Estimate:
    """An image's map, and what its draws say of it.

    Attributes:
        raw: (h, w).
        error: (h, w) standard error; NaN where there are too few draws to tell.
        agreement: Pearson's correlation of the maps of two halves of the draws; NaN where there
            are too few, or a map is the same everywhere.
        count: How many draws there were.
    """

    raw: Tensor
    error: Tensor
    agreement: float
    count: int


class Draws(Generic[T]):
    """Gathers what is drawn for an image in groups, until two halves of them agree.

    The maps of all groups but each in turn have the spread from which follows, by the jackknife,
    the error of the map of all: it costs no pass, and needs no formula for the method.

    Efron and Stein, The jackknife estimate of variance, Annals of Statistics 1981.

    Args:
        most: How many are drawn at most.
        make: Makes what a group gathers.
        make_map: From what groups gathered to their map (h, w).
        block: How many draws that follow each other belong together.
        least: The fewest draws that determine a map; with less there is no error to tell.

    Attributes:
        groups: What each gathered.
        count: How many were drawn so far.
    """

    def __init__(
        self,
        most: int,
        make: Callable[[], T],
        make_map: Callable[[Sequence[T]], Tensor],
        block: int = 1,
        least: int = 1,
    ) -> None:
        self._most, self._make_map, self._block, self._least = most, make_map, block, least
        self.groups = [make() for _ in range(min(GROUPS, -(-most // block)))]
        self.count = 0
        self._gathered = 0

    def batches(self, passes: Passes, steady: float = 1.0) -> Iterator[slice]:
        """Cut the draws into batches, and end when chance no longer decides the map.

        When it ends does not depend on the size of batches.

        Args:
            passes: Whose batches they are; all draws were announced before.
            steady: At which expected correlation with another seed's map it ends; 1: never before
                all are drawn.
        """
        stop = min(_FIRST, self._most) if steady < 1 else self._most
        while self.count < self._most:
            start = self.count
            for part in passes.chunks(stop - start):
                yield slice(start + part.start, start + part.stop)
            self.count = stop
            # A map that is the same everywhere or not a number, with which nothing correlates,
            # does not change by more draws.
            if self.count < self._most and not self._predict_agreement() < steady:
                passes.spare(self._most - self.count)
                return
            stop = min(int(self.count * _GROWTH) // 2 * 2, self._most)

    def cut(self, part: slice) -> Iterator[tuple[T, list[int]]]:
        """Divide a batch of draws among the groups.

        Args:
            part: The numbers of its draws, of all.

        Yields:
            What a group gathers, and which rows of the batch belong to it.
        """
        for number_, group in enumerate(self.groups):
            rows = [
                draw - part.start
                for draw in range(part.start, part.stop)
                if draw // self._block % len(self.groups) == number_
            ]
            if rows:
                yield group, rows
        self._gathered = part.stop

    @property
    def filled(self) -> Sequence[T]:
        """What was gathered in those groups that have a draw."""
        return self.groups[: -(-self._gathered // self._block)]

    def tell(
        self, passes: Passes, estimates: "Sequence[Estimate]", finish: Callable[[Tensor], Maps]
    ) -> None:
        """Offer the maps of the draws so far; too few to determine a map are not offered.

        Args:
            passes: They report it.
            estimates: Of the images before this one.
            finish: From raw maps (B, h, w), NaN for images to come, to maps.

        Raises:
            Cancelled: The caller does not want the rest.
        """

        def gather() -> Maps:
            raws = [*(estimate.raw for estimate in estimates), self._make_map(self.filled)]
            return finish(fill_up(raws, len(passes.pixels.inputs)))

        passes.tell(gather if self._gathered >= self._least else None)

    def estimate(self) -> Estimate:
        """Make the map of all groups, and of parts of them to see how much it depends on chance."""
        groups, count = self.groups, len(self.groups)
        raw = self._make_map(groups)
        if count < 2 or self.count - -(-self.count // count) < self._least:
            error = torch.full_like(raw, torch.nan)
        else:
            without = [self._make_map(groups[:i] + groups[i + 1 :]) for i in range(count)]
            error = torch.stack(without).var(0, correction=0).mul(count - 1).sqrt()
        return Estimate(raw, error, self._correlate_halves(), self.count)

    def _predict_agreement(self) -> float:
        """Predict the correlation with another seed's map (Spearman 1910 and Brown 1910)."""
        halves = self._correlate_halves()
        return 2 * halves / (1 + halves) if halves > -1 else -1.0

    def _correlate_halves(self) -> float:
        if len(self.groups) < 2 or self.count // 2 < self._least:
            return torch.nan
        halves = [self._make_map(self.groups[start::2]).flatten() for start in (0, 1)]
        pair = torch.stack(halves).double()
        pair = pair - pair.mean(1, keepdim=True)
        return float((pair[0] @ pair[1]) / (pair[0].norm() * pair[1].norm()))


def tell_errors(maps: Maps, estimates: Sequence[Estimate], draws: str) -> Maps:
    """Add the standard errors to maps, and remark on those that chance decides.

    Args:
        maps: (B, h, w).
        estimates: Of each image.
        draws: What was drawn, in the plural, as the parameter is called.
    """
    remarks = []
    for image, estimate in enumerate(estimates):
        if estimate.agreement < _STEADY_HALVES:
            sentence = (
                f"the maps of two halves of its {estimate.count} {draws} have a correlation of "
                f"only {estimate.agreement:.2f}, so another seed gives another map; more {draws} "
                "make it steadier"
            )
        elif bool((estimate.error.isnan() & estimate.raw.isfinite()).any()):
            sentence = (
                f"{estimate.count} {draws} are too few to tell how far chance decides the map; "
                "more make it steadier"
            )
        else:
            continue
        remarks.append((image, sentence))
    error = torch.stack([estimate.error for estimate in estimates])
    return replace(maps, error=error, remarks=(*maps.remarks, *remarks))
