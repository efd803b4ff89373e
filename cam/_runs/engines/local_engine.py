"""Measure shards in order on this machine while the next is read."""

from concurrent.futures import ThreadPoolExecutor

from cam._runs.engines.run_progress import Ledger, Report, missing
from cam._runs.engines.shard_reader import Source, read_shard
from cam._runs.engines.shard_worker import measure_shard
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Store


def run_local(plan: Plan, store: Store, report: Report | None = None) -> None:
    """Carry out what is missing.

    Raises:
        Cancelled: ``report`` answered False; what was reported is stored.
        RunError: The store cannot be written.
    """
    todo, source = missing(plan, store), Source.of(plan)
    ledger = Ledger(plan, store, report)
    ledger.tell()
    # One thread: decoding releases the interpreter, and torch uses the other cores.
    with ThreadPoolExecutor(1, thread_name_prefix="cam-read") as reader:
        ahead = reader.submit(read_shard, source, todo[0]) if todo else None
        for number, shard in enumerate(todo):
            assert ahead is not None
            read = ahead.result()
            following = todo[number + 1] if number + 1 < len(todo) else None
            ahead = reader.submit(read_shard, source, following) if following else None
            ledger.add(shard, measure_shard(plan, read, ledger.beat))
    store.merge()
