"""Run long work in the background, with progress and Cancel.

A job belongs to what it computes, not to who asked: two visitors who ask the same wait for one job
and get one result. It is cancelled when the last of them has cancelled or gone away, unless it is
meant to outlive the browser.
"""

import logging
import os
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from queue import SimpleQueue
from typing import Any, Protocol
from weakref import WeakSet

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

import cam
from cam._formatting import duration
from cam.pages.ui.state.visitor import get_visitor

_log = logging.getLogger(__name__)

# Each keeps the cores busy alone; a second one lets a short job pass a long one.
WORKERS = 2
CAPACITY = 32
POLL_SECONDS = 0.5
# By how much a thread that yields is nicer than those that draw pages; 19 would starve it.
NICENESS = 10
# A page asks twice a second while it is open; what is not asked for any more is given up.
PATIENCE_SECONDS = 30


class Tell(Protocol):
    """How the work says how far it is; the answer is whether to go on."""

    def __call__(self, share: float, note: str = "", partial: Any = None) -> bool:
        """See :meth:`Job.tell`."""


Draw = Callable[[Any], None]
Work = Callable[[Tell], Any]


class Job:
    """One piece of work, seen from its thread and from the pages that wait for it."""

    def __init__(self, work: Work, lasting: bool) -> None:
        self.share = 0.0
        self.note = ""
        self.partial: Any = None
        self.result: Any = None
        self.error: Exception | None = None
        # By which a visitor's message and the server's log are brought together.
        self.error_number = secrets.token_hex(4)
        self.done = threading.Event()
        self.begun: float | None = None
        # Its last moment at nothing done: what comes before, such as imports, tells no speed.
        self._moving: float | None = None
        self._work: Work | None = work
        self._lasting = lasting
        self._stopped = threading.Event()
        self._visitors: dict[str, float] = {}

    def ask(self, visitor: str) -> None:
        """Note that a visitor's page is open and waits."""
        self._visitors[visitor] = time.monotonic()

    def leave(self, visitor: str) -> None:
        """Let a visitor go who does not want it any more; the last to leave stops it."""
        self._visitors.pop(visitor, None)
        if not self._visitors:
            self._stopped.set()

    def stop(self) -> None:
        """Ask it to end, whoever waits for it."""
        self._stopped.set()

    @property
    def awaited(self) -> bool:
        """Whether anybody still waits for it."""
        if self._stopped.is_set():
            return False
        latest = max(list(self._visitors.values()), default=0.0)
        return self._lasting or time.monotonic() - latest < PATIENCE_SECONDS

    @property
    def cancelled(self) -> bool:
        """Whether it ended without a result because nobody wanted one."""
        return self.done.is_set() and isinstance(self.error, cam.Cancelled)

    @property
    def seconds_left(self) -> float | None:
        """Seconds left at the speed so far; None while that says nothing yet."""
        since = self.begun if self._moving is None else self._moving
        if since is None or self.share < 0.02:
            return None
        return (time.monotonic() - since) * (1 - self.share) / self.share

    def tell(self, share: float, note: str = "", partial: Any = None) -> bool:
        """Report how far the work is, from 0 to 1; returns whether to go on.

        Args:
            share: Of the work that is done.
            note: What is being done.
            partial: The result so far; it is not written to afterwards.
        """
        self.share, self.note = min(max(share, 0.0), 1.0), note
        if not self.share:
            self._moving = time.monotonic()
        if partial is not None:
            self.partial = partial
        return self.awaited

    def run(self) -> None:
        """Do the work, in a thread."""
        self.begun = time.monotonic()
        try:
            if not self.awaited:
                raise cam.Cancelled("nobody waited for it any more")
            assert self._work is not None
            self.result = self._work(self.tell)
        except Exception as error:  # noqa: BLE001  It is raised where the result is asked for.
            self.error = error
        finally:
            # It holds what it was made from, such as an uploaded film, and the job is kept.
            self._work = None
            self.done.set()


class Jobs:
    """The jobs of all visitors: few at once, the latest results kept.

    Args:
        workers: How many run at once.
        capacity: How many are kept, those that ended included.
        yields: Whether the cores go to the pages first, and to these jobs what is left.
    """

    def __init__(
        self, workers: int = WORKERS, capacity: int = CAPACITY, yields: bool = False
    ) -> None:
        self._yields = yields
        self._waiting: SimpleQueue[Job] = SimpleQueue()
        # Not an executor, whose threads an ending server would wait for, and a run takes hours.
        for number in range(workers):
            name = f"cam-job_{number}"
            threading.Thread(target=self._carry_out, name=name, daemon=True).start()
        self._capacity = capacity
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._lock = threading.Lock()
        _everybody.add(self)

    def _carry_out(self) -> None:
        # Linux has a priority for each thread, and the threads that torch starts from this one
        # inherit it; elsewhere it would be that of the whole server.
        if self._yields and sys.platform == "linux":
            thread = threading.get_native_id()
            niceness = os.getpriority(os.PRIO_PROCESS, thread) + NICENESS
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
        while True:
            self._waiting.get().run()

    def find(self, key: Hashable) -> Job | None:
        """Return the job of that key, if there is one."""
        with self._lock:
            return self._jobs.get(key)

    def ask(self, key: Hashable, work: Work, visitor: str, lasting: bool = False) -> Job:
        """Return the job of that key, or start a new one, also after one was cancelled."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.cancelled or not (job.done.is_set() or job.awaited):
                job = self._jobs[key] = Job(work, lasting)
                job.ask(visitor)
                self._waiting.put(job)
            job.ask(visitor)
            self._jobs.move_to_end(key)
            ended = [
                old for old, other in self._jobs.items() if other.done.is_set() and other is not job
            ]
            for old in ended[: max(0, len(self._jobs) - self._capacity)]:
                del self._jobs[old]
            return job

    def stop(self) -> list[Job]:
        """Ask every job to end; returns those that have not yet."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if not job.done.is_set()]
        for job in jobs:
            job.stop()
        return jobs

    def forget(self, key: Hashable) -> None:
        """Drop a finished job, so that the next to ask starts anew."""
        with self._lock:
            if key in self._jobs and self._jobs[key].done.is_set():
                del self._jobs[key]


