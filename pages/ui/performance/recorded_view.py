"""Show benchmark results that were recorded on other machines."""

import re

import pandas as pd

from cam._performance.recorded_benchmarks import Recording, recordings
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import draw_lazily
from cam.pages.ui.widgets.prose import write_small

# A bar that belongs to a cell has a backslash before it.
_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")


def show_recorded() -> None:
    """Show one box a recording."""
    recorded = recordings()
    devices = [recording.device for recording in recorded if recording.device]
    if all("CPU" in device for device in devices):
        write_small("No result of a GPU has been recorded yet: `make gpu-check` on one writes it.")
    if not recorded:
        view_record.info("There are no recorded results beside this installation.")
    for recording in recorded:
        about = f"{recording.title} · {recording.date or 'no date'}"
        draw_lazily(about, "table", f"recorded-{recording.name}", _draw, recording)


def _draw(recording: Recording) -> None:
    command = f"`{recording.command}`" if recording.command else "the file does not say"
    write_small(
        f"Device: {recording.device or 'the file does not say'}  \nMeasured: "
        f"{recording.date or 'the file does not say when'}  \nCommand: {command}; file: "
        f"`{recording.name}`"
    )
    _draw_text(recording.text)


def _draw_text(text: str) -> None:
    for part in re.split(r"((?:^\|.*\n?)+)", text, flags=re.MULTILINE):
        _draw_part(part)


def _draw_part(text: str) -> None:
    """Draw prose as it is; a table so that it can be sorted, and moved sideways on a phone."""
    if not text.startswith("|"):
        # Its headings stand below the page's own.
        view_record.markdown(re.sub(r"^#", "####", text, flags=re.MULTILINE))
        return
    heads, _, *rows = (
        [cell.strip().replace("\\|", "|") for cell in _BETWEEN_CELLS.split(line.strip()[1:-1])]
        for line in text.splitlines()
    )
    # Two heads may be alike, or empty: a space more, which nobody sees, tells them apart.
    names = [head + " " * heads[:index].count(head) for index, head in enumerate(heads)]
    view_record.dataframe(pd.DataFrame(rows, columns=names))
