"""Count the passes of a run: those made, and those to come.

A part is what a run does with a batch under one name: the passes that methods share, a method's
further passes, or a metric of one method's maps. How many inputs a part sends through the network
is counted as it runs; what it will send is asked of the method or metric, which announces it, and
later taken from the images that are done.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as method_named
from cam._runs.plan.run_plan import Metric, Plan
from cam.errors import Cancelled
from cam.types import Attribution, Progress

LOG = logging.getLogger("cam.evaluate")
SHARED = "shared passes"


@contextmanager
def count_passes(module: nn.Module, backwards: bool = False) -> Iterator[Counter[str]]:
    """Count inputs through a network, copies of it included: "forwards" and "backwards".

    Args:
        module: The network.
        backwards: Whether the second is counted too, by a hook on each output.
    """
    count: Counter[str] = Counter()

    def through(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        size = len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) else 1
        count["forwards"] += size
        if not backwards:
            return
        values = output.values() if isinstance(output, Mapping) else (output,)
        first = next((value for value in values if isinstance(value, Tensor)), None)
        if first is not None and first.requires_grad:

            def back(_: Tensor) -> None:
                count["backwards"] += size

            first.register_hook(back)  # type: ignore[no-untyped-call]

    handle = module.register_forward_hook(through)
    try:
        yield count
    finally:
        handle.remove()


def name_measuring(metric: str, method: str) -> str:
    """Name the part that measures a method's maps."""
    return f"{metric} of {method}"


@dataclass(frozen=True)
class ShardState:
    """How far a shard is.

    Attributes:
        doing: The part that is at work.
        images: That it works on.
        passes: Inputs that it sent through the network, or through a part of it.
        finished: Part → images and passes of those that are over.
    """

    doing: str
    images: int
    passes: int
    finished: Mapping[str, tuple[int, int]]


@dataclass(eq=False)
class ShardCounter:
    """Follow a shard from part to part.

    Attributes:
        count: As :func:`count_passes` gives it.
        report: Called with the state as each part begins, and within it.
        finished: As of :class:`ShardState`.
    """

    count: Counter[str]
    report: Callable[[ShardState], object]
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)
    _doing: str = ""
    _images: int = 0
    _before: int = 0
    _reported: int = 0

    def beat(self, doing: str, done: int, images: int) -> None:
        """Say what is being done with how many images, and how many inputs are through."""
        if doing != self._doing:
            self.finish()
            self._doing, self._images, self._before = doing, images, self.count["forwards"]
            self._reported = 0
        self._reported = max(self._reported, done)
        self.report(ShardState(doing, images, self._count_made(), dict(self.finished)))

    def finish(self) -> None:
        """End the part that is at work."""
        if self._doing:
            images, passes = self.finished.get(self._doing, (0, 0))
            made = self._count_made()
            self.finished[self._doing] = (images + self._images, passes + made)
        self._doing = ""

    def _count_made(self) -> int:
        """Count what the present part made.

        An explanation within a metric reports nothing, so the network is asked; a method that runs
        a part of the network goes past its hook, and reports.
        """
        return max(self.count["forwards"] - self._before, self._reported)


class PassTable:
    """How many passes each part makes for an image, as far as is known.

    Args:
        plan: What the run does.
    """

    def __init__(self, plan: Plan) -> None:
        self._measuring = {
            name_measuring(metric, key): metric for key, metric in product(plan.keys, plan.metrics)
        }
        further = {method.name for method in plan.methods.values() if _makes_passes(method)}
        self._parts = [SHARED, *sorted(further), *self._measuring]
        self._announced: dict[str, float] = {SHARED: 1.0}
        # Part → images and passes, of what is done.
        self._made: dict[str, tuple[int, int]] = {}

    def announce(self, passes: Mapping[str, float]) -> None:
        """Keep what parts say that they will make for an image."""
        self._announced.update(passes)

    def learn(self, finished: Mapping[str, tuple[int, int]]) -> None:
        """Add what was made."""
        for part, (images, passes) in finished.items():
            before = self._made.get(part, (0, 0))
            self._made[part] = (before[0] + images, before[1] + passes)

    def each(self) -> dict[str, float]:
        """Return part → passes for an image.

        What is not known is taken from the same metric of other methods, else from all parts.
        """
        passes = self._announced | {
            part: made / images for part, (images, made) in self._made.items() if images
        }
        by_metric: dict[str, list[float]] = {}
        for part, metric in self._measuring.items():
            if part in passes:
                by_metric.setdefault(metric, []).append(passes[part])
        each = {}
        for part in dict.fromkeys([*self._parts, *self._made]):
            alike = by_metric.get(self._measuring.get(part, ""), list(passes.values()))
            each[part] = passes[part] if part in passes else sum(alike) / len(alike)
        return each


