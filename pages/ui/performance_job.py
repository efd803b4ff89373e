"""Measurements on request: one at a time on this server, never because a page was opened."""

import os
from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st

import cam
from cam import speed
from cam.timing import machine
from pages.ui import controls, jobs
from pages.ui.steps import small


@st.cache_resource(show_spinner=False)
def measuring() -> jobs.Jobs:
    """One at a time: two would slow each other."""
    return jobs.Jobs(workers=1, kept=16)


def measure(
    key: Hashable, what: str, work: jobs.Work, draw: jobs.Draw, label: str = "Measure"
) -> Any:
    """Show what was measured, or a button that starts it; None while there is no result.

    The work's result is drawn by ``draw``, as its partial results are.
    """
    asked: set[Hashable] = st.session_state.setdefault("_measurements", set())
    job = measuring().find(key)
    if key not in asked and (job is None or job.cancelled):
        st.button(
            label,
            type="primary",
            icon=":material/speed:",
            on_click=asked.add,
            args=(key,),
            key=f"measure-{key}",
        )
        return None
    try:
        found = jobs.result(key, what, work, measuring(), draw)
    except cam.CamError as error:
        asked.discard(key)
        st.error(controls.sentence(error))
        return None
    if found is None:
        return None
    asked.discard(key)
    result, where = found
    draw(result)
    small(where)
    st.button(
        f"{label} again",
        on_click=_again,
        args=(key,),
        key=f"again-{key}",
        icon=":material/refresh:",
    )
    return result


def _again(key: Hashable) -> None:
    measuring().forget(key)
    st.session_state["_measurements"].add(key)


def timed(work: Callable[[speed.Report], Any], about: str) -> jobs.Work:
    """A job of a measuring function, which returns its result and what it stands on."""

    def run(tell: jobs.Tell) -> tuple[Any, str]:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        found = work(lambda share, partial, at: tell(share, at, partial))
        busy = "" if load is None else f" Load of the machine when it began: {load:.1f}."
        return found, f"{about} {machine()}.{busy}"

    return run
