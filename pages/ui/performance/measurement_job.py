"""Run measurements on request, one at a time on this server."""

import os
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

import cam
from cam._performance import speed
from cam._performance.timing import machine
from cam.pages.ui.server import jobs
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small


@st.cache_resource(show_spinner=False)
def measuring() -> jobs.Jobs:
    """One at a time: two would slow each other."""
    return jobs.Jobs(workers=1, kept=16)


def measure(
    key: Hashable,
    what: str,
    work: jobs.Work,
    draw: jobs.Draw,
    label: str = "Measure",
    more: jobs.Draw | None = None,
) -> None:
    """Show what was measured, or a button that starts it.

    Args:
        key: Everything that determines the measurement.
        what: What is being done, as in "Measuring".
        work: As for :func:`jobs.result`; it returns its result, and a line on what it stands on.
        draw: Draws the result, and what is known of it while the work goes on.
        label: Of the button.
        more: Draws what is only worth drawing once it is done.
    """
    asked: set[Hashable] = st.session_state.setdefault("_measurements", set())
    job = measuring().find(key)
    if key not in asked and (job is None or job.cancelled):
        _start(key, label)
        return
    try:
        found = jobs.result(key, what, work, measuring(), draw)
    except cam.CamError as error:
        asked.discard(key)
        st.error(controls.sentence(error))
        _start(key, label)
        return
    if found is None:
        return
    asked.discard(key)
    result, where = found
    draw(result)
    if more is not None:
        more(result)
    small(where)
    st.button(
        f"{label} again",
        on_click=_again,
        args=(key,),
        key=f"again-{key}",
        icon=":material/refresh:",
    )


def _start(key: Hashable, label: str) -> None:
    st.button(
        label,
        type="primary",
        icon=":material/speed:",
        on_click=st.session_state["_measurements"].add,
        args=(key,),
        key=f"measure-{key}",
    )


def _again(key: Hashable) -> None:
    measuring().forget(key)
    st.session_state["_measurements"].add(key)


def timed(work: Callable[[speed.Report], Any], about: str) -> jobs.Work:
    """A job of a measuring function, which returns its result and what it stands on."""

    def run(tell: jobs.Tell) -> tuple[Any, str]:
        begun, busy = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", _busy()
        found = work(lambda share, partial, at: tell(share, at, partial))
        return found, f"{about} {machine()}. Measured here, {begun}.{busy}"

    return run


def _busy() -> str:
    """How much else the machine has to do, and what follows from that."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    told = f" Load when it began: {load:.1f} on {cores} core{'s' * (cores > 1)}"
    return told + (", so other work slowed all of them." if load > cores else ".")
