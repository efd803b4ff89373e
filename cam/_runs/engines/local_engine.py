"""Measure shards in order on this machine while the next is read."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import zip_longest

from cam._runs.engines.run_progress import READING, Ledger, Report
from cam._runs.engines.shard_reader import Read, Source, read_shard
from cam._runs.engines.shard_worker import measure_shard
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Store

# Between two reports while the first images are read.
WAIT_SECONDS = 1.0


def run_local(plan: Plan, store: Store, report: Report | None = None) -> None:
    """Carry out what is missing.

    Raises:
        Cancelled: ``report`` answered False; what was reported is stored.
        RunError: The store cannot be written.
    """
    ledger, source = Ledger(plan, store, report), Source.of(plan)
    ledger.tell()
    todo = ledger.todo
    # One thread: decoding releases the interpreter, and torch uses the other cores.
    with ThreadPoolExecutor(1, thread_name_prefix="cam-read") as reader:
        ahead = [reader.submit(read_shard, source, shard) for shard in todo[:1]]
        for shard, following in zip_longest(todo, todo[1:]):
            read = _wait_for(ahead.pop(), ledger)
            if following is not None:
                ahead.append(reader.submit(read_shard, source, following))
            ledger.ask_for_passes(read)
            ledger.add(shard, measure_shard(plan, read, partial(ledger.follow, shard)))
    store.merge()


def _wait_for(reading: Future[Read], ledger: Ledger) -> Read:
    """Wait for a shard, and say so."""
    while True:
        try:
            return reading.result(timeout=WAIT_SECONDS)
        except TimeoutError:
            if reading.done():
                return reading.result()
            ledger.beat(READING)
