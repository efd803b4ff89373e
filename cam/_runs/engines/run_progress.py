"""Track how far a run is, and report it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cam._runs.engines.shard_worker import Result
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range, Store
from cam.errors import Cancelled


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
        measuring: What is being done with the images that are not stored yet, reported about once a
            second; "" as a shard is stored.
        share: Of that, in [0, 1].
    """

    done: int
    total: int
    images_per_second: float
    seconds_left: float | None
    skipped: int
    failed: int
    measuring: str = ""
    share: float = 0.0


BEAT_SECONDS = 1.0
Report = Callable[[RunProgress], object]
Engine = Callable[[Plan, Store, Report | None], None]


def find_missing(plan: Plan, store: Store) -> list[Range]:
    """Find the plan's shards that are not stored yet, in order."""
    stored = iter(store.ranges())
    low, high = next(stored, (0, 0))
    shards = []
    # Both are in order, and a stored range begins and ends where shards do.
    for start, stop in plan.shards():
        while start >= high and (following := next(stored, None)) is not None:
            low, high = following
        if not low <= start < stop <= high:
            shards.append((start, stop))
    return shards


class Ledger:
    """Stores shards as they are done, in any order, and tells of each.

    Args:
        plan: What is carried out.
        store: Where to; the caller holds its lock.
        report: Whom to tell.

    Attributes:
        todo: The shards that were not stored at first.
    """

    def __init__(self, plan: Plan, store: Store, report: Report | None) -> None:
        self._store, self._report = store, report
        self._total = len(plan.data)
        self._before = self._done = store.done()
        self._skipped = self._failed = 0
        self._begun = self._reported = time.perf_counter()
        # Items of each block that are still missing: it is merged when there are none.
        self._left: dict[int, int] = {}
        self.todo = find_missing(plan, store)
        for start, stop in self.todo:
            block = start // store.block
            self._left[block] = self._left.get(block, 0) + stop - start

    def add(self, shard: Range, result: Result) -> None:
        """Store a shard, then tell.

        Raises:
            Cancelled: The caller does not want the rest; what was reported is stored.
            RunError: The store cannot be written.
        """
        self._store.write(shard, result.tables)
        for problem in result.problems:
            self._store.log(problem)
        self._done += shard[1] - shard[0]
        self._skipped += result.skipped
        self._failed += result.failed
        block = shard[0] // self._store.block
        self._left[block] -= shard[1] - shard[0]
        if not self._left[block]:
            self._store.merge()
        self.tell()

    def beat(self, measuring: str, share: float = 0.0) -> None:
        """Report within a shard, which may take minutes.

        Args:
            measuring: What is being done.
            share: Of that, how much.

        Raises:
            Cancelled: The answer is False; of this shard nothing is stored.
        """
        if time.perf_counter() - self._reported > BEAT_SECONDS:
            self.tell(measuring, share)

    def tell(self, measuring: str = "", share: float = 0.0) -> None:
        """Say how far it is.

        Raises:
            Cancelled: The answer is False.
        """
        if self._report is None:
            return
        self._reported = time.perf_counter()
        speed = (self._done - self._before) / max(time.perf_counter() - self._begun, 1e-9)
        left = (self._total - self._done) / speed if speed else None
        progress = RunProgress(
            self._done, self._total, speed, left, self._skipped, self._failed, measuring, share
        )
        if self._report(progress) is False:
            raise Cancelled(
                f"the run was stopped after {self._done} of {self._total} images; start it again "
                "to go on"
            )
