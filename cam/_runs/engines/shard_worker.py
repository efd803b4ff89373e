"""Explain a shard's items with every method and measure every map.

A function of a plan and a range, the same whoever calls it. What goes wrong with an image, a method
or a metric stays with it: the batch that failed is tried again image by image.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

from cam._data.dataset import Item
from cam._runs.engines.batch_explanation import Beat
from cam._runs.engines.shard_batch import Group
from cam._runs.engines.shard_reader import Read
from cam._runs.plan.label_classes import class_of
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.tables import FAILED, SKIPPED, Rows, as_tables
from cam.errors import TargetError


@dataclass(eq=False)
class Result:
    """A shard's tables.

    Attributes:
        tables: Name → ``pyarrow.Table``, as :class:`cam._runs.storage.store.Store` takes them.
        problems: One sentence for each image that was skipped and each method or metric that failed
            on one.
        skipped: How many images could not be read.
        failed: How many values are missing because a method or metric failed.
    """

    tables: dict[str, Any]
    problems: list[str]
    skipped: int
    failed: int


def measure_shard(plan: Plan, read: Read, beat: Beat = lambda doing, share: None) -> Result:
    """Explain and measure what was read.

    Args:
        plan: What the run does.
        read: The shard's items.
        beat: Called with what is being done, between two batches; what it raises ends it.
    """
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
            rows.items.append((number, name, *[None] * 8, item))
            for method, metric in product(plan.keys, plan.metrics):
                rows.scores.append((number, method, metric, float("nan"), SKIPPED, item))
    # A transform may give several sizes, which do not fit in one batch.
    groups: dict[tuple[int, ...], list[int]] = {}
    for number in resolved:
        groups.setdefault(tuple(read.inputs[number].shape), []).append(number)
    for numbers in groups.values():
        Group(plan, read, numbers, resolved, rows, problems, beat).run()
    failed = sum(row[4] == FAILED for row in rows.scores)
    tables = as_tables(rows, plan.keys, plan.metrics)
    return Result(tables, problems, len(read.items) - len(resolved), failed)


def _target(plan: Plan, item: Item) -> int | None:
    """The item's class as the model's index; None for the top class."""
    if plan.options.targets == "predicted" or item.target is None:
        return None
    if isinstance(item.target, int):
        return item.target
    return class_of(plan.model, plan.classes, item.target)
