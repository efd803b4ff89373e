"""Offer everything that Explore shows as files."""

import json
from collections.abc import Mapping

import streamlit as st

import cam
from cam._output.explanation_files import npz_bytes, record, zip_bytes
from cam.pages.ui.server.resources import Asked
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls


def record_bytes(subject: Subject, found: Mapping[Asked, cam.Attribution]) -> bytes:
    """How each map was made, as JSON."""
    photo = subject.picture.photo
    facts = [
        record(subject.model, one, 0, photo.name, photo.notes)
        | {"parameters": dict(asked.parameters)}
        for asked, one in found.items()
    ]
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def offer_all(
    subject: Subject, found: Mapping[Asked, cam.Attribution], pictures: Mapping[str, bytes]
) -> None:
    """One archive: the pictures as shown, the arrays, and the record."""
    stem = controls.stem(subject.picture)

    def archive() -> bytes:
        arrays = {f"{asked.name}.npz": npz_bytes(one, 0) for asked, one in found.items()}
        return zip_bytes({**pictures, **arrays, "record.json": record_bytes(subject, found)})

    st.download_button(
        "All as ZIP",
        archive,
        f"{stem}.zip",
        "application/zip",
        on_click="ignore",
        icon=":material/folder_zip:",
        help="The pictures as they are shown, the arrays behind them, and how they were made.",
    )
