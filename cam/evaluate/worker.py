"""One shard: explain its items with every method, measure every map.

A function of a plan and a range, the same whoever calls it. What goes wrong with an image, a method
or a metric stays with it: the batch that failed is tried again image by image.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cam.attribute import attribute
from cam.data.dataset import Item
from cam.errors import CamWarning, Cancelled, TargetError
from cam.evaluate.classes import class_of
from cam.evaluate.plan import BASELINES, Metric, Plan
from cam.evaluate.reader import Read, in_a_line
from cam.evaluate.seen import mask_as_seen
from cam.evaluate.tables import FAILED, OK, SKIPPED, UNDEFINED, Rows, as_tables
from cam.methods.registry import Method
from cam.types import Attribution, Cost

LOG = logging.getLogger("cam.evaluate")
NO_MASK = "where the class is, is not known"
NOT_EXPLAINED = "no method explained the image"


@dataclass(eq=False)
class Result:
    """A shard's tables.

    Attributes:
        tables: Name → ``pyarrow.Table``, as :class:`cam.evaluate.store.Store` takes them.
        problems: One sentence for each image that was skipped and each method or metric that failed
            on one.
        skipped: How many images could not be read.
        failed: How many values are missing because a method or metric failed.
    """

    tables: dict[str, Any]
    problems: list[str]
    skipped: int
    failed: int


def measure_shard(plan: Plan, read: Read) -> Result:
    """Explain and measure what was read."""
    rows = Rows()
    problems: list[str] = []
    resolved: dict[int, int | None] = {}
    for number, item in list(read.items.items()):
        if isinstance(item, Item):
            try:
                resolved[number] = _target(plan, item)
            except TargetError as error:
                read.items[number] = str(error)
    for number, item in read.items.items():
        if isinstance(item, str):
            name = plan.data.identifier(number)
            problems.append(f"{name} was skipped: {item}")
            rows.items.append((number, name, None, None, None, None, None, None, None, None, item))
            for way in plan.keys:
                for what in plan.metrics:
                    rows.scores.append((number, way, what, float("nan"), SKIPPED, item))
    # A transform may give several sizes, which do not fit in one batch.
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in resolved:
        groups.setdefault(tuple(read.inputs[number].shape), []).append(number)
    for numbers in groups.values():
        _Group(plan, read, numbers, resolved, rows, problems).run()
    failed = sum(row[4] == FAILED for row in rows.scores)
    return Result(
        as_tables(rows, plan.keys, plan.metrics),
        problems,
        len(read.items) - len(resolved),
        failed,
    )


def _target(plan: Plan, item: Item) -> int | None:
    """The item's class as the model's index; None for the top class."""
    if plan.targets == "predicted" or item.target is None:
        return None
    if isinstance(item.target, int):
        return item.target
    return class_of(plan.model, plan.classes, item.target)


@dataclass(frozen=True, eq=False)
class _Explained:
    """One method's maps of a batch, by place in it.

    Attributes:
        maps: As batches of one.
        reasons: Why there is none.
        finite: Which of the maps hold no NaN.
    """

    maps: dict[int, Attribution]
    reasons: dict[int, str]
    finite: frozenset[int]


@dataclass(eq=False)
class _Group:
    """Items of a shard whose inputs have the same size."""

    plan: Plan
    read: Read
    numbers: list[int]
    resolved: dict[int, int | None]
    rows: Rows
    problems: list[str]

    def run(self) -> None:
        plan = self.plan
        batch = torch.stack([self.read.inputs[number] for number in self.numbers])
        batch = batch.to(plan.model.device)
        targets = self._targets(batch)
        masks = [self._mask(number, batch.shape[-2:]) for number in self.numbers]
        found = self._explain(batch, targets)
        self._keep_items(found)
        found |= {name: self._baseline(name, batch, found) for name in plan.baselines}
        for key, explained in found.items():
            self._keep_maps(key, explained.maps)
            for what, metric in plan.metrics.items():
                self._measure(key, what, metric, batch, explained, masks)

    def _targets(self, batch: Tensor) -> list[int] | None:
        wanted = [self.resolved[number] for number in self.numbers]
        if all(one is None for one in wanted):
            return None
        if any(one is None for one in wanted):
            top = self.plan.model.predict(batch).argmax(1).tolist()
            return [other if one is None else one for one, other in zip(wanted, top, strict=True)]
        return [one for one in wanted if one is not None]

    def _mask(self, number: int, size: Sequence[int]) -> Tensor | None:
        item = self.read.items[number]
        assert isinstance(item, Item)
        if item.mask is None:
            return None
        if isinstance(item.image, Tensor):
            return torch.from_numpy(item.mask.copy())
        return mask_as_seen(self.plan.model.transform, item.mask, (size[0], size[1]))

    def _explain(self, batch: Tensor, targets: list[int] | None) -> dict[str, _Explained]:
        """Every method's maps: of all at once, and where that fails, of each image alone."""
        plan = self.plan

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
                    layers=plan.layers,
                    batch_size=plan.batch_size,
                    precision=plan.precision,
                )
            return dict(zip([str(one) for one in methods], maps.values(), strict=True))

        every = list(range(len(batch)))
        together = list(plan.methods.values())
        _forget_peak(batch)
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

                parts, reasons = _one_by_one(alone, every)
                for places, attribution in parts:
                    whole.append(attribution)
                    maps |= {place: _row(attribution, row) for row, place in enumerate(places)}
            else:
                maps = {place: _row(whole[0], place) for place in every}
            self._cost(key, None, whole, len(maps), _peak(batch))
            for place, reason in reasons.items():
                self.problems.append(f"{self._name(place)}: {key} failed: {reason}")
            finite = torch.tensor([])
            if maps:
                heatmaps = torch.cat([one.heatmap for one in maps.values()])
                finite = heatmaps.flatten(1).isfinite().all(1)
            sound = [place for place, fine in zip(maps, finite.tolist(), strict=True) if fine]
            found[key] = _Explained(maps, reasons, frozenset(sound))
        return found

    def _baseline(self, name: str, batch: Tensor, found: dict[str, _Explained]) -> _Explained:
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
        self._cost(name, None, list(maps.values())[:1], len(maps), _peak(batch))
        return _Explained(maps, reasons, frozenset(maps))

    def _measure(
        self,
        key: str,
        what: str,
        metric: Metric,
        batch: Tensor,
        explained: _Explained,
        masks: list[Tensor | None],
    ) -> None:
        """One metric of one method's maps, a row for each image whatever happens."""
        plan, maps = self.plan, explained.maps
        rows: dict[int, tuple[float, str, str | None]] = {}
        fit = []
        for place in range(len(batch)):
            if place in explained.reasons:
                rows[place] = (float("nan"), FAILED, explained.reasons[place])
            elif place not in explained.finite:
                rows[place] = (float("nan"), UNDEFINED, "its map is NaN")
            elif key in plan.baselines and metric.info.needs_method:
                told = f"{what} explains again, and {key} is no method"
                rows[place] = (float("nan"), UNDEFINED, told)
            elif metric.info.needs_masks and masks[place] is None:
                rows[place] = (float("nan"), UNDEFINED, NO_MASK)
            else:
                fit.append(place)

        def run(places: Sequence[int]) -> tuple[list[float], list[str | None]]:
            known = [mask for place in places if (mask := masks[place]) is not None]
            targets = torch.cat([_targets_of(maps[place]) for place in places])
            scores = metric.measure(
                plan.model,
                batch if len(places) == len(batch) else batch[list(places)],
                torch.cat([maps[place].heatmap for place in places]),
                targets,
                torch.stack(known).to(batch.device) if metric.info.needs_masks else None,
                method=plan.methods.get(key),
                layers=plan.layers,
                batch_size=plan.batch_size,
                progress=None,
            )
            values = scores.values.float().cpu().tolist()
            if len(values) != len(places):
                raise ValueError(f"it gave {len(values)} values for {len(places)} images")
            return values, list(scores.reasons)

        start = time.perf_counter()
        _forget_peak(batch)
        parts, broken = _one_by_one(run, fit) if fit else ([], {})
        seconds = time.perf_counter() - start
        self.rows.costs.append(
            (key, what, len(fit) - len(broken), None, None, seconds, _peak(batch))
        )
        for places, (values, why) in parts:
            for place, value, reason in zip(places, values, why, strict=True):
                if math.isfinite(value):
                    rows[place] = (value, OK, None)
                else:
                    told = reason or (
                        "it is undefined here" if value != value else "it is infinite"
                    )
                    rows[place] = (float("nan"), UNDEFINED, told)
        for place, reason in broken.items():
            rows[place] = (float("nan"), FAILED, reason)
            self.problems.append(f"{self._name(place)}: {what} of {key} failed: {reason}")
        for place in range(len(batch)):
            self.rows.scores.append((self.numbers[place], key, what, *rows[place]))

    def _keep_items(self, found: dict[str, _Explained]) -> None:
        """What the model said of each image, and a small picture of what it saw."""
        plan, model = self.plan, self.plan.model
        for place, number in enumerate(self.numbers):
            item = self.read.items[number]
            assert isinstance(item, Item)
            said: tuple[Any, ...] = (None,) * 7
            one = next((e.maps[place] for e in found.values() if place in e.maps), None)
            if one is not None:
                chances = one.logits[0].softmax(0)
                top, target = int(chances.argmax()), int(_targets_of(one)[0])
                known = self.resolved[number]
                said = (
                    target,
                    model.label(target),
                    top,
                    model.label(top),
                    float(chances[top]),
                    float(chances[target]),
                    None if known is None else known == top,
                )
            self.rows.items.append((number, item.id, item.path, *said, None))
            if plan.heatmaps:
                self.rows.pictures.append((number, self.read.pictures[number]))

    def _keep_maps(self, key: str, maps: dict[int, Attribution]) -> None:
        side = self.plan.heatmaps
        if not side or not maps:
            return
        heatmaps = torch.cat([one.heatmap for one in maps.values()])[:, None]
        small = functional.interpolate(heatmaps, size=(side, side), mode="area")[:, 0]
        levels = (small.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        for place, level in zip(maps, levels, strict=True):
            self.rows.maps.append((self.numbers[place], key, side, level.tobytes()))

    def _cost(
        self, key: str, what: str | None, parts: list[Attribution], images: int, peak: int | None
    ) -> None:
        costs = [one.cost for one in parts]
        self.rows.costs.append(
            (
                key,
                what,
                images,
                sum(cost.forwards for cost in costs),
                sum(cost.backwards for cost in costs),
                sum(cost.seconds for cost in costs),
                peak,
            )
        )

    def _name(self, place: int) -> str:
        return self.plan.data.identifier(self.numbers[place])


def _one_by_one(
    run: Callable[[Sequence[int]], Any], places: list[int]
) -> tuple[list[tuple[list[int], Any]], dict[int, str]]:
    """All at once; where that fails, each alone, with the reason of those that fail then too."""
    try:
        return [(places, run(places))], {}
    except Cancelled:
        raise
    except Exception as error:
        LOG.debug("a batch failed", exc_info=True)
        if len(places) == 1:
            return [], {places[0]: in_a_line(error)}
    found: list[tuple[list[int], Any]] = []
    reasons: dict[int, str] = {}
    for place in places:
        parts, broken = _one_by_one(run, [place])
        found += parts
        reasons |= broken
    return found, reasons


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


def _targets_of(one: Attribution) -> Tensor:
    # A run's targets are classes.
    assert isinstance(one.targets, Tensor)
    return one.targets


def _forget_peak(batch: Tensor) -> None:
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)


def _peak(batch: Tensor) -> int | None:
    """Most memory that a GPU held since, in bytes; None on a processor."""
    return torch.cuda.max_memory_allocated(batch.device) if batch.is_cuda else None
