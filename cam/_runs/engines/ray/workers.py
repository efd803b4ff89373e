"""Read or measure shards in the processes of a Ray cluster.

Both answer with bytes. An exception that went through Ray would lose its cause on the way, so it is
an answer too.
"""

import logging
import pickle
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from PIL import Image

from cam._data.dataset import Item
from cam._performance.kept_memory import keep_memory
from cam._runs.engines.ray.parcels import adopt, unpack
from cam._runs.engines.ray.watching import Sender
from cam._runs.engines.shard_reader import Read, Source, describe_error, read_shard
from cam._runs.engines.shard_worker import measure_shard
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range
from cam.errors import CamError, RunError

LOG = logging.getLogger("cam.evaluate")


class Reader:
    """Reads the shard of a row's number.

    Args:
        source: Where Ray holds the parcel of that name.
        todo: The shards.
        threads: As many as torch has in the process that was called.
    """

    def __init__(self, source: Any, todo: list[Range], threads: int) -> None:
        self._source, self._todo, self._threads = source, todo, threads

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Read the shard of ``{"id": number}`` as pickled ``content``, a Read or failure."""
        # A transform may add up too, and in as many parts as there are threads.
        torch.set_num_threads(self._threads)
        try:
            read: Read | bytes = _drop_pictures(
                read_shard(_open_source(self._source), self._todo[row["id"]])
            )
        except Exception as error:
            # Such as a module of the data set that this machine lacks.
            LOG.debug("a shard cannot be read", exc_info=True)
            read = _pickle_failure(error)
        return {"content": pickle.dumps(read)}


class Worker:
    """Holds the model, and measures the shards that it is handed.

    Args:
        source: Where Ray holds the parcel of that name, as of the next two.
        plan: The plan's.
        network: The network's.
        device: "cpu" or "cuda".
        settings: As of :class:`cam._runs.engines.ray.parcels.Parcels`.
        board: Where it says how far it is.
    """

    def __init__(
        self,
        source: Any,
        plan: Any,
        network: Any,
        device: str,
        settings: Mapping[str, Any],
        board: Any,
    ) -> None:
        keep_memory()
        self._sender = Sender(board)
        self._parcels, self._device = (source, plan, network), device
        self._settings = settings
        self._plan: Plan | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Measure a pickled Read into a pickled (shard, Result) or failure."""
        import numpy as np

        return {"content": np.array([self._answer(batch["content"][0])], dtype=object)}

    def _answer(self, content: bytes) -> bytes:
        read: Read | bytes = pickle.loads(content)
        if isinstance(read, bytes):
            return read
        try:
            beat = partial(self._sender.send, read.shard)
            plan = self._unpack()
            self._sender.announce(plan, read)
            return pickle.dumps((read.shard, measure_shard(plan, read, beat)))
        except Exception as error:
            LOG.debug("a shard failed", exc_info=True)
            return _pickle_failure(error)

    def _unpack(self) -> Plan:
        """Unpack the plan, with the model.

        Only with the first shard: Ray starts a process that dies as it begins again and again, but
        one that dies over a shard a few times.
        """
        if self._plan is None:
            import ray

            adopt(self._settings)
            source, plan, network = ray.get(list(self._parcels))
            self._plan = unpack(source, plan, network, self._device)
        return self._plan


@lru_cache(maxsize=1)
def _open_source(source: Any) -> Source:
    """Unpickle the source once for the many shards of a process."""
    import ray

    opened: Source = pickle.loads(ray.get(source))
    return opened


def _drop_pictures(read: Read) -> Read:
    """Drop the pictures, whose inputs are made: they are most bytes."""
    none = Image.new("RGB", (1, 1))
    items: dict[int, Item | str] = {
        number: replace(item, image=none)
        if isinstance(item, Item) and isinstance(item.image, Image.Image)
        else item
        for number, item in read.items.items()
    }
    return replace(read, items=items)


def _pickle_failure(error: Exception) -> bytes:
    if isinstance(error, CamError):
        return pickle.dumps(error)
    sentence = f"a worker failed: {describe_error(error)}; what was done before is kept"
    return pickle.dumps(RunError(sentence))
