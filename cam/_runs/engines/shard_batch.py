"""Items of a shard that fit in one batch: explained, measured, and written down as rows."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cam._data.dataset import Item
from cam._runs.engines.batch_explanation import Beat, Explained, explain, explain_baseline
from cam._runs.engines.isolate_failures import forget_peak, one_by_one, peak
from cam._runs.engines.shard_reader import Read
from cam._runs.engines.thumbnails import mask_as_seen
from cam._runs.plan.run_plan import Metric, Plan
from cam._runs.storage.tables import FAILED, OK, UNDEFINED, Rows
from cam.types import Attribution

NO_MASK = "where the class is, is not known"


@dataclass(eq=False)
class Group:
    """Items of a shard whose inputs have the same size."""

    plan: Plan
    read: Read
    numbers: list[int]
    resolved: dict[int, int | None]
    rows: Rows
    problems: list[str]
    beat: Beat

    def run(self) -> None:
        """Explain and measure them, into the rows and problems."""
        plan = self.plan
        batch = torch.stack([self.read.inputs[number] for number in self.numbers])
        batch = batch.to(plan.model.device)
        targets = self._targets(batch)
        masks = [self._mask(number, batch.shape[-2:]) for number in self.numbers]
        found = explain(plan, batch, targets, self.rows, self.beat)
        for key, explained in found.items():
            for place, reason in explained.reasons.items():
                self.problems.append(f"{self._name(place)}: {key} failed: {reason}")
        self._keep_items(found)
        found |= {
            name: explain_baseline(name, batch, found, self.rows) for name in plan.options.baselines
        }
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

    def _measure(
        self,
        key: str,
        what: str,
        metric: Metric,
        batch: Tensor,
        explained: Explained,
        masks: list[Tensor | None],
    ) -> None:
        """One metric of one method's maps, a row for each image whatever happens."""
        plan, maps, name = self.plan, explained.maps, f"{what} of {key}"
        rows: dict[int, tuple[float, str, str | None]] = {}
        fit = []
        for place in range(len(batch)):
            if place in explained.reasons:
                rows[place] = (float("nan"), FAILED, explained.reasons[place])
            elif place not in explained.finite:
                rows[place] = (float("nan"), UNDEFINED, "its map is NaN")
            elif key in plan.options.baselines and metric.info.needs_method:
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
                layers=plan.options.layers,
                batch_size=plan.options.batch_size,
                progress=lambda part: self.beat(name, part.done / max(part.total, 1)),
            )
            values = scores.values.float().cpu().tolist()
            if len(values) != len(places):
                raise ValueError(f"it gave {len(values)} values for {len(places)} images")
            return values, list(scores.reasons)

        self.beat(name, 0.0)
        start = time.perf_counter()
        forget_peak(batch)
        parts, broken = one_by_one(run, fit) if fit else ([], {})
        seconds = time.perf_counter() - start
        self.rows.costs.append(
            (key, what, len(fit) - len(broken), None, None, seconds, peak(batch))
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

    def _keep_items(self, found: dict[str, Explained]) -> None:
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
            if plan.options.heatmaps:
                self.rows.pictures.append((number, self.read.pictures[number]))

    def _keep_maps(self, key: str, maps: dict[int, Attribution]) -> None:
        side = self.plan.options.heatmaps
        if not side or not maps:
            return
        heatmaps = torch.cat([one.heatmap for one in maps.values()])[:, None]
        small = functional.interpolate(heatmaps, size=(side, side), mode="area")[:, 0]
        levels = (small.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        for place, level in zip(maps, levels, strict=True):
            self.rows.maps.append((self.numbers[place], key, side, level.tobytes()))

    def _name(self, place: int) -> str:
        return self.plan.data.identifier(self.numbers[place])


def _targets_of(one: Attribution) -> Tensor:
    # A run's targets are classes.
    assert isinstance(one.targets, Tensor)
    return one.targets
