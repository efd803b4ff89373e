"""Track how far a run is, and report it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cam._runs.engines.pass_counts import (
    PassTable,
    ShardState,
    ask_for_passes,
    share_of_part,
    share_of_shard,
)
from cam._runs.engines.shard_reader import Read
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
        fraction: How much of the run is over, in [0, 1], by the passes that its parts make; it
            never falls, and is 1 once every item is stored.
        passes: Inputs through the network so far, those of earlier starts included, as far as is
            known how many each part makes.
        total_passes: Those that there will be in all; 0 until methods and metrics were asked.
        images_per_second: Of this start, by its passes.
        seconds_left: At that speed; None before the first pass.
        skipped: Images that could not be read, of this start.
        failed: Values that a method or metric failed to give, of this start.
        measuring: What is being done with the images that are not stored yet, reported about once a
            second; "" as a shard is stored.
        share: Of that, in [0, 1].
    """

    done: int
    total: int
    fraction: float
    passes: int
    total_passes: int
    images_per_second: float
    seconds_left: float | None
    skipped: int
    failed: int
    measuring: str = ""
    share: float = 0.0


BEAT_SECONDS = 1.0
READING, PREPARING = "reading images", "counting passes"
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
        self._plan, self._store, self._report = plan, store, report
        self._total = len(plan.data)
        self._done = store.done()
        self._before = self._fraction = self._done / max(self._total, 1)
        self._skipped = self._failed = 0
        self._begun = self._reported = time.perf_counter()
        self._table = PassTable(plan)
        self._estimated = False
        # How far the shards are that are not stored yet.
        self._states: dict[Range, ShardState] = {}
        self._added: set[Range] = set()
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
        self._states.pop(shard, None)
        self._added.add(shard)
        self._table.learn(result.passes)
        self._estimated = True
        self._done += shard[1] - shard[0]
        self._skipped += result.skipped
        self._failed += result.failed
        block = shard[0] // self._store.block
        self._left[block] -= shard[1] - shard[0]
        if not self._left[block]:
            self._store.merge()
        self.tell()

    @property
    def reports(self) -> bool:
        """Whether anybody listens."""
        return self._report is not None

    def announce(self, passes: Mapping[str, float]) -> None:
        """Keep how many passes parts say that they will make for an image."""
        self._table.announce(passes)
        self._estimated = self._estimated or bool(passes)

    def ask_for_passes(self, read: Read) -> None:
        """Ask, once, how many passes methods and metrics make, with the first image read.

        Raises:
            Cancelled: The answer to a report is False.
        """
        if not self._estimated and self.reports and read.inputs:
            image = next(iter(read.inputs.values()))
            self.announce(ask_for_passes(self._plan, image, lambda: self.beat(PREPARING)))
            self._estimated = True

    def follow(self, shard: Range, state: ShardState) -> None:
        """Report within a shard, which may take minutes.

        Raises:
            Cancelled: The answer is False; of this shard nothing is stored.
        """
        self._states[shard] = state
        self.beat_state(state)

    def follow_all(self, states: Mapping[Range, ShardState]) -> None:
        """Report within several shards that are measured at once.

        Raises:
            Cancelled: The answer is False.
        """
        missing = {shard: states[shard] for shard in states if shard not in self._added}
        self._states.update(missing)
        latest = next(reversed(self._states.values()), None)
        if latest is not None:
            self.beat_state(latest)

    def beat_state(self, state: ShardState) -> None:
        """Report what a shard is at, about once a second."""
        self.beat(state.doing, share_of_part(state, self._table.each()))

    def beat(self, measuring: str, share: float = 0.0) -> None:
        """Report what is being done, about once a second.

        Args:
            measuring: What is being done.
            share: Of that, how much.

        Raises:
            Cancelled: The answer is False.
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
        seconds = max(self._reported - self._begun, 1e-9)
        each = self._table.each()
        self._fraction = max(self._fraction, self._count_done(each))
        made = self._fraction - self._before
        passes = sum(each.values()) * self._total
        progress = RunProgress(
            done=self._done,
            total=self._total,
            fraction=self._fraction,
            passes=round(self._fraction * passes),
            total_passes=round(passes) if self._estimated else 0,
            images_per_second=made * self._total / seconds,
            seconds_left=(1 - self._fraction) * seconds / made if made else None,
            skipped=self._skipped,
            failed=self._failed,
            measuring=measuring,
            share=share,
        )
        if self._report(progress) is False:
            raise Cancelled(
                f"the run was stopped after {self._done} of {self._total} images; start it again "
                "to go on"
            )

    def _count_done(self, each: dict[str, float]) -> float:
        """Return how much is over: what is stored, and parts of what is measured."""
        under_way = 0.0
        for (start, stop), state in self._states.items():
            under_way += (stop - start) * share_of_shard(state, each, stop - start)
        return (self._done + under_way) / max(self._total, 1)
