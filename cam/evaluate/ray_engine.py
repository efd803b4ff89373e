"""The engine on a Ray cluster: tasks read shards, processes with the model measure them.

Only the process that was called writes, so the store's lock and what it promises hold as they do
for the local engine. A worker that dies is started again, and its shard is measured again.
"""

import copy
import importlib.util
import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from PIL import Image
from torch import nn

from cam.data.dataset import Item
from cam.errors import CamError, InputError, RunError
from cam.evaluate.plan import Plan, differences, surroundings
from cam.evaluate.progress import Ledger, Report, missing
from cam.evaluate.reader import Read, in_a_line, read_shard
from cam.evaluate.store import Range, Store
from cam.evaluate.worker import Result, measure_shard

# A shard whose worker dies each time, as where memory does not suffice, ends the run after so many.
RETRIES = 3
LOG = logging.getLogger("cam.evaluate")
_ENVIRONMENT = ("CAM_KERNELS", "TRITON_INTERPRET")


def check_ray() -> None:
    """See that Ray is installed.

    Raises:
        InputError: It is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "the engine 'ray' needs Ray, which is not installed; "
            "pip install -r requirements-ray.txt"
        )


def run_ray(plan: Plan, store: Store, report: Report | None = None) -> None:
    """Carry out what is missing.

    Raises:
        Cancelled: ``report`` answered False; what it was told of is stored.
        InputError: The model or the data cannot be sent to another process, or no GPU is there.
        RunError: The store cannot be written, a worker differs from this process in what determines
            the scores, or dies again and again.
    """
    check_ray()
    todo = missing(plan, store)
    ledger = Ledger(plan, store, report)
    ledger.tell()
    if todo:
        parcels = _packed(plan)
        with _cluster():
            for shard, result in _measured(parcels, todo, plan.model.device):
                ledger.add(shard, result)
    store.merge()


@dataclass(frozen=True)
class _Parcels:
    """A plan as bytes: the network apart, since those who read need it not."""

    plan: bytes
    network: bytes
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Pool:
    """How many workers, with what each."""

    workers: int
    processors: int
    gpus: int
    threads: int


def _packed(plan: Plan) -> _Parcels:
    from ray import cloudpickle

    if torch.is_autocast_enabled(plan.model.device.type):
        raise InputError(
            "the engine 'ray' works in other processes, which torch.autocast does not reach; give "
            "precision='bf16' or 'fp16' instead, or use the engine 'local'"
        )
    # On the processor: where a worker's GPU is, is the worker's affair.
    network = plan.model.module
    if plan.model.device.type != "cpu":
        network = copy.deepcopy(network).cpu()
    shell = copy.copy(plan.model)
    shell.module = nn.Identity()
    # Layers by name: a module would be another one over there.
    layers = None if plan.layers is None else tuple(plan.config["layers"])
    try:
        return _Parcels(
            cloudpickle.dumps(replace(plan, model=shell, layers=layers)),
            cloudpickle.dumps(network),
            _settings(),
        )
    except Exception as error:
        # Somebody's own module, transform or data set: it is told which object will not go.
        LOG.debug("a plan cannot be pickled", exc_info=True)
        raise InputError(
            "the model or the data cannot be sent to another process, as the engine 'ray' does "
            f"({in_a_line(error)}); use the engine 'local'"
        ) from None


def _settings() -> dict[str, Any]:
    """What of this process's torch and environment the scores may depend on."""
    return {
        "matmul": torch.backends.cuda.matmul.fp32_precision,
        "convolution": torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "environment": {name: os.environ.get(name) for name in _ENVIRONMENT},
    }


@contextmanager
def _cluster() -> Iterator[None]:
    """Be connected to Ray; what was not there before is stopped again."""
    import ray

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [one.level for one in loggers]
    started = not ray.is_initialized()
    try:
        if started:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
            if not os.environ.get("RAY_ADDRESS"):
                # One to measure and one to read, also where there is one only.
                processors = max(2, len(os.sched_getaffinity(0)))
                options |= {
                    "address": "local",
                    "num_cpus": processors,
                    "include_dashboard": False,
                }
            try:
                ray.init(**options)
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise RunError(f"Ray cannot be started: {in_a_line(error)}") from None
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        context.enable_progress_bars = context.print_on_execution_start = False
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        if started:
            ray.shutdown()


