"""Start, watch, cancel and resume runs in the background.

A run belongs to its folder and not to a visitor: it goes on when every browser is closed, whoever
cancels it cancels it for all, and a server that is killed leaves a folder to go on with.
"""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

import cam
from cam._runs.engines.run_progress import Report, RunProgress
from cam._runs.plan.run_call import Call
from cam._runs.results.run_states import RunState, runs
from cam.pages.ui.server import allowed_roots, jobs, resources, weight_downloads
from cam.pages.ui.subject import run_checkpoints

# The only one who asks for a run, so that leaving it ends it.
_ASKER = "runs"
FINISHED, STOPPED, RUNNING = "finished", "stopped", "running"
WAITING, STOPPING, DAMAGED, FAILED = "waiting", "stopping", "damaged", "failed"
# This server is at it.
LIVE = (WAITING, RUNNING, STOPPING)


class Runner:
    """The runs that this server carries out, one at a time."""

    def __init__(self) -> None:
        self.jobs = jobs.Jobs(workers=1)
        self.progress: dict[Path, RunProgress] = {}
        self.asked: dict[Path, jobs.Job] = {}

    def start(self, path: Path, work: Callable[[jobs.Tell, Report], object]) -> None:
        """Carry out a run, after those that wait already."""
        key = ("run", path)
        self.jobs.forget(key)
        self.progress.pop(path, None)

        def carried(tell: jobs.Tell) -> object:
            def report(progress: RunProgress) -> bool:
                self.progress[path] = progress
                return tell(progress.done / max(progress.total, 1))

            return work(tell, report)

        self.asked[path] = self.jobs.ask(key, carried, _ASKER, lasting=True)

    def cancel(self, path: Path) -> None:
        """End it as soon as what runs through the network is through."""
        job = self.asked.get(path)
        if job is not None:
            job.leave(_ASKER)

    def forget(self, path: Path) -> None:
        """Do not speak of its error any more."""
        self.asked.pop(path, None)
        self.jobs.forget(("run", path))


@st.cache_resource(show_spinner=False)
def runner() -> Runner:
    """The server's."""
    return Runner()


def model_of(call: Call) -> cam.Model:
    """A run's model, the shared one where it is one that the pages know.

    Raises:
        CamError: It cannot be loaded.
    """
    trained = run_checkpoints.weights_of(call.model)
    if trained is None:
        return call.load_model()
    return resources.model(call.model.name, trained)


def start(path: Path, call: Call) -> None:
    """Start a new run.

    Raises:
        CamError: There is one already, its model or data cannot be had, or they do not fit.
    """
    if (path / "run.json").exists() or mine(path):
        raise cam.RunError(f"there is a run {path.name!r} already; resume it, or take another name")
    run_checkpoints.keep(call.model)
    # A twin, so that the pages can explain with the same network while the run goes on.
    model, data = model_of(call).twin(), allowed_roots.open_data(call.data)
    # What can be told before the first picture is read is told here, and not by a run that failed.
    call.plan(model, data)
    runner().start(
        path,
        lambda _, report: cam.evaluate(model, data, out=path, progress=report, **call.arguments()),
    )


def resume(path: Path) -> None:
    """Go on with a run, whoever started it.

    Raises:
        CamError: It does not say how it was started, or its model or data cannot be had.
    """
    call = cam.Run.open(path).call
    data = allowed_roots.open_data(call.data)
    published = weight_downloads.missing(call.model.name, call.model.weights == "DEFAULT")
    shared = None if published else model_of(call).twin()

    def work(tell: jobs.Tell, report: Report) -> object:
        if published is not None:
            weight_downloads.fetch(
                published,
                lambda _, note="", partial=None: tell(0, f"downloading its weights, {note}"),
            )
        model = call.load_model() if shared is None else shared
        return cam.resume(path, model=model, data=data, progress=report)

    runner().start(path, work)


def states() -> list[tuple[RunState, str, str | None]]:
    """Every run: what its folder says, what it is doing, and what went wrong with it.

    Raises:
        RunError: The folder of runs cannot be read.
    """
    found = {one.path: one for one in runs(allowed_roots.runs_folder())}
    asked = runner().asked
    new = [RunState(path, WAITING) for path in asked if path not in found]
    return [(one, *_doing(one, asked.get(one.path))) for one in [*new, *found.values()]]


def _doing(state: RunState, job: jobs.Job | None) -> tuple[str, str | None]:
    if job is not None and _is_live(job):
        if not job.wanted:
            return STOPPING, None
        return (WAITING if job.begun is None else RUNNING), None
    error = None if job is None or job.cancelled else job.error
    told = None
    if error is not None:
        told = str(error) if isinstance(error, cam.CamError) else type(error).__name__
    if state.total == 0 and state.problem is None:
        return FAILED, told or "it was cancelled before its first image"
    return state.state, state.problem or (told if state.state == STOPPED else None)


def free_name() -> str:
    """A name that no run has, and none that waits."""
    number = 1
    while known(allowed_roots.runs_folder() / f"run-{number}"):
        number += 1
    return f"run-{number}"


def known(path: Path) -> bool:
    """Whether there is a run, or one that is about to be."""
    return path.exists() or path in runner().asked


def mine(path: Path) -> bool:
    """Whether this server carries it out."""
    job = runner().asked.get(path)
    return job is not None and _is_live(job)


def _is_live(job: jobs.Job) -> bool:
    """Whether it is at work or will be; one that was cancelled as it waited will not."""
    return not job.done.is_set() and (job.wanted or job.begun is not None)
