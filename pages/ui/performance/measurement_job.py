"""Run measurements on request, one at a time on this server."""

import os
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from cam._performance.speed import ROUNDS
from cam._performance.timing import machine, read_load
from cam.pages.ui.performance.panels import describe_load
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.visitor import get_visitor
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.prose import report_errors, write_small


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
    requests = get_visitor().measurements
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
    get_visitor().measurements.add(key)


def measure_speed(
    subject: Subject,
    run: Callable[..., Any],
    draw: jobs.Draw,
    label: str,
    what: Hashable,
    size: int = 1,
    more: jobs.Draw | None = None,
) -> None:
    """Measure how fast the image, repeated, is explained.

    Args:
        subject: The image and its model.
        run: Called with model, batch and ``report``, as those of ``speed``.
        draw: Draws the result, also while the work goes on.
        label: Of the button.
        what: What is measured: with image, model and size the measurement's key.
        size: How often the image is in the batch.
        more: Draws what is only worth drawing once it is done.
    """
    about = f"Medians of {ROUNDS} interleaved rounds with 95 % intervals; {subject.choice.name}"
    about += f", batch of {size}" if size > 1 else ""

    def work(tell: jobs.Tell) -> tuple[Any, str]:
        start, load = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", read_load()
        image = subject.model.prepare(subject.picture.photo)
        batch = image.expand(size, -1, -1, -1).contiguous()

        def report(share: float, partial: Any, note: str) -> bool:
            return tell(share, note, partial)

        result = run(subject.model, batch, report=report)
        busy = "" if load is None else f"; {describe_load(load, os.cpu_count() or 1)}"
        return result, f"{about}. {machine()}. Measured here, {start}{busy}."

    key = (subject.choice, subject.picture.digest, size, what)
    measure(key, "Measuring", work, draw, label, more)
