"""Explain a batch with every method; failures stay with their image."""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from typing import Any

import torch
from torch import Tensor

from cam._attribution.attribution import attribute
from cam._detection.candidates import join_batches
from cam._methods.base.method_registry import Method
from cam._runs.engines.shard_reader import describe_error
from cam._runs.plan.options import BASELINES
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.tables import Rows
from cam.errors import CamWarning, Cancelled
from cam.targets import Target
from cam.types import Attribution, Cost, TargetFunction

LOG = logging.getLogger("cam.evaluate")
NOT_EXPLAINED = "no method explained the image"
Beat = Callable[[str, int], None]
"""Called with the part that is at work and how many inputs it says to be through; it raises
:class:`cam.Cancelled` to stop."""

_TENSORS = ("heatmap", "raw", "scores", "logits")


@dataclass(frozen=True, eq=False)
class Explained:
    """One method's maps of a batch, by the image's index in it.

    Attributes:
        maps: As batches of one.
        reasons: Why there is none.
        finite: Which of the maps hold no NaN.
        notes: What a reader of them should know, as (image, sentence).
    """

    maps: dict[int, Attribution]
    reasons: dict[int, str]
    finite: frozenset[int]
    notes: tuple[tuple[int, str], ...] = ()


def isolate_failures(
    run: Callable[[Sequence[int]], Any], indices: Sequence[int]
) -> tuple[list[tuple[Sequence[int], Any]], dict[int, str]]:
    """Run a batch at once or, where that fails, image by image.

    Returns:
        The parts that ran, as (indices, result), and the reason of each image that failed alone.
    """
    try:
        return [(indices, run(indices))], {}
    except Cancelled:
        raise
    except Exception as error:
        LOG.debug("a batch failed", exc_info=True)
        if len(indices) == 1:
            return [], {indices[0]: describe_error(error)}
    parts: list[tuple[Sequence[int], Any]] = []
    reasons: dict[int, str] = {}
    for index in indices:
        part, reason = isolate_failures(run, [index])
        parts += part
        reasons |= reason
    return parts, reasons


def forget_peak(batch: Tensor) -> None:
    """Begin to track how much memory a GPU holds."""
    if batch.is_cuda:
        torch.cuda.reset_peak_memory_stats(batch.device)


def peak_memory(batch: Tensor) -> int | None:
    """Return a GPU's peak bytes since :func:`forget_peak`; None on a processor."""
    return torch.cuda.max_memory_allocated(batch.device) if batch.is_cuda else None


def explain(
    plan: Plan, batch: Tensor, targets: Sequence[Target] | None, rows: Rows, beat: Beat
) -> dict[str, Explained]:
    """Make every method's maps, image by image where the batch fails.

    Args:
        plan: With the methods.
        batch: (B, 3, H, W) on the model's device.
        targets: (B,) classes or boxes; None: the top classes.
        rows: The methods' costs are added to its costs.
        beat: Called with the method that is at work, between two of its batches.
    """
    options = plan.options

    def run(indices: Sequence[int], methods: list[Method]) -> dict[str, Attribution]:
        part = batch if len(indices) == len(batch) else batch[list(indices)]
        with warnings.catch_warnings():
            # The reason of a NaN map stands beside its scores.
            warnings.simplefilter("ignore", CamWarning)
            maps = attribute(
                plan.model,
                part,
                methods,
                targets=None if targets is None else [targets[index] for index in indices],
                layers=options.layers,
                batch_size=options.batch_size,
                precision=options.precision,
                progress=lambda part: beat(part.method, part.done),
            )
        return dict(zip(map(str, methods), maps.values(), strict=True))

    every = range(len(batch))
    forget_peak(batch)
    shared: dict[str, Attribution] = {}
    try:
        shared = run(every, list(plan.methods.values()))
    except Cancelled:
        raise
    except Exception:
        # Whose fault it is shows when they run alone.
        LOG.debug("a batch failed", exc_info=True)
    explained = {}
    for key, method in plan.methods.items():

        def run_alone(indices: Sequence[int], method: Method = method) -> Attribution:
            name = str(method)
            return shared[name] if shared else run(indices, [method])[name]

        parts, reasons = isolate_failures(run_alone, every)
        maps = {
            index: _row(attribution, row)
            for indices, attribution in parts
            for row, index in enumerate(indices)
        }
        _add_cost(rows, key, [attribution for _, attribution in parts], len(maps), batch)
        sound = []
        if maps:
            heatmaps = torch.cat([attribution.heatmap for attribution in maps.values()])
            sound = heatmaps.flatten(1).isfinite().all(1).tolist()
        notes = tuple(
            (indices[row], note)
            for indices, attribution in parts
            for row, note in attribution.notes()
        )
        explained[key] = Explained(maps, reasons, frozenset(compress(maps, sound)), notes)
    return explained


def explain_baseline(
    name: str, batch: Tensor, explained: dict[str, Explained], rows: Rows
) -> Explained:
    """Make a baseline's maps, for the targets that the methods explained."""
    start = time.perf_counter()
    heatmaps = BASELINES[name](batch)
    cost = Cost(forwards=0, backwards=0, seconds=time.perf_counter() - start)
    maps: dict[int, Attribution] = {}
    for index, heatmap in enumerate(heatmaps[:, None]):
        if (attribution := first_map(explained, index)) is not None:
            maps[index] = replace(
                attribution,
                heatmap=heatmap,
                raw=heatmap,
                layers=(),
                method=name,
                kind="evidence",
                cost=cost,
            )
    reasons = {index: NOT_EXPLAINED for index in range(len(batch)) if index not in maps}
    _add_cost(rows, name, list(maps.values())[:1], len(maps), batch)
    return Explained(maps, reasons, frozenset(maps))


def first_map(explained: dict[str, Explained], index: int) -> Attribution | None:
    """Return an image's map by the first method that made one."""
    maps = (method.maps[index] for method in explained.values() if index in method.maps)
    return next(maps, None)


def _add_cost(rows: Rows, key: str, parts: list[Attribution], images: int, batch: Tensor) -> None:
    """Add what a method's maps of this batch took."""
    costs = [part.cost for part in parts]
    forwards = sum(cost.forwards for cost in costs)
    backwards = sum(cost.backwards for cost in costs)
    seconds = sum(cost.seconds for cost in costs)
    rows.costs.append((key, None, images, forwards, backwards, seconds, peak_memory(batch)))


def _row(whole: Attribution, row: int) -> Attribution:
    """Select one image of an attribution, as a batch of one."""
    part = slice(row, row + 1)
    tensors = {name: getattr(whole, name)[part] for name in (*_TENSORS, "targets")}
    return replace(whole, **tensors, remarks=(), view=None)


def join_rows(rows: Sequence[Attribution]) -> Attribution:
    """Join images of one method to a batch."""
    whole: dict[str, Any] = {
        name: join_batches([getattr(row, name) for row in rows]) for name in _TENSORS
    }
    return replace(rows[0], **whole, targets=join_targets(rows))


def join_targets(rows: Sequence[Attribution]) -> Tensor | tuple[TargetFunction, ...]:
    """Join the targets of images of one method: classes, or a detector's boxes."""
    targets = [row.targets for row in rows]
    if all(isinstance(each, Tensor) for each in targets):
        return torch.cat([each for each in targets if isinstance(each, Tensor)])
    return tuple(chain.from_iterable(each for each in targets if not isinstance(each, Tensor)))
