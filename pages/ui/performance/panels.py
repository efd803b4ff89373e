"""Draw recorded figures of each device, and this machine's beside them."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import streamlit as st

from cam._performance.recorded_speeds import Recording
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.prose import write_heading, write_small

COLUMNS = 2
HERE = "This server"


def show_panels(
    recordings: Sequence[tuple[Recording, Any]],
    draw: Callable[[Any], object],
    measure: Callable[[], object] | None,
) -> None:
    """Show a panel a device, and a last one for this machine.

    Args:
        recordings: Each with the part of it that is shown.
        draw: Draws such a part.
        measure: Draws what was measured here, or the button that starts it; None: no such panel.
    """
    count = len(recordings) + (measure is not None)
    cells = [cell for _ in range(0, count, COLUMNS) for cell in st.columns(COLUMNS)][:count]
    for cell, (recording, part) in zip(cells, recordings, strict=False):
        with cell, st.container(border=True):
            write_heading(f"Recorded: {recording.device}")
            draw(part)
            write_small(describe(recording))
    if measure is not None:
        with cells[-1], st.container(border=True):
            with view_record.pause_record():
                write_heading(HERE)
            with view_record.title_part(HERE):
                measure()


def describe(recording: Recording) -> str:
    """Describe where a recording is from, and how busy the machine was."""
    parts = [recording.model, write_date(recording.date)]
    if recording.load is not None:
        parts.append(describe_load(*recording.load))
    if recording.machine:
        parts.append(recording.machine.removeprefix(f"{recording.device}, "))
    return f"{'; '.join(parts)}. Command: `{recording.command}`."


def describe_load(load: float, cores: int) -> str:
    """Describe how much else a machine had to do, and what follows from that."""
    words = f"load {load:.1f} on {cores} core{'s' * (cores > 1)} when it began"
    return words + (", so other work slowed all of them" if load > cores else "")


def write_date(text: str) -> str:
    """Write an ISO date as people do; another text as it is."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text
    return f"{day.day} {day:%B %Y}"
