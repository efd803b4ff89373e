"""List the runs with their state, Cancel, Resume and Results."""

from html import escape

import streamlit as st

import cam
from cam._formatting import duration
from cam._runs.engines.run_progress import RunProgress
from cam._runs.results.run_states import RunState
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.datasets.opened_run import method_title, metric_title
from cam.pages.ui.datasets.run_jobs import (
    DAMAGED,
    FAILED,
    FINISHED,
    LIVE,
    RUNNING,
    STOPPED,
    STOPPING,
    WAITING,
)
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.charts import CHOSEN, OTHERS

SHOWN = 6
_ASKED = "_asked_for_results"
POLL_SECONDS = 1.0


def show_runs(found: list[tuple[RunState, str, str | None]]) -> None:
    """All runs; while one is being carried out they are drawn again every second."""
    live = any(doing in LIVE for _, doing, _ in found)
    draw = st.fragment(_draw, run_every=POLL_SECONDS if live else None)
    draw(live)


def _draw(was_live: bool) -> None:
    try:
        found = run_jobs.states()
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    if was_live and not any(doing in LIVE for _, doing, _ in found):
        # The last one ended: the rest of the page has new results, and polling can stop.
        st.rerun()
    everything = len(found) <= SHOWN or st.session_state.get("all_runs", False)
    for state, doing, problem in found if everything else found[:SHOWN]:
        with st.container(border=True):
            _row(state, doing, problem)
    if len(found) > SHOWN:
        st.toggle(f"Show all {len(found)} runs", key="all_runs")


def _row(state: RunState, doing: str, problem: str | None) -> None:
    left, right = st.columns([5, 3], vertical_alignment="center")
    with left:
        st.html(_told(state, doing))
    with right, st.container(horizontal=True, horizontal_alignment="right"):
        name = state.name
        if doing in (RUNNING, WAITING) and run_jobs.mine(state.path):
            st.button(
                "Cancel",
                key=f"cancel {name}",
                icon=":material/stop:",
                on_click=run_jobs.runner().cancel,
                args=(state.path,),
            )
        if doing == STOPPED and st.button(
            "Resume", key=f"resume {name}", icon=":material/play_arrow:"
        ):
            _resume(name)
        if doing == FAILED and st.button("Dismiss", key=f"dismiss {name}"):
            run_jobs.runner().forget(state.path)
            st.rerun()
        if state.done and st.button(
            "Results", key=f"open {name}", on_click=_open, args=(name,), icon=":material/bar_chart:"
        ):
            st.rerun()
    if problem:
        st.error(controls.sentence(problem))


def _open(name: str) -> None:
    st.session_state["run"] = name
    st.session_state[_ASKED] = True
    # Out of the way: what was asked for stands below the form.
    st.session_state["start"] = False


def asked_for() -> bool:
    """Whether the results of a run were asked for by its button just now."""
    return bool(st.session_state.pop(_ASKED, False))


def _resume(name: str) -> None:
    try:
        run_jobs.resume(allowed_roots.run_path(name))
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    st.rerun()


def _now(state: RunState, progress: RunProgress | None) -> str:
    """What is being done, in the words of the page."""
    if progress is None or not progress.measuring:
        return run_jobs.runner().asked[state.path].note or "measuring images"
    what, of, key = progress.measuring.rpartition(" of ")
    told = f"{metric_title(what)} of {method_title(key)}" if of else method_title(key)
    return f"{told} {progress.share:.0%}" if progress.share else told


def _told(state: RunState, doing: str) -> str:
    """One run as HTML: name, state, a bar, and how fast it goes."""
    done, total, speed, left = state.done, state.total, state.images_per_second, state.seconds_left
    progress = run_jobs.runner().progress.get(state.path)
    parts = []
    if doing == RUNNING and progress is not None and run_jobs.mine(state.path):
        done, total = progress.done, progress.total
        speed, left = progress.images_per_second, progress.seconds_left
        missing = progress.failed + progress.skipped
        parts = [f"{missing:,} failed or skipped"] if missing else []
    if total:
        parts.insert(0, f"{done:,} of {total:,} images")
    if doing == RUNNING:
        parts += [f"{speed:.2g} images/s"] if speed else []
        parts += [f"{duration(left)} left"] if left is not None else []
        parts += [_now(state, progress)] if run_jobs.mine(state.path) else []
        parts += [] if run_jobs.mine(state.path) else [f"written by {state.holder}"]
    words = {
        RUNNING: "running",
        WAITING: "waiting for another run on this server",
        STOPPING: "stopping; what is measured just now is still waited for",
        STOPPED: "stopped; it goes on where it was",
        FINISHED: "finished",
        DAMAGED: "damaged",
        FAILED: "not started",
    }
    share = done / total if total else 0
    colour = OTHERS if doing == FINISHED else CHOSEN
    bar = (
        f'<div style="height:.4rem;border-radius:.2rem;background:rgba(128,128,128,.25)">'
        f'<div style="height:100%;border-radius:.2rem;width:{share:.1%};background:{colour}">'
        "</div></div>"
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:.1rem .8rem;align-items:baseline">'
        f'<b style="overflow-wrap:anywhere">{escape(state.name)}</b><span>{words[doing]}</span>'
        f'<span style="font-size:.875rem">{escape(" · ".join(parts))}</span></div>{bar}'
    )
