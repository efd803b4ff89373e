"""Evaluate methods on a data set; the run's folder can be resumed."""

import os
import platform
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cam._data.dataset import Dataset
from cam._data.source import dataset
from cam._engine.layers import Layers
from cam._extras import require
from cam._methods.base.method_registry import Method
from cam._models.model import Model
from cam._runs.engines.local_engine import run_local
from cam._runs.engines.ray.engine import run_ray
from cam._runs.engines.run_progress import Engine, Report
from cam._runs.plan.options import RunOptions
from cam._runs.plan.run_call import Call
from cam._runs.plan.run_plan import Metric, Plan, list_differences, make_plan
from cam._runs.results.run import Run
from cam._runs.storage.store import Store, locked
from cam.errors import CamWarning, Cancelled, InputError, RunError, nearest

ENGINES: Mapping[str, Engine] = {"local": run_local, "ray": run_ray}


def evaluate(
    model: Model | nn.Module,
    data: object,
    methods: Sequence[str | Method] | str | Method = ("gradcam", "saliency"),
    metrics: Sequence[str | Metric] | str | Metric = ("deletion", "insertion"),
    out: str | os.PathLike[str] = "runs/first",
    engine: str = "local",
    *,
    baselines: Sequence[str] | str = RunOptions.baselines,
    limit: int | None = None,
    targets: str = RunOptions.targets,
    layers: Layers = RunOptions.layers,
    precision: str | None = RunOptions.precision,
    shard_size: int = RunOptions.shard_size,
    batch_size: int = RunOptions.batch_size,
    heatmaps: int = RunOptions.heatmaps,
    polarity: str = RunOptions.polarity,
    progress: Report | None = None,
) -> Run:
    """Explain every item with every method, and measure every map.

    A run is a folder. It may be killed at any moment; the same call goes on where it was and ends
    with the same scores, bit for bit. An image that cannot be read, and a method or metric that
    fails on one, are counted and named, and the run goes on.

    Args:
        model: A :class:`cam.Model` or any classifier.
        data: A :func:`cam.dataset`, or what that takes.
        methods: Names, or :func:`cam.method` with parameters.
        metrics: Names, or :func:`cam.metric` with parameters.
        out: The run's folder.
        engine: "local": this process. "ray": a pool of processes on the machines of a Ray cluster,
            that of ``RAY_ADDRESS``, else one of this machine; a GPU each where the model is on one.
            The scores are the same, and either goes on with a run of the other.
        baselines: Maps that know of no model, measured like a method's: "centre", a Gaussian in
            the middle (:func:`.centre_heatmap`). They cost no pass. Metrics that explain again are
            undefined for them.
        limit: The largest number of items, evenly spaced over the data.
        targets: "data": each item's class, or the model's top class where it has none;
            "predicted": always the top class.
        layers: Where the CAM methods look. None: the model's preset.
        precision: As of :func:`cam.attribute`.
        shard_size: Items that are explained together and stored together; what a kill may cost.
        batch_size: Inputs that a method or metric sends through the model at once.
        heatmaps: Side in pixels of the heatmaps that are kept for reports, about 2 kB each; 0 keeps
            none.
        polarity: How all metrics read signed maps: "signed", "positive" or "absolute"
            (:data:`cam.polarity.POLARITIES`), the same for every method.
        progress: Called with a :class:`.RunProgress` after each shard, and
            about once a second within one, or when the passes of a batch are through; an answer of
            False stops the run. The engine "ray" calls it from another thread within shards.

    Returns:
        The run, to be read.

    Raises:
        RunError: The folder holds a run of another configuration, is being written by another
            process, or cannot be written.
        Cancelled: ``progress`` answered False.
        MissingExtraError: The extra "evaluate", or "ray" for that engine, is not installed.
        CamError: What is asked for does not exist or does not fit.
    """
    options = RunOptions(
        baselines, targets, layers, precision, shard_size, batch_size, heatmaps, polarity
    )
    if engine not in ENGINES:
        raise InputError(f"there is no engine {engine!r}; {nearest(engine, ENGINES)}")
    require("evaluate", "cam.evaluate")
    if engine == "ray":
        require("ray", "the engine 'ray'")
    items = dataset(data)
    if limit is not None:
        items = items.limit(limit)
    plan = make_plan(model, items, methods, metrics, options)
    path = Path(out)
    if (path / "run.json").is_file():
        store = _open(path, plan)
        if store.done() == len(items) and not store.find_damage():
            # A finished run may lie where nothing can be written. One that was killed as it merged
            # is merged if it can be; its scores are the same either way.
            if not store.merged:
                with suppress(RunError), locked(path):
                    store.merge()
            return Run(store)
    with locked(path):
        store = _open(path, plan) if (path / "run.json").is_file() else _create(path, plan)
        store.clear()
        for sentence in store.set_damage_aside():
            store.log(sentence)
            warnings.warn(f"the run {str(path)!r}: {sentence}", CamWarning, stacklevel=2)
        store.log(f"started with {store.done()} of {len(items)} images done, engine {engine}")
        begun = time.perf_counter()
        try:
            ENGINES[engine](plan, store, progress)
        except (KeyboardInterrupt, Cancelled):
            store.log(f"stopped with {store.done()} of {len(items)} images done")
            raise
        store.log(f"finished in {time.perf_counter() - begun:.1f} s")
    return Run(store)


