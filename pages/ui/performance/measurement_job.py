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
def measurement_jobs() -> jobs.Jobs:
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
    job = measurement_jobs().find(key)
    if key in requests or (job is not None and not job.cancelled):
        with report_errors():
            measured = jobs.wait_for(key, what, work, measurement_jobs(), draw)
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
    measurement_jobs().forget(key)
    st.session_state["_measurements"].add(key)


def measure_speed(
    subject: Subject,
    key: tuple[Hashable, ...],
    run: Callable[..., Any],
    draw: jobs.Draw,
    rounds: int,
    about: str = "",
    size: int = 1,
    more: jobs.Draw | None = None,
) -> None:
    """Measure how fast the picture, repeated, is explained.

    Args:
        subject: The picture and its model.
        key: What determines the measurement beside them.
        run: Called with model, batch, ``rounds`` and ``report``, as those of ``speed``.
        draw: Draws the result, also while the work goes on.
        rounds: How often each contender has its turn.
        about: What was measured, behind the rounds and the model's name.
        size: How often the picture is in the batch.
        more: Draws what is only worth drawing once it is done.
    """
    name = f"Medians of {rounds} interleaved rounds; {subject.choice.name}"

    def work(tell: jobs.Tell) -> tuple[Any, str]:
        start, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", _describe_load()
        picture = subject.model.prepare(subject.picture.photo)
        batch = picture.expand(size, -1, -1, -1).contiguous()
        result = run(
            subject.model,
            batch,
            rounds=rounds,
            report=lambda share, partial, at: tell(share, at, partial),
        )
        return result, f"{name}{about}; {machine()}. Measured here, {start}.{load}"

    measure((subject.choice, subject.picture.digest, *key), "Measuring", work, draw, more=more)


def _describe_load() -> str:
    """Describe how much else the machine has to do, and what follows from that."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    words = f" Load when it began: {load:.1f} on {cores} core{'s' * (cores > 1)}"
    return words + (", so other work slowed all of them." if load > cores else ".")


def write_speed(subject: Subject, size: int, call: str) -> str:
    """Write the Python of a measurement of the picture, repeated."""
    imports = "import cam\nfrom cam._performance import speed\n"
    loading = write_loading(subject.choice, subject.picture, imports=imports)
    return f"{loading}batch = model.prepare([photo] * {size})\n{call}"
