"""Explain a shard's items with every method and measure every map.

A function of a plan and a range, the same whoever calls it. What goes wrong with an image, a method
or a metric stays with it: the batch that failed is tried again image by image.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cam._data.dataset import Item
from cam._metrics.base.metric_registry import Scores
from cam._models.model import Model
from cam._runs.engines.batch_explanation import (
    Beat,
    Explained,
    explain,
    explain_baseline,
    first_map,
    forget_peak,
    isolate_failures,
    join_rows,
    join_targets,
    peak_memory,
)
from cam._runs.engines.detection_items import describe_detection, find_box
from cam._runs.engines.pass_counts import (
    SHARED,
    ShardCounter,
    ShardState,
    count_passes,
    name_measuring,
)
from cam._runs.engines.shard_reader import Read, crop_mask
from cam._runs.plan.label_classes import find_class
from cam._runs.plan.run_plan import Metric, Plan
from cam._runs.storage.map_levels import encode_maps
from cam._runs.storage.tables import FAILED, OK, SKIPPED, UNDEFINED, Rows, make_tables
from cam._targets.detection_targets import Box
from cam.errors import TargetError
from cam.types import Attribution

NO_MASK = "where the class is, is not known"


@dataclass(eq=False)
class Result:
    """A shard's tables.

    Attributes:
        tables: Name → ``pyarrow.Table``, as :class:`cam._runs.storage.store.Store` takes them.
        problems: One sentence for each image that was skipped and each method or metric that failed
            on one.
        skipped: How many images could not be read.
        failed: How many values are missing because a method or metric failed.
        passes: As ``finished`` of :class:`cam._runs.engines.pass_counts.ShardState`.
    """

    tables: dict[str, Any]
    problems: list[str]
    skipped: int
    failed: int
    passes: dict[str, tuple[int, int]]


def measure_shard(
    plan: Plan, read: Read, beat: Callable[[ShardState], object] = lambda state: None
) -> Result:
    """Explain and measure what was read.

    Args:
        plan: What the run does.
        read: The shard's items.
        beat: Called with how far it is, between two batches; what it raises ends it.
    """
    rows = Rows()
    problems: list[str] = []
    resolved: dict[int, int | Box | None] = {}
    for number, item in list(read.items.items()):
        if isinstance(item, Item):
            try:
                resolved[number] = _find_target(plan, item, read.inputs[number])
            except TargetError as error:
                read.items[number] = str(error)
    for number, item in read.items.items():
        if isinstance(item, str):
            name = plan.data.identifier(number)
            problems.append(f"{name} was skipped: {item}")
            rows.items.append((number, name, *[None] * 9, item))
            for method, metric in product(plan.keys, plan.metrics):
                rows.scores.append((number, method, metric, float("nan"), SKIPPED, item))
    # A transform may give several sizes, which do not fit in one batch.
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in resolved:
        groups.setdefault(tuple(read.inputs[number].shape), []).append(number)
    with count_passes(plan.model.module) as count:
        counter = ShardCounter(count, beat)
        for numbers in groups.values():
            tell = partial(counter.beat, images=len(numbers))
            Group(plan, read, numbers, resolved, rows, problems, tell).run()
        counter.finish()
    failed = sum(row[4] == FAILED for row in rows.scores)
    tables = make_tables(rows, plan.keys, plan.metrics)
    skipped = len(read.items) - len(resolved)
    return Result(tables, problems, skipped, failed, counter.finished)


def _find_target(plan: Plan, item: Item, inputs: Tensor) -> int | Box | None:
    """Find the item's class in the model, of a detector its box; None for the top class."""
    if item.boxes and plan.model.detects:
        size = (inputs.shape[-2], inputs.shape[-1])
        return find_box(plan.model, item, size, _find_label(plan, item))
    return _find_label(plan, item)


def _find_label(plan: Plan, item: Item) -> int | None:
    if plan.options.targets == "predicted" or item.target is None:
        return None
    if isinstance(item.target, int):
        return item.target
    return find_class(plan.model, plan.classes, item.target)


