"""Explain a batch with every method of a plan, whatever fails on one image."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cam._attribution.attribution import attribute
from cam._methods.base.method_registry import Method
from cam._runs.engines.isolate_failures import forget_peak, one_by_one, peak
from cam._runs.plan.options import BASELINES
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.tables import Rows
from cam.errors import CamWarning, Cancelled
from cam.types import Attribution, Cost

LOG = logging.getLogger("cam.evaluate")
NOT_EXPLAINED = "no method explained the image"
Beat = Callable[[str, float], None]
"""Told what is being done and how much of that is; it raises :class:`cam.Cancelled` where nobody
wants it any more."""


def quiet(_doing: str, _share: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One method's maps of a batch, by place in it.

    Attributes:
        maps: As batches of one.
        reasons: Why there is none.
        finite: Which of the maps hold no NaN.
    """

    maps: dict[int, Attribution]
    reasons: dict[int, str]
    finite: frozenset[int]


def explain(
    plan: Plan, batch: Tensor, targets: list[int] | None, rows: Rows, beat: Beat
) -> dict[str, Explained]:
    """Every method's maps: of all at once, and where that fails, of each image alone.

    Args:
        plan: With the methods.
        batch: (B, 3, H, W) on the model's device.
        targets: (B,) classes; None: the top ones.
        rows: What they took is added to its costs.
        beat: Told which method is at work, between two batches of its own.
    """

    def run(places: Sequence[int], methods: list[Method]) -> dict[str, Attribution]:
        part = batch if len(places) == len(batch) else batch[list(places)]
        with warnings.catch_warnings():
            # A NaN map is told as a reason beside its scores.
            warnings.simplefilter("ignore", CamWarning)
            maps = attribute(
                plan.model,
                part,
                methods,
                targets=None if targets is None else [targets[place] for place in places],
                layers=plan.options.layers,
                batch_size=plan.options.batch_size,
                precision=plan.options.precision,
                progress=lambda part: beat(part.method, part.done / max(part.total, 1)),
            )
        return dict(zip([str(one) for one in methods], maps.values(), strict=True))

    every = list(range(len(batch)))
    together = list(plan.methods.values())
    forget_peak(batch)
    try:
        shared = run(every, together)
    except Cancelled:
        raise
    except Exception:
        # Whose fault it is shows when they run alone.
        LOG.debug("a batch failed", exc_info=True)
        shared = {}
    found = {}
    for key, one in plan.methods.items():
        maps: dict[int, Attribution] = {}
        reasons: dict[int, str] = {}
        whole = [shared[str(one)]] if shared else []
        if not whole:

            def alone(places: Sequence[int], one: Method = one) -> Attribution:
                return run(places, [one])[str(one)]

            parts, reasons = one_by_one(alone, every)
            for places, attribution in parts:
                whole.append(attribution)
                maps |= {place: _row(attribution, row) for row, place in enumerate(places)}
        else:
            maps = {place: _row(whole[0], place) for place in every}
        _cost(rows, key, whole, len(maps), peak(batch))
        finite = torch.tensor([])
        if maps:
            heatmaps = torch.cat([one.heatmap for one in maps.values()])
            finite = heatmaps.flatten(1).isfinite().all(1)
        sound = [place for place, fine in zip(maps, finite.tolist(), strict=True) if fine]
        found[key] = Explained(maps, reasons, frozenset(sound))
    return found


def explain_baseline(
    name: str, batch: Tensor, found: dict[str, Explained], rows: Rows
) -> Explained:
    """A baseline's maps, for the targets that the methods explained."""
    begun = time.perf_counter()
    heatmaps = BASELINES[name](batch)
    cost = Cost(forwards=0, backwards=0, seconds=time.perf_counter() - begun)
    maps: dict[int, Attribution] = {}
    for place in range(len(batch)):
        one = next((e.maps[place] for e in found.values() if place in e.maps), None)
        if one is not None:
            own = heatmaps[place : place + 1]
            maps[place] = replace(one, heatmap=own, raw=own, layers=(), method=name, cost=cost)
    every = range(len(batch))
    reasons = {place: NOT_EXPLAINED for place in every if place not in maps}
    _cost(rows, name, list(maps.values())[:1], len(maps), peak(batch))
    return Explained(maps, reasons, frozenset(maps))


def _cost(rows: Rows, key: str, parts: list[Attribution], images: int, most: int | None) -> None:
    """A method's maps of this batch; ``most`` is what :func:`peak` says."""
    costs = [one.cost for one in parts]
    rows.costs.append(
        (
            key,
            None,
            images,
            sum(cost.forwards for cost in costs),
            sum(cost.backwards for cost in costs),
            sum(cost.seconds for cost in costs),
            most,
        )
    )


def _row(whole: Attribution, row: int) -> Attribution:
    """One image of an attribution, as a batch of one."""
    part = slice(row, row + 1)
    return Attribution(
        whole.heatmap[part],
        whole.raw[part],
        whole.targets[part],
        whole.scores[part],
        whole.logits[part],
        whole.layers,
        whole.method,
        whole.cost,
        whole.precision,
    )
