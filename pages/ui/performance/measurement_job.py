"""Run measurements on request, one at a time on this server."""

import os
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from cam._performance.timing import machine
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import share
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.prose import report_errors, write_small
from cam.pages.ui.widgets.python_code import write_loading


@share()
def get_measurement_jobs() -> jobs.Jobs:
    """Return jobs that run one at a time: two would slow each other."""
    return jobs.Jobs(workers=1, capacity=16)


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
        work: As for :func:`jobs.wait_for`; it returns its result, and a line on its conditions.
        draw: Draws the result, and the result so far while the work goes on.
        label: Of the button.
        more: Draws what is only worth drawing once it is done.
    """
    requests: set[Hashable] = st.session_state.setdefault("_measurements", set())
    job = get_measurement_jobs().find(key)
    if key in requests or (job is not None and not job.cancelled):
        with report_errors():
            measured = jobs.wait_for(key, what, work, get_measurement_jobs(), draw)
            if measured is not None:
                requests.discard(key)
                result, conditions = measured
                draw(result)
                if more is not None:
                    more(result)
                write_small(conditions)
                _draw_button(f"{label} again", "refresh", f"again-{key}", key)
            return
        requests.discard(key)
    _draw_button(label, "speed", f"measure-{key}", key, type="primary")


def _draw_button(label: str, icon: str, name: str, key: Hashable, **style: Any) -> None:
    icon = f":material/{icon}:"
    st.button(label, icon=icon, key=name, on_click=_request, args=(key,), **style)


def _request(key: Hashable) -> None:
    """Measure, anew where it was done before."""
    get_measurement_jobs().forget(key)
    st.session_state["_measurements"].add(key)


def measure_speed(
    subject: Subject,
    run: Callable[..., Any],
    draw: jobs.Draw,
    rounds: int,
    code: str,
    size: int | None = None,
    more: jobs.Draw | None = None,
) -> str:
    """Measure how fast the picture, repeated, is explained; returns the Python behind it.

    Args:
        subject: The picture and its model.
        run: Called with model, batch, ``rounds`` and ``report``, as those of ``speed``.
        draw: Draws the result, also while the work goes on.
        rounds: How often each contender has its turn.
        code: The Python that does it to ``model`` and ``batch``: the measurement's key too.
        size: How often the picture is in the batch; None: once, and that is not said.
        more: Draws what is only worth drawing once it is done.
    """
    about = f"Medians of {rounds} interleaved rounds; {subject.choice.name}"
    about += "" if size is None else f", batch of {size}"

    def work(tell: jobs.Tell) -> tuple[Any, str]:
        start, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", _describe_load()
        picture = subject.model.prepare(subject.picture.photo)
        batch = picture.expand(size or 1, -1, -1, -1).contiguous()

        def report(share: float, partial: Any, note: str) -> bool:
            return tell(share, note, partial)

        result = run(subject.model, batch, rounds=rounds, report=report)
        return result, f"{about}; {machine()}. Measured here, {start}.{load}"

    key = (subject.choice, subject.picture.digest, size, code)
    measure(key, "Measuring", work, draw, more=more)
    imports = "import cam\nfrom cam._performance import speed\n"
    loading = write_loading(subject.choice, subject.picture, imports=imports)
    return f"{loading}batch = model.prepare([photo] * {size or 1})\n{code}"


def _describe_load() -> str:
    """Describe how much else the machine has to do, and what follows from that."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    words = f" Load when it began: {load:.1f} on {cores} core{'s' * (cores > 1)}"
    return words + (", so other work slowed all of them." if load > cores else ".")
