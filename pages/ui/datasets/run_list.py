"""List the runs that are not finished, with Cancel and Resume."""

from functools import partial
from html import escape

import streamlit as st

from cam._formatting import duration
from cam._runs.engines import run_progress
from cam._runs.engines.pass_counts import SHARED
from cam._runs.engines.run_progress import RunProgress
from cam._runs.results.run_states import RunState
from cam._runs.results.titles import title_method, title_metric
from cam.pages.ui.charts.bars import draw_meter
from cam.pages.ui.charts.colours import HIGHLIGHT, OTHERS
from cam.pages.ui.charts.elements import bold, div, span
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.run_jobs import LIVE, ObservedRun
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.state import address
from cam.pages.ui.state.visitor import get_visitor
from cam.pages.ui.widgets.links import read_switch, switch
from cam.pages.ui.widgets.prose import as_sentence, report_errors

MOST_SHOWN = 6
# Another run has other images, methods and metrics.
OF_RUN = ("item", "page", "metric", "method", "label", "before", "cell", "selected", "sort")
POLL_SECONDS = 1.0
STEPS = {
    run_progress.READING: "reading images",
    run_progress.PREPARING: "estimating the time",
    SHARED: "the pass that methods share",
}
WORDS = {
    run_jobs.RUNNING: "running",
    run_jobs.WAITING: "waiting for another run",
    run_jobs.STOPPING: "stopping after the present batch",
    run_jobs.STOPPED: "paused, can be resumed",
    run_jobs.FINISHED: "finished",
    run_jobs.DAMAGED: "damaged",
    run_jobs.FAILED: "not started",
}


def show_active(runs: list[ObservedRun]) -> None:
    """Show runs that are not finished; while one is at work they are drawn again every second."""
    live = any(run.doing in LIVE for run in runs)
    draw = st.fragment(_draw_runs, run_every=POLL_SECONDS if live else None)
    draw(live)


def _draw_runs(was_live: bool) -> None:
    with report_errors():
        runs = run_jobs.list_states()
        if was_live and not any(run.doing in LIVE for run in runs):
            # The last one ended: the rest of the page has new results, and polling can stop.
            st.rerun()
        runs = [run for run in runs if run.doing != run_jobs.FINISHED]
        everything = len(runs) <= MOST_SHOWN or read_switch("all_runs", False)
        for run in runs if everything else runs[:MOST_SHOWN]:
            with st.container(border=True):
                _draw_row(run)
        if len(runs) > MOST_SHOWN:
            switch(f"Show all {len(runs)} unfinished runs", "all_runs")


def _draw_row(run: ObservedRun) -> None:
    state, doing, problem = run
    name = state.name
    left, right = st.columns([5, 3], vertical_alignment="center")
    line, meter = _describe(state, doing)
    with left:
        st.html(line)
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        if doing in (run_jobs.RUNNING, run_jobs.WAITING) and run_jobs.is_mine(state.path):
            cancel = partial(run_jobs.get_runner().cancel, state.path)
            st.button("Cancel", key=f"cancel {name}", icon=":material/stop:", on_click=cancel)
        if doing in (run_jobs.STOPPED, run_jobs.DAMAGED) and st.button(
            "Resume", key=f"resume {name}", icon=":material/play_arrow:"
        ):
            with report_errors():
                run_jobs.resume(allowed_roots.get_run_path(name))
                st.rerun()
        if doing == run_jobs.FAILED and st.button("Dismiss", key=f"dismiss {name}"):
            run_jobs.get_runner().forget(state.path)
            st.rerun()
        if state.done and st.button(
            "Results",
            key=f"open {name}",
            on_click=open_results,
            args=(name,),
            icon=":material/bar_chart:",
        ):
            st.rerun()
    # Below line and buttons, as wide as the frame: a finished run's ends where that ends.
    st.html(meter)
    if problem:
        st.error(as_sentence(problem))


def open_results(name: str) -> None:
    """Open a run's results."""
    get_visitor().opened = True
    # The form is out of the way: what was asked for stands below it.
    address.write({"run": [name], "start": None}, OF_RUN)


def pop_opened() -> bool:
    """Return whether the results of a run were asked for by its button just now."""
    visitor = get_visitor()
    opened, visitor.opened = visitor.opened, False
    return opened


def _describe_work(state: RunState, progress: RunProgress | None) -> str:
    """Describe what is being done, in the words of the page."""
    if progress is None or not progress.measuring:
        return run_jobs.get_runner().started[state.path].note or "measuring images"
    what, of, key = progress.measuring.rpartition(" of ")
    if progress.measuring in STEPS:
        return STEPS[progress.measuring]
    words = f"{title_metric(what)} of {title_method(key)}" if of else title_method(key)
    return f"{words} {progress.share:.0%}" if progress.share else words


def _describe(state: RunState, doing: str) -> tuple[str, str]:
    """Describe one run as HTML: name, state and how fast it goes; and its bar."""
    done, total, speed, left = state.done, state.total, state.images_per_second, state.seconds_left
    share = done / total if total else 0
    mine = run_jobs.is_mine(state.path)
    progress = run_jobs.get_runner().progress.get(state.path)
    parts = []
    if doing == run_jobs.RUNNING and progress is not None and mine:
        done, total = progress.done, progress.total
        speed, left = progress.images_per_second, progress.seconds_left
        share = progress.fraction
        missing = progress.failed + progress.skipped
        passes = f"{progress.passes:,} of about {progress.total_passes:,} passes"
        parts = [passes] if progress.total_passes else []
        parts += [f"{missing:,} failed or skipped"] if missing else []
    if total:
        parts.insert(0, f"{done:,} of {total:,} images")
    if doing == run_jobs.RUNNING:
        parts += [f"{speed:.2g} images/s"] if speed else []
        parts += [f"{duration(left)} left"] if left is not None else []
        parts.append(_describe_work(state, progress) if mine else f"written by {state.holder}")
    facts = span("", escape(" · ".join(parts)))
    line = div("run", bold("", escape(state.name)), span("", WORDS[doing]), facts)
    colour = OTHERS if doing == run_jobs.FINISHED else HIGHLIGHT
    return line, draw_meter(share, colour, "thin")
