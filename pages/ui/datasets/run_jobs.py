"""Start, watch, cancel and resume runs in the background.

A run belongs to its folder and not to a visitor: it goes on when every browser is closed, whoever
cancels it cancels it for all, and a server that is killed leaves a folder to go on with.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import NamedTuple

import cam
from cam._runs.engines.run_progress import Report, RunProgress
from cam._runs.evaluation import read_call
from cam._runs.plan.run_call import Call
from cam._runs.results.run_states import RunState, runs
from cam.pages.ui.server import allowed_roots, jobs, resources, served, weight_downloads
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import PUBLISHED, RANDOM, ModelChoice
from cam.pages.ui.subject import run_checkpoints

# The only visitor who waits for a run, so that their leaving ends it.
_VISITOR = "runs"
FINISHED, STOPPED, RUNNING = "finished", "stopped", "running"
WAITING, STOPPING, DAMAGED, FAILED = "waiting", "stopping", "damaged", "failed"
# This server is at it.
LIVE = (WAITING, RUNNING, STOPPING)


class ObservedRun(NamedTuple):
    """A run as its folder has it, what it is doing, and what went wrong with it."""

    state: RunState
    doing: str
    problem: str | None


class Runner:
    """The runs that this server carries out, one at a time."""

    def __init__(self) -> None:
        self.jobs = jobs.Jobs(workers=1, yields=True)
        self.progress: dict[Path, RunProgress] = {}
        self.started: dict[Path, jobs.Job] = {}

    def start(self, path: Path, work: Callable[[jobs.Tell, Report], object]) -> None:
        """Carry out a run, after those that wait already."""
        key = ("run", path)
        self.jobs.forget(key)
        self.progress.pop(path, None)

        def report_and_work(tell: jobs.Tell) -> object:
            def report(progress: RunProgress) -> bool:
                self.progress[path] = progress
                return tell(progress.fraction)

            return work(tell, report)

        self.started[path] = self.jobs.ask(key, report_and_work, _VISITOR, lasting=True)

    def cancel(self, path: Path) -> None:
        """End it as soon as what runs through the network is through."""
        job = self.started.get(path)
        if job is not None:
            job.leave(_VISITOR)

    def forget(self, path: Path) -> None:
        """Speak no more of its error."""
        self.started.pop(path, None)
        self.jobs.forget(("run", path))


@share()
def get_runner() -> Runner:
    """Return the runner of this server."""
    return Runner()


def load_model(call: Call) -> cam.Model:
    """Load a run's model, the shared one where the pages have it.

    Raises:
        CamError: It cannot be loaded.
    """
    served.refuse_code(call.model.name)
    weights = run_checkpoints.read_weights(call.model)
    if weights is None:
        return call.load_model()
    return resources.load_model(ModelChoice(call.model.name, weights, call.model.prompts or ()))


def start(path: Path, call: Call) -> None:
    """Start a new run.

    Raises:
        CamError: There is one already, its model or data cannot be had, or they do not fit.
    """
    if (path / "run.json").exists() or is_mine(path):
        raise cam.RunError(f"there is a run {path.name!r} already; resume it, or take another name")
    run_checkpoints.keep(call.model)
    # A twin, so that the pages can explain with the same network while the run goes on.
    model, data = load_model(call).twin(), allowed_roots.open_data(call.data)
    # What can be refused before the first picture is read is refused here, not in a failed run.
    call.plan(model, data)
    get_runner().start(
        path,
        lambda _, report: cam.evaluate(model, data, out=path, progress=report, **call.arguments()),
    )


def resume(path: Path) -> None:
    """Go on with a run, whoever started it.

    Raises:
        CamError: It does not say how it was started, or its model or data cannot be had.
    """
    call = read_call(path)
    data = allowed_roots.open_data(call.data)
    weights = PUBLISHED if call.model.weights == "DEFAULT" else RANDOM
    published = weight_downloads.find_missing(ModelChoice(call.model.name, weights))
    shared = None if published else load_model(call).twin()

    def work(tell: jobs.Tell, report: Report) -> object:
        if published is not None:
            weight_downloads.fetch(
                published,
                lambda _, note="", partial=None: tell(0, f"downloading its weights, {note}"),
            )
        model = call.load_model() if shared is None else shared
        return cam.resume(path, model=model, data=data, progress=report)

    get_runner().start(path, work)


def list_states() -> list[ObservedRun]:
    """List every run: what its folder says, what it is doing, and what went wrong with it.

    Raises:
        RunError: The folder of runs cannot be read.
    """
    states = runs(allowed_roots.get_runs_folder())
    paths = {state.path for state in states}
    started = get_runner().started
    new = [RunState(path, WAITING) for path in started if path not in paths]
    return [
        ObservedRun(state, *_observe(state, started.get(state.path))) for state in [*new, *states]
    ]


def _observe(state: RunState, job: jobs.Job | None) -> tuple[str, str | None]:
    if job is not None and _is_live(job):
        if not job.awaited:
            return STOPPING, None
        return (WAITING if job.begun is None else RUNNING), None
    error = None if job is None or job.cancelled else job.error
    reason = None
    if error is not None:
        reason = str(error) if isinstance(error, cam.CamError) else type(error).__name__
    if state.total == 0 and state.problem is None:
        return FAILED, reason or "it was cancelled before its first image"
    return state.state, state.problem or (reason if state.state == STOPPED else None)


def find_free_name() -> str:
    """Find a name that no run has, and none that waits."""
    names = (f"run-{number}" for number in count(1))
    return next(name for name in names if not exists(allowed_roots.get_runs_folder() / name))


def exists(path: Path) -> bool:
    """Return whether there is a run, or one that is about to be."""
    return path.exists() or path in get_runner().started


def is_mine(path: Path) -> bool:
    """Return whether this server carries it out."""
    job = get_runner().started.get(path)
    return job is not None and _is_live(job)


def _is_live(job: jobs.Job) -> bool:
    """Return whether a job is at work or will be; one that was cancelled as it waited will not."""
    return not job.done.is_set() and (job.awaited or job.begun is not None)
