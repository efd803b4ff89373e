"""Show benchmark results that were recorded on other machines."""

import re

import pandas as pd
import streamlit as st

from cam._performance.recorded_benchmarks import Recording, recordings
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

# A bar that belongs to a cell has a backslash before it.
_BETWEEN_CELLS = re.compile(r"(?<!\\)\|")


def recorded() -> str:
    """One box a recording; the Python behind it."""
    found = recordings()
    st.markdown(
        "Measured before, by the commands of `benchmarks/`, on the machine that each names."
    )
    gpus = [one for one in found if one.device and "CPU" not in one.device]
    if not gpus:
        small("No result of a GPU has been recorded yet: `make gpu-check` on one writes it.")
    if not found:
        st.info("There are no recorded results beside this installation.")
    for one in found:
        _draw(one)
    return "from cam._performance.recorded_benchmarks import recordings\n\nprint(recordings())\n"


def _draw(one: Recording) -> None:
    with st.container(border=True, key=f"recording-{one.name}"):
        st.markdown(f"**{one.title}**")
        command = f"`{one.command}`" if one.command else "the file does not say"
        small(
            f"Device: {one.device or 'the file does not say'}  \nMeasured: "
            f"{one.date or 'the file does not say when'}  \nWritten by: {command}, as "
            f"`{one.name}`"
        )
        if one.text:
            box = controls.lazy_box("Look at it", ":material/table:", f"recorded-{one.name}")
            if box:
                with box:
                    for part in re.split(r"((?:^\|.*\n?)+)", one.text, flags=re.MULTILINE):
                        _part(part)


def _part(text: str) -> None:
    """Prose as it is; a table so that it can be sorted, and moved sideways on a phone."""
    if not text.startswith("|"):
        # Its headings stand below the page's own.
        st.markdown(re.sub(r"^#", "####", text, flags=re.MULTILINE))
        return
    heads, _, *rows = (
        [cell.strip().replace("\\|", "|") for cell in _BETWEEN_CELLS.split(line.strip()[1:-1])]
        for line in text.splitlines()
    )
    # Two heads may be alike, or empty: a space more, which nobody sees, tells them apart.
    names = [head + " " * heads[:place].count(head) for place, head in enumerate(heads)]
    st.dataframe(pd.DataFrame(rows, columns=names), hide_index=True, width="stretch")
