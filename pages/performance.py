"""Measure how fast explanations are on this machine, and why."""

from cam.pages.ui.server import router

router.require()

from collections.abc import Callable

import streamlit as st
import torch

from cam.pages.ui.performance.clip_view import show_clip
from cam.pages.ui.performance.compile_report import show_compile_report
from cam.pages.ui.performance.precision_view import show_precisions
from cam.pages.ui.performance.recorded_view import show_recorded
from cam.pages.ui.performance.speed_view import show_batch_sizes, show_contenders, show_one_pass
from cam.pages.ui.performance.traffic_view import show_traffic
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.links import choose_pill

# Each draws itself and returns the Python behind it.
PARTS: dict[str, Callable[[Subject], str]] = {
    "Speed": show_contenders,
    "Batch size": show_batch_sizes,
    "Methods in one pass": show_one_pass,
    "Precision": show_precisions,
    "Clip": show_clip,
    "Memory traffic": show_traffic,
    "Compiler": show_compile_report,
    "Recorded results": show_recorded,
}


def main() -> None:
    """Draw the part that is chosen; nothing is measured before a button is pressed."""
    st.title("Performance", anchor=False)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    st.markdown(
        "How fast explanations are **on this machine**. Every speed is measured when you ask for "
        "it; what comes from elsewhere says so. "
        + (f"It runs on {where}." if where else "There is no GPU here: this is what the CPU gives.")
    )
    subject = subject_form.choose_subject()
    if subject is None:
        return
    first = next(iter(PARTS))
    part = choose_pill("Part", list(PARTS), "part", default=first, required=True) or first
    st.header(part, anchor=False)
    code = PARTS[part](subject)
    if code:
        controls.draw_code(lambda: code)


main()
