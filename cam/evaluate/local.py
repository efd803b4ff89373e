"""The engine on this machine: shards in order, the next one's pictures read meanwhile."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cam.errors import Cancelled
from cam.evaluate.plan import Plan
from cam.evaluate.reader import read_shard
from cam.evaluate.store import Store
from cam.evaluate.worker import measure_shard


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    Attributes:
        done: Items that are stored, those of earlier starts included.
        total: Items that will be.
        images_per_second: Of this start.
        seconds_left: At that speed; None before the first shard is done.
        skipped: Images that could not be read, of this start.
        failed: Values that a method or metric failed to give, of this start.
    """

    done: int
    total: int
    images_per_second: float
    seconds_left: float | None
    skipped: int
    failed: int


Report = Callable[[RunProgress], object]
Engine = Callable[[Plan, Store, Report | None], None]


def run_local(plan: Plan, store: Store, report: Report | None = None) -> None:
    """Carry out what is missing.

    Raises:
        Cancelled: ``report`` answered False; what it was told of is stored.
        RunError: The store cannot be written.
    """
    stored = store.ranges()
    todo = [
        (start, stop)
        for start, stop in plan.shards()
        if not any(low <= start and stop <= high for low, high in stored)
    ]
    total = len(plan.data)
    before = done = store.done()
    skipped = failed = 0
    begun = time.perf_counter()

    def tell() -> None:
        if report is None:
            return
        speed = (done - before) / max(time.perf_counter() - begun, 1e-9)
        left = (total - done) / speed if speed else None
        if report(RunProgress(done, total, speed, left, skipped, failed)) is False:
            raise Cancelled(
                f"the run was stopped after {done} of {total} images; start it again to go on"
            )

    tell()
    # One thread: decoding releases the interpreter, and torch uses the other cores.
    with ThreadPoolExecutor(1, thread_name_prefix="cam-read") as reader:
        ahead = reader.submit(read_shard, plan, todo[0]) if todo else None
        for number, shard in enumerate(todo):
            assert ahead is not None
            read = ahead.result()
            following = todo[number + 1] if number + 1 < len(todo) else None
            ahead = reader.submit(read_shard, plan, following) if following else None
            result = measure_shard(plan, read)
            store.write(shard, result.tables)
            for problem in result.problems:
                store.log(problem)
            done += shard[1] - shard[0]
            skipped += result.skipped
            failed += result.failed
            if shard[1] % store.block == 0:
                store.merge()
            tell()
    store.merge()