def _pool(shards: int, device: torch.device) -> _Pool:
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
        return _Pool(min(gpus, free, shards), 1, 1, torch.get_num_threads())
    # As many threads as here: on a processor sums are added up in another order by other numbers.
    threads = torch.get_num_threads()
    machines = [int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]]
    # A worker lives on one machine, and waits for ever for more processors than any has.
    each = min(threads, free, max(machines))
    workers = min(sum(one // each for one in machines), free // each)
    return _Pool(min(workers, shards), each, 0, threads)


def _measured(
    parcels: _Parcels, todo: list[Range], device: torch.device
) -> Iterator[tuple[Range, Result]]:
    """Shards as they are done, in any order."""
    import ray
    from ray.data import ActorPoolStrategy

    plan, network = ray.put(parcels.plan), ray.put(parcels.network)
    pool = _pool(len(todo), device)
    # A block a shard: what is done again when a worker dies.
    rows = ray.data.range(len(todo), override_num_blocks=len(todo))
    read = rows.map(_Reader(plan, todo, pool.threads))
    with warnings.catch_warnings():
        # Ray 2.60 announces other names for the last two; the releases that need them are not
        # among those of requirements-ray.txt.
        warnings.simplefilter("ignore", DeprecationWarning)
        done = read.map_batches(
            _Worker,
            fn_constructor_args=(plan, network, device.type, pool.threads, parcels.settings),
            batch_size=1,
            batch_format="numpy",
            compute=ActorPoolStrategy(min_size=1, max_size=pool.workers, initial_size=pool.workers),
            num_cpus=pool.processors,
            num_gpus=pool.gpus,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    found = iter(done.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))
    try:
        for batch in found:
            for content in batch["content"]:
                answer = pickle.loads(content)
                if isinstance(answer, CamError):
                    raise answer
                yield answer
    except (ray.exceptions.RayError, SystemError) as error:
        raise _told(error) from None
    finally:
        # Workers end here, and not when somebody lets go of an exception.
        getattr(found, "close", lambda: None)()


def _told(error: Exception) -> RunError:
    """What Ray says of a worker, in one sentence."""
    import ray

    dead = ray.exceptions.RayActorError | ray.exceptions.WorkerCrashedError
    if isinstance(error, dead) or isinstance(error.__cause__, dead):
        return RunError(
            f"a worker died {RETRIES + 1} times over the same shard, as where memory does not "
            "suffice; what was done before is kept"
        )
    return RunError(f"Ray failed: {in_a_line(error)}; what was done before is kept")


def _failed(error: Exception) -> bytes:
    """What a worker answers where it fails: an exception would lose its cause on the way."""
    if isinstance(error, CamError):
        return pickle.dumps(error)
    told = f"a worker failed: {in_a_line(error)}; what was done before is kept"
    return pickle.dumps(RunError(told))


@lru_cache(maxsize=1)
def _unpacked(plan: Any) -> Plan:
    """A process reads many shards of one plan, whose list of files may be long."""
    import ray

    found: Plan = pickle.loads(ray.get(plan))
    return found


class _Reader:
    """Reads the shard of a row's number."""

    def __init__(self, plan: Any, todo: list[Range], threads: int) -> None:
        self._plan, self._todo, self._threads = plan, todo, threads

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        # A transform may add up too, and in as many parts as there are threads.
        torch.set_num_threads(self._threads)
        try:
            read: Read | bytes = _light(read_shard(_unpacked(self._plan), self._todo[row["id"]]))
        except Exception as error:
            # Such as a module of the data set that this machine lacks.
            LOG.debug("a shard cannot be read", exc_info=True)
            read = _failed(error)
        return {"content": pickle.dumps(read)}


def _light(read: Read) -> Read:
    """Without the pictures themselves, whose inputs are made: they are most of the bytes."""
    none = Image.new("RGB", (1, 1))
    items: dict[int, Item | str] = {
        number: replace(item, image=none)
        if isinstance(item, Item) and isinstance(item.image, Image.Image)
        else item
        for number, item in read.items.items()
    }
    return replace(read, items=items)


class _Worker:
    """Holds the model, and measures the shards that it is handed."""

    def __init__(
        self, plan: Any, network: Any, device: str, threads: int, settings: Mapping[str, Any]
    ) -> None:
        self._broken: bytes | None = None
        try:
            _adopt(settings, threads)
            self._plan = _with_network(plan, network, device)
        except Exception as error:
            # Told by the first answer: Ray would start a worker that fails here for ever.
            LOG.debug("a worker cannot begin", exc_info=True)
            self._broken = _failed(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        content = self._broken or self._answer(batch["content"][0])
        return {"content": np.array([content], dtype=object)}

    def _answer(self, content: bytes) -> bytes:
        read: Read | bytes = pickle.loads(content)
        if isinstance(read, bytes):
            return read
        try:
            return pickle.dumps((read.shard, measure_shard(self._plan, read)))
        except Exception as error:
            LOG.debug("a shard failed", exc_info=True)
            return _failed(error)


def _adopt(settings: Mapping[str, Any], threads: int) -> None:
    """Compute as the process that was called does."""
    for name, value in settings["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.fp32_precision = settings["matmul"]
    torch.backends.cudnn.conv.fp32_precision = settings["convolution"]  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = settings["cudnn_benchmark"]
    torch.backends.cudnn.deterministic = settings["cudnn_deterministic"]
    torch.use_deterministic_algorithms(settings["deterministic"])


def _with_network(plan: Any, network: Any, device: str) -> Plan:
    """The plan, with its network on this process's device.

    Raises:
        RunError: Something here differs that the scores depend on.
    """
    import ray

    found: Plan = pickle.loads(ray.get(plan))
    found.model.module = pickle.loads(ray.get(network))
    found.model.to(device)
    here = surroundings(found.model.device)
    there = {name: found.config[name] for name in here}
    differs = list(differences(there, here))
    if differs:
        raise RunError(
            "a worker would not give the same scores as this process: "
            f"{'; '.join(differs[:4])}; have the same on every machine"
        )
    return found
