"""Rename, note and delete the run that is open."""

from pathlib import Path

import streamlit as st

from cam._runs.storage import run_edits
from cam.pages.ui.datasets import run_jobs
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.server.allowed_roots import EXAMPLE
from cam.pages.ui.state import address
from cam.pages.ui.widgets.prose import report_errors, write_small


def show_edits(name: str) -> None:
    """Offer to note, rename or delete a run; of the example, and of one at work, say why not."""
    with st.popover("Edit", icon=":material/edit:"):
        if name == EXAMPLE:
            write_small("The example comes with the package and cannot be changed.")
            return
        path = allowed_roots.get_run_path(name)
        if run_jobs.is_mine(path):
            write_small("It is being written. Cancel it first, or wait until it is finished.")
            return
        _edit_note(path)
        _edit_name(path)
        _delete(path)


def _edit_note(path: Path) -> None:
    text = st.text_area(
        "Note", run_edits.read_note(path), max_chars=run_edits.MOST, key=f"note {path.name}"
    )
    if st.button("Save the note", key="save_note"):
        with report_errors():
            run_edits.write_note(path, text)
            st.rerun()


def _edit_name(path: Path) -> None:
    typed = st.text_input("New name", path.name, max_chars=80, key=f"rename {path.name}").strip()
    if st.button("Rename", key="rename", disabled=typed in ("", path.name)):
        with report_errors():
            run_edits.rename(path, allowed_roots.get_run_path(typed))
            run_jobs.get_runner().forget(path)
            address.write({"run": [typed]})
            st.rerun()


def _delete(path: Path) -> None:
    sure = st.checkbox("Delete this run and its results for good", key=f"sure {path.name}")
    if st.button("Delete", key="delete", icon=":material/delete:", disabled=not sure):
        with report_errors():
            run_edits.delete(path)
            run_jobs.get_runner().forget(path)
            address.write({"run": None}, ("item", "selected", "cell", "before"))
            st.rerun()
