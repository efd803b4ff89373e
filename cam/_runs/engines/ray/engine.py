"""Measure shards on a Ray cluster.

Tasks read shards, processes with the model measure them. Only the process that was called writes,
so the store's lock and what it promises hold as they do for the local engine. A worker that dies is
started again, and its shard is measured again.
"""

import gc
import logging
import os
import pickle
import traceback
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from cam._runs.engines.ray.parcels import Parcels, pack
from cam._runs.engines.ray.watching import watch
from cam._runs.engines.ray.workers import Reader, Worker
from cam._runs.engines.run_progress import Ledger, Report
from cam._runs.engines.shard_reader import describe_error
from cam._runs.engines.shard_worker import Result
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range, Store
from cam.errors import CamError, Cancelled, InputError, RunError

# A shard whose worker dies each time, as where memory does not suffice, ends the run after these.
RETRIES = 3
# In all of a worker's life: one that dies as it imports, before it has one, would begin for ever.
RESTARTS = 100


def run_ray(plan: Plan, store: Store, report: Report | None = None) -> None:
    """Carry out what is missing.

    Raises:
        Cancelled: ``report`` answered False; what was reported is stored.
        InputError: The model or the data cannot be sent to another process, or no GPU is there.
        RunError: The store cannot be written, a worker differs from this process in what determines
            the scores, or dies again and again.
    """
    ledger = Ledger(plan, store, report)
    ledger.tell()
    if ledger.todo:
        parcels = pack(plan)
        with _connect(), watch(ledger) as watched:
            try:
                for shard, result in _measure(
                    parcels, ledger.todo, plan.model.device, watched.board
                ):
                    with watched.lock:
                        ledger.add(shard, result)
            except Cancelled:
                # A worker's answer; why it was stopped is known here.
                if watched.failure is not None:
                    raise watched.failure from None
                raise
    store.merge()


@dataclass(frozen=True)
class _Pool:
    """How many workers, with what each."""

    workers: int
    processors: int
    gpus: int


@contextmanager
def _connect() -> Iterator[None]:
    """Be connected to Ray; what was not there before is stopped again."""
    import ray
    import ray._private.worker as driver

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    started = not ray.is_initialized()
    prints = getattr(driver, "_worker_logs_enabled", True)
    try:
        if started:
            # It tells of a worker's death on standard output, where a program may read JSON.
            driver._worker_logs_enabled = False
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
            if not os.environ.get("RAY_ADDRESS"):
                # One to measure and one to read, also where there is one only.
                processors = max(2, len(os.sched_getaffinity(0)))
                options |= {"address": "local", "num_cpus": processors}
                options["include_dashboard"] = False
            try:
                ray.init(**options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise RunError(f"Ray cannot be started: {describe_error(error)}") from None
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        context.enable_progress_bars = context.print_on_execution_start = False
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if started:
            ray.shutdown()
            driver._worker_logs_enabled = prints


def _size_pool(shards: int, device: torch.device) -> _Pool:
    import ray

    there = ray.cluster_resources()
    processors, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if processors < 2:
        raise RunError(
            f"the Ray cluster has {processors} processors, but a run needs 2: one reads while the "
            "other measures"
        )
    # Workers that take every processor leave none to those who read, and all wait for ever.
    free = processors - 1
    if device.type == "cuda":
        if not gpus:
            raise InputError("the model is on a GPU, but the Ray cluster has none")
        return _Pool(min(gpus, free, shards), 1, 1)
    # As many threads as here: on a processor sums are added up in another order by other numbers.
    threads = torch.get_num_threads()
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    # A worker lives on one machine, and waits for ever for more processors than any has.
    each = min(threads, free, max(machines))
    workers = min(sum(machine // each for machine in machines), free // each)
    return _Pool(min(workers, shards), each, 0)


def _measure(
    parcels: Parcels, todo: list[Range], device: torch.device, board: Any
) -> Iterator[tuple[Range, Result]]:
    """Yield shards as they are done, in any order."""
    import ray

    answers = _collect_answers(parcels, todo, device, board)
    answered = False
    failure = None
    try:
        for content in answers:
            answered = True
            answer = pickle.loads(content)
            if isinstance(answer, CamError):
                raise answer
            yield answer
    except (ray.exceptions.RayError, SystemError) as error:
        failure = _describe(error, answered)
        _let_go(error)
    except BaseException as error:
        _let_go(error)
        raise
    finally:
        answers.close()
        # Ray ends a worker when nobody holds it, and cycles among Ray's objects do.
        gc.collect()
    if failure is not None:
        raise failure


def _collect_answers(
    parcels: Parcels, todo: list[Range], device: torch.device, board: Any
) -> Generator[bytes, None, None]:
    """Yield the workers' answer for each shard."""
    import ray
    from ray.data import ActorPoolStrategy

    source, plan, network = map(ray.put, (parcels.source, parcels.plan, parcels.network))
    pool = _size_pool(len(todo), device)
    # A block a shard: what is done again when a worker dies.
    rows = ray.data.range(len(todo), override_num_blocks=len(todo))
    read = rows.map(Reader(source, todo, parcels.settings["threads"]))
    arguments = (source, plan, network, device.type, parcels.settings, board)
    with warnings.catch_warnings():
        # Ray 2.60 announces other names for the last two; the releases that need them are not
        # among those of requirements-ray.txt.
        warnings.simplefilter("ignore", DeprecationWarning)
        done = read.map_batches(
            Worker,
            fn_constructor_args=arguments,
            batch_size=1,
            batch_format="numpy",
            compute=ActorPoolStrategy(min_size=1, max_size=pool.workers, initial_size=pool.workers),
            num_cpus=pool.processors,
            num_gpus=pool.gpus,
            max_restarts=RESTARTS,
            max_task_retries=RETRIES,
        )
    batches = iter(done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))
    try:
        for batch in batches:
            yield from batch["content"]
    finally:
        # Workers end here, and not when somebody lets go of an exception.
        getattr(batches, "close", lambda: None)()


def _let_go(error: BaseException | None) -> None:
    """Empty an exception's frames, which hold the workers."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _describe(error: Exception, answered: bool) -> RunError:
    """Describe in one sentence what Ray says of a worker."""
    import ray

    dead = ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError
    if isinstance(error, dead) or isinstance(error.__cause__, dead):
        if not answered:
            return RunError(
                f"no worker measured a shard: each of {RETRIES + 1} died, as where memory does "
                "not suffice or loading the model ends the process; what was done before is kept"
            )
        return RunError(
            f"a worker died {RETRIES + 1} times over the same shard, as where memory does not "
            "suffice; what was done before is kept"
        )
    return RunError(f"Ray failed: {describe_error(error)}; what was done before is kept")