def share_of_part(state: ShardState, each: Mapping[str, float]) -> float:
    """Return how much of the part that is at work is over, in [0, 1]."""
    whole = each.get(state.doing, 0.0) * state.images
    return min(state.passes / whole, 1.0) if whole else 0.0


def share_of_shard(state: ShardState, each: Mapping[str, float], size: int) -> float:
    """Return how much of a shard of that many images is over, in [0, 1]."""
    over = sum(
        min(images, size) * each.get(part, 0.0) for part, (images, _) in state.finished.items()
    )
    over += share_of_part(state, each) * each.get(state.doing, 0.0) * state.images
    return min(over / (sum(each.values()) * size), 1.0)


def ask_for_passes(plan: Plan, image: Tensor, tell: Callable[[], object]) -> dict[str, float]:
    """Ask each method and metric how many passes it makes, with a pass of one image each.

    Args:
        plan: What the run does.
        image: (3, H, W), an input of the run.
        tell: Called before each.

    Returns:
        Part → passes for an image; none of a part that refuses the image.
    """
    batch = image[None].to(plan.model.device)
    # Metrics are asked with the map of the quickest method.
    quick, explanation = method_named("saliency"), None
    announced: Counter[str] = Counter()
    for method in plan.methods.values():
        tell()
        answer = _ask_method(plan, method, batch)
        if isinstance(answer, Attribution):
            quick, explanation = method, answer
        elif answer is not None:
            announced[method.name] += answer
    parts: dict[str, float] = dict(announced)
    if explanation is None:
        with suppress(Exception):
            (explanation,) = attribute(plan.model, batch, quick).values()
    if explanation is None:
        return parts
    for metric_key, metric in plan.metrics.items():
        tell()
        passes = _ask_metric(plan, metric, batch, quick, explanation)
        if passes is None:
            continue
        for key in plan.keys:
            explains = 1 + announced[plan.methods[key].name] if key in plan.methods else 0
            per_input = explains if metric.info.needs_method else 1
            parts[name_measuring(metric_key, key)] = passes * per_input
    return parts


def _makes_passes(method: Method) -> bool:
    return bool(method.info.passes or method.parameters.get("aug_smooth"))


def _ask_method(plan: Plan, method: Method, batch: Tensor) -> int | Attribution | None:
    """Return a method's further passes; its map where it makes none; None where it fails."""
    total = 0

    def stop(progress: Progress) -> bool:
        nonlocal total
        total = progress.total
        return total <= progress.done

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layers = plan.options.layers
            maps = attribute(plan.model, batch, method, layers=layers, batch_size=1, progress=stop)
    except Cancelled:
        return total
    except Exception:
        LOG.debug("%s does not say how many passes it makes", method, exc_info=True)
        return None
    (explanation,) = maps.values()
    return total if total else explanation


def _ask_metric(
    plan: Plan, metric: Metric, batch: Tensor, method: Method, explanation: Attribution
) -> int | None:
    """Return the inputs that a metric tries for an image; None where it fails."""
    total = 0

    def stop(progress: Progress) -> bool:
        nonlocal total
        total = progress.total
        # The picture itself comes first; only then does a metric say what it tries.
        return progress.done < 1 or total <= progress.done

    mask = torch.zeros(1, *batch.shape[-2:], dtype=torch.bool, device=batch.device)
    mask[:, : batch.shape[-2] // 2] = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric.measure(
                plan.model,
                batch,
                explanation,
                explanation.targets,
                mask if metric.info.needs_masks else None,
                method=method,
                layers=plan.options.layers,
                batch_size=1,
                progress=stop,
            )
    except Cancelled:
        pass
    except Exception:
        LOG.debug("a metric does not say how many passes it makes", exc_info=True)
        return None
    return total
