"""Estimate what a run costs by measuring its first images."""

import io
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from cam._extras import require
from cam._runs.engines.pass_counts import count_passes
from cam._runs.engines.shard_reader import Source, read_shard
from cam._runs.engines.shard_worker import Result, measure_shard
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.tables import FAILED, SKIPPED
from cam.errors import Cancelled, RunError


@dataclass(frozen=True)
class Share:
    """What one method, or one metric of its maps, took.

    Attributes:
        method: Its key, or a baseline's name.
        metric: Its key; None for the map itself.
        seconds: For an image.
    """

    method: str
    metric: str | None
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What a run costs, by what its first images did here.

    Attributes:
        images: How many the run has.
        looked_at: How many were done for this.
        forwards: Inputs through the network, for an image.
        backwards: Inputs whose gradient was sent back, for an image.
        seconds: For an image, reading included, in this process.
        stored: Bytes in the store for an image; of a single one it is rather too much, as a file's
            head counts too.
        shares: Of ``seconds``, in the order of the run. Methods that share a pass share its time.
    """

    images: int
    looked_at: int
    forwards: float
    backwards: float
    seconds: float
    stored: float
    shares: tuple[Share, ...]


def estimate(
    plan: Plan, images: int | None = None, progress: Callable[[float], object] | None = None
) -> Estimate:
    """Do a plan's first images, after one that warms up, and count.

    Args:
        plan: What the run will do.
        images: How many; by default a shard, as the run will. Fewer answer sooner, and take more
            each, as images that share a batch take less.
        progress: Called with the share that is done, in [0, 1], and again with the same between two
            batches; an answer of False stops.

    Raises:
        RunError: None of them can be measured, or a method or metric failed on all of them.
        Cancelled: ``progress`` answered False.
        MissingExtraError: The extra "evaluate" is not installed.
    """
    require("evaluate", "the estimate of a run")
    start, stop = next(plan.shards())
    shard = (start, stop if images is None else min(start + images, stop))
    count, source = shard[1] - shard[0], Source.of(plan)

    def tell(share: float) -> None:
        if progress is not None and progress(share) is False:
            raise Cancelled("the estimate was stopped; nothing is kept of it")

    tell(0.0)
    measure_shard(plan, read_shard(source, (start, start + 1)), lambda *_: tell(0.0))
    tell(warm := 1 / (1 + count))
    begun = time.perf_counter()
    with count_passes(plan.model.module, backwards=True) as passes:
        result = measure_shard(plan, read_shard(source, shard), lambda *_: tell(warm))
    seconds = time.perf_counter() - begun
    sound = count - result.skipped
    _check(result, count)
    tell(1.0)
    return Estimate(
        len(plan.data),
        sound,
        passes["forwards"] / sound,
        passes["backwards"] / sound,
        seconds / sound,
        _count_bytes(result) / sound,
        _sum_shares(result, sound),
    )


def _check(result: Result, count: int) -> None:
    """Refuse what would be an estimate of failures."""
    if result.skipped == count:
        raise RunError(
            f"none of the first {count} images can be measured, so the cost is not known: "
            f"{result.problems[0]}"
        )
    by_method: dict[str, dict[str, list[str | None]]] = {}
    for row in result.tables["scores"].to_pylist():
        if row["status"] != SKIPPED:
            reason = row["reason"] if row["status"] == FAILED else None
            by_method.setdefault(row["method"], {}).setdefault(row["metric"], []).append(reason)
    for method, metrics in by_method.items():
        broken = {metric: reasons[0] for metric, reasons in metrics.items() if None not in reasons}
        if broken:
            metric, reason = next(iter(broken.items()))
            # A method without a map fails in every metric.
            alone = len(broken) == len(metrics) and len(set(broken.values())) == 1
            raise RunError(
                f"{method if alone else f'{metric} of {method}'} failed on each of the first "
                f"images, so the cost is not known: {reason}"
            )


def _count_bytes(result: Result) -> int:
    """Count the bytes of a shard's tables as they would be written."""
    import pyarrow.parquet as parquet

    stored = 0
    for table in result.tables.values():
        buffer = io.BytesIO()
        parquet.write_table(table, buffer, compression="zstd")
        stored += buffer.tell()
    return stored


def _sum_shares(result: Result, images: int) -> tuple[Share, ...]:
    """Sum the seconds for an image; each input size has its row."""
    seconds: dict[tuple[str, str | None], float] = defaultdict(float)
    for row in result.tables["costs"].to_pylist():
        seconds[row["method"], row["metric"]] += row["seconds"]
    return tuple(Share(*key, value / images) for key, value in seconds.items())