@dataclass(eq=False)
class Group:
    """Items of a shard whose inputs have the same size."""

    plan: Plan
    read: Read
    numbers: list[int]
    resolved: dict[int, int | Box | None]
    rows: Rows
    problems: list[str]
    beat: Beat

    def run(self) -> None:
        """Explain and measure them, into the rows and problems."""
        plan, options = self.plan, self.plan.options
        batch = torch.stack([self.read.inputs[number] for number in self.numbers])
        batch = batch.to(plan.model.device)
        self.beat(SHARED, 0)
        targets = self._targets(batch)
        masks = [self._mask(number, batch.shape[-2:]) for number in self.numbers]
        explained = explain(plan, batch, targets, self.rows, self.beat)
        for key, method in explained.items():
            for index, reason in method.reasons.items():
                self.problems.append(f"{self._name(index)}: {key} failed: {reason}")
        self._store_items(explained)
        explained |= {
            name: explain_baseline(name, batch, explained, self.rows) for name in options.baselines
        }
        for key, method in explained.items():
            for index, note in method.notes:
                self.rows.remarks.append((self.numbers[index], key, None, note))
            self._store_maps(key, method.maps)
            for metric_key, metric in plan.metrics.items():
                self._measure(key, metric_key, metric, batch, method, masks)

    def _targets(self, batch: Tensor) -> list[int | Box] | None:
        classes = [self.resolved[number] for number in self.numbers]
        if all(target is None for target in classes):
            return None
        if any(target is None for target in classes):
            top = self.plan.model.predict(batch).argmax(1).tolist()
            pairs = zip(classes, top, strict=True)
            return [predicted if target is None else target for target, predicted in pairs]
        return [target for target in classes if target is not None]

    def _mask(self, number: int, size: Sequence[int]) -> Tensor | None:
        item = self.read.item(number)
        if item.mask is None:
            return None
        if isinstance(item.image, Tensor):
            return torch.from_numpy(item.mask.copy())
        return crop_mask(self.plan.model.transform, item.mask, (size[0], size[1]))

    def _measure(
        self,
        key: str,
        metric_key: str,
        metric: Metric,
        batch: Tensor,
        explained: Explained,
        masks: list[Tensor | None],
    ) -> None:
        """Measure a method's maps by a metric, a row an image always."""
        plan, maps, name = self.plan, explained.maps, name_measuring(metric_key, key)
        rows: dict[int, tuple[float, str, str | None]] = {}
        fit = []
        for index in range(len(batch)):
            if index in explained.reasons:
                rows[index] = (math.nan, FAILED, explained.reasons[index])
            elif index not in explained.finite:
                rows[index] = (math.nan, UNDEFINED, "its map is NaN")
            elif key in plan.options.baselines and metric.info.needs_method:
                reason = f"{metric_key} explains again, and {key} is no method"
                rows[index] = (math.nan, UNDEFINED, reason)
            elif metric.info.needs_masks and masks[index] is None:
                rows[index] = (math.nan, UNDEFINED, NO_MASK)
            else:
                fit.append(index)

        def run(indices: Sequence[int]) -> Scores:
            present = [mask for index in indices if (mask := masks[index]) is not None]
            scores: Scores = metric.measure(
                plan.model,
                batch if len(indices) == len(batch) else batch[list(indices)],
                join_rows([maps[index] for index in indices]),
                join_targets([maps[index] for index in indices]),
                torch.stack(present).to(batch.device) if metric.info.needs_masks else None,
                method=plan.methods.get(key),
                layers=plan.options.layers,
                batch_size=plan.options.batch_size,
                progress=lambda part: self.beat(name, part.done),
            )
            if len(scores.values) != len(indices):
                raise ValueError(f"it gave {len(scores.values)} values for {len(indices)} images")
            return scores

        self.beat(name, 0)
        start = time.perf_counter()
        forget_peak(batch)
        parts, broken = isolate_failures(run, fit) if fit else ([], {})
        seconds = time.perf_counter() - start
        images = len(fit) - len(broken)
        self.rows.costs.append((key, metric_key, images, None, None, seconds, peak_memory(batch)))
        for indices, scores in parts:
            values = scores.values.float().cpu().tolist()
            for index, value, detail in zip(indices, values, scores.reasons, strict=True):
                if math.isfinite(value):
                    rows[index] = (value, OK, None)
                else:
                    default = "it is undefined here" if math.isnan(value) else "it is infinite"
                    rows[index] = (math.nan, UNDEFINED, detail or default)
            for index, remark in zip(indices, scores.remarks, strict=False):  # () says nothing
                if remark is not None:
                    self.rows.remarks.append((self.numbers[index], key, metric_key, remark))
        for index, reason in broken.items():
            rows[index] = (math.nan, FAILED, reason)
            self.problems.append(f"{self._name(index)}: {name} failed: {reason}")
        for index, number in enumerate(self.numbers):
            self.rows.scores.append((number, key, metric_key, *rows[index]))

    def _store_items(self, explained: dict[str, Explained]) -> None:
        """Store the model's prediction and a thumbnail of each image."""
        model = self.plan.model
        for index, number in enumerate(self.numbers):
            item = self.read.item(number)
            prediction: tuple[Any, ...] = (None,) * 7
            if (attribution := first_map(explained, index)) is not None:
                prediction = _describe(model, attribution, self.resolved[number])
            self.rows.items.append((number, item.id, item.group, item.path, *prediction, None))
            if self.plan.options.heatmaps:
                self.rows.pictures.append((number, self.read.pictures[number]))

    def _store_maps(self, key: str, maps: dict[int, Attribution]) -> None:
        side = self.plan.options.heatmaps
        if not side or not maps:
            return
        values, signed = join_rows(list(maps.values())).picture()
        small = functional.interpolate(values[:, None], size=(side, side), mode="area")[:, 0]
        for index, level in zip(maps, encode_maps(small.cpu().numpy(), signed), strict=True):
            self.rows.maps.append((self.numbers[index], key, side, signed, level.tobytes()))

    def _name(self, index: int) -> str:
        return self.plan.data.identifier(self.numbers[index])


def _describe(model: Model, attribution: Attribution, truth: int | Box | None) -> tuple[Any, ...]:
    """Describe target and prediction: their classes, names and scores, and whether they agree."""
    output, targets = attribution.logits[0], attribution.targets
    if isinstance(targets, Tensor):
        chances = output.softmax(0)
        top, target = int(chances.argmax()), int(targets[0])
        chance, correct = float(chances[top]), None if truth is None else truth == top
        target_chance = float(chances[target])
    else:
        assert isinstance(truth, Box)
        detected, score = describe_detection(truth, output)
        label = detected if truth.label is None else int(truth.label)
        if label is None:
            return (None,) * 7
        correct = None if truth.label is None else label == detected
        target_chance = float(attribution.scores[0])
        if detected is None or score is None:
            return label, model.label(label), None, None, None, target_chance, correct
        target, top, chance = label, detected, score
    return (
        target, model.label(target), top, model.label(top), chance, target_chance, correct,
    )  # fmt: skip