def resume(
    path: str | os.PathLike[str],
    *,
    model: Model | None = None,
    data: Dataset | None = None,
    engine: str = "local",
    progress: Report | None = None,
) -> Run:
    """Go on with a run whose folder says how it was started.

    Args:
        path: The run's folder.
        model: The run's model if it is loaded already, or if its weights were random.
        data: The run's data if they are opened already, without the limit.
        engine: As of :func:`evaluate`, and so are the rest and the errors.
        progress: As of :func:`evaluate`.

    Raises:
        RunError: There is no run, or its model or data were in memory and are not given.
    """
    call = read_call(path)
    return evaluate(
        call.load_model() if model is None else model,
        call.open_data() if data is None else data,
        out=path,
        engine=engine,
        progress=progress,
        **call.arguments(),
    )


def read_call(path: str | os.PathLike[str]) -> Call:
    """Read how a run was started, also of one whose tables are damaged.

    Raises:
        RunError: There is no run, or its model or data were in memory.
    """
    return Call.of_facts(Store.open(path).facts.get("notes", {}).get("call") or {})


def _create(path: Path, plan: Plan) -> Store:
    # A start that was killed may have left these, and nothing else.
    names = {entry.name for entry in path.iterdir() if not entry.name.startswith(".writing-")}
    if names - {"lock", "log.txt", "shards"} or any(path.glob("shards/*")):
        raise RunError(
            f"{str(path)!r} is a folder with other things in it; a run begins in a new or empty one"
        )
    return Store.create(path, plan.config, _describe_origin(plan))


def _open(path: Path, plan: Plan) -> Store:
    """Open the folder's run, if it has the plan's configuration."""
    store = Store.open(path)
    changes = list(list_differences(store.facts["config"], plan.config))
    if changes:
        more = f" (and {len(changes) - 4} more)" if len(changes) > 4 else ""
        raise RunError(
            f"the run in {str(path)!r} was started with another configuration: "
            f"{'; '.join(changes[:4])}{more}; ask for the same, or write into another folder"
        )
    return store


def _describe_origin(plan: Plan) -> dict[str, Any]:
    """Describe where a run was made, which does not determine it."""
    call = Call.of_plan(plan)
    return {
        "data": plan.data.name,
        "caution": plan.data.caution,
        "call": call and call.facts(),
        "refused": [list(entry) for entry in plan.data.refused],
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": socket.gethostname(),
        "system": platform.platform(),
        "threads": torch.get_num_threads(),
    }
