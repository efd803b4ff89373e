"""Carry progress from the workers of a cluster, and cancelling to them.

The board holds the last state of each shard. A worker sends it about once a second and goes on; the
answer to one message is read when the next is sent. A thread of the calling process reads them all.
"""

import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cam._runs.engines.pass_counts import ShardState, ask_for_passes
from cam._runs.engines.ray.board import Board
from cam._runs.engines.run_progress import BEAT_SECONDS, Ledger
from cam._runs.engines.shard_reader import Read
from cam._runs.plan.run_plan import Plan
from cam._runs.storage.store import Range
from cam.errors import Cancelled

LOG = logging.getLogger("cam.evaluate")


class Sender:
    """Sends a worker's states to the board.

    Args:
        board: Its handle; None where nobody listens.
    """

    def __init__(self, board: Any) -> None:
        self._board = board
        self._announced = False
        self._sent = time.perf_counter()
        self._answer: Any = None

    def announce(self, plan: Plan, read: Read) -> None:
        """Ask, once, how many passes methods and metrics make, and send that."""
        if self._announced or self._board is None or not read.inputs:
            return
        self._announced = True
        image = next(iter(read.inputs.values()))
        self._board.announce.remote(ask_for_passes(plan, image, lambda: None))

    def send(self, shard: Range, state: ShardState) -> None:
        """Send a state, about once a second.

        Raises:
            Cancelled: The caller does not want the rest.
        """
        import ray

        if self._board is None or time.perf_counter() - self._sent < BEAT_SECONDS:
            return
        self._sent = time.perf_counter()
        if self._answer is not None and ray.get(self._answer):
            raise Cancelled("the run was stopped")
        self._answer = self._board.post.remote(shard, pickle.dumps(state))


class Watch:
    """What the calling process knows of the workers.

    Attributes:
        board: The actor's handle.
        lock: Held while the ledger is written or reports.
        failure: What the report raised within a shard.
    """

    def __init__(self, board: Any) -> None:
        self.board = board
        self.lock = threading.Lock()
        self.failure: Exception | None = None


@contextmanager
def watch(ledger: Ledger) -> Iterator[Watch]:
    """Report the workers' states about once a second, in a thread, while the block runs.

    Where a report answers False or fails, the workers stop, and the block gets their answer.
    """
    import ray

    if not ledger.reports:
        yield Watch(None)
        return
    board = ray.remote(num_cpus=0)(Board).remote()
    watched, ended = Watch(board), threading.Event()

    def read() -> None:
        answer = None
        while not ended.wait(BEAT_SECONDS):
            answer = board.take.remote() if answer is None else answer
            try:
                states, announced = ray.get(answer, timeout=BEAT_SECONDS)
                answer = None
                with watched.lock:
                    ledger.announce(announced)
                    ledger.follow_all({at: pickle.loads(state) for at, state in states.items()})
            except ray.exceptions.GetTimeoutError:
                # Its process has not begun yet, or the cluster is busy.
                continue
            except Exception as error:
                LOG.debug("a report failed", exc_info=True)
                if not ended.is_set():
                    watched.failure = error
                    board.stop.remote()
                return

    thread = threading.Thread(target=read, name="cam-watch", daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
        ray.kill(board)