# Of this process.
_everybody: "WeakSet[Jobs]" = WeakSet()


def stop_everything(seconds: float) -> bool:
    """End the jobs of all visitors, as the server ends.

    Args:
        seconds: How long it waits for them: a run ends with the batch that is at work.

    Returns:
        Whether all ended.
    """
    end = time.monotonic() + seconds
    stopped = [job for jobs in list(_everybody) for job in jobs.stop()]
    return all(job.done.wait(max(0.0, end - time.monotonic())) for job in stopped)


@st.cache_resource(show_spinner=False)
def get_shared_jobs() -> Jobs:
    """Return the jobs of explanations, which visitors wait for."""
    return Jobs()


def identify_visitor() -> str:
    """Return the session that is asking."""
    context = get_script_run_ctx()
    return context.session_id if context else ""


def wait_for(
    key: Hashable, what: str, work: Work, jobs: Jobs | None = None, draw: Draw | None = None
) -> Any:
    """Return what ``work`` returns, computed in the background.

    While it runs, a bar with Cancel stands here and the answer is None; the page is drawn again
    when it is done. After Cancel a button starts it anew.

    Args:
        key: Everything that determines the result.
        what: What is being done, as in "Score-CAM for the cat".
        work: Called in a thread with ``tell(share, note, partial)``, which answers False once
            nobody wants the result: the work then raises :class:`cam.Cancelled`. It must not touch
            Streamlit.
        jobs: Whose jobs; None: the explanations'.
        draw: Draws the result so far while the work goes on.

    Raises:
        CamError: The work's own, or that it failed in another way.
    """
    owner = get_shared_jobs() if jobs is None else jobs
    if is_cancelled(key):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"{what}: cancelled.")
            st.button(
                "Start again", on_click=_get_cancelled().discard, args=(key,), key=f"again-{key}"
            )
        return None
    job = owner.ask(key, work, identify_visitor())
    if not job.done.is_set():
        # What is quick should not flicker.
        job.done.wait(0.2)
    if not job.done.is_set():
        _watch(key, what, job, draw)
        return None
    if job.cancelled:
        # Another page of this visitor, or a pause longer than the patience: begin again.
        owner.forget(key)
        return wait_for(key, what, work, owner, draw)
    if job.error is not None:
        owner.forget(key)
        if isinstance(job.error, cam.CamError):
            raise job.error
        # A visitor gets a sentence and the rest of the page; who runs the server, all of it.
        number = job.error_number
        _log.error("error %s: %s failed", number, what, exc_info=job.error)
        raise cam.CamError(
            "this failed in a way that nobody foresaw; the server's log says how, under the number "
            f"{number}"
        )
    return job.result


def is_cancelled(key: Hashable) -> bool:
    """Return whether this visitor has cancelled a job, and not asked for it again."""
    return key in _get_cancelled()


def _get_cancelled() -> set[Hashable]:
    return get_visitor().cancelled


@st.fragment(run_every=POLL_SECONDS)
def _watch(key: Hashable, what: str, job: Job, draw: Draw | None) -> None:
    # Who cancels is let go at once, also while others wait for the job or it waits for its turn.
    if job.done.is_set() or is_cancelled(key):
        st.rerun()
    job.ask(identify_visitor())
    st.progress(job.share, text=describe(what, job))
    st.button("Cancel", on_click=_cancel, args=(key, job), key=f"cancel-{key}")
    if draw is not None and job.partial is not None:
        draw(job.partial)


def _cancel(key: Hashable, job: Job) -> None:
    job.leave(identify_visitor())
    _get_cancelled().add(key)


def describe(what: str, job: Job) -> str:
    """Describe in one line how far a job is."""
    if job.begun is None:
        return f"{what}: waiting for other work on this server"
    parts = [f"{what}: {job.share:.0%}"]
    if job.note:
        parts.append(job.note)
    if job.seconds_left is not None:
        parts.append(duration(job.seconds_left) + " left")
    return " · ".join(parts)
