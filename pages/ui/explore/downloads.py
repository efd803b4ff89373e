"""Offer everything that Explore shows as files."""

import json
from collections.abc import Mapping

import streamlit as st

import cam
from cam._output.explanation_files import npz_bytes, record, zip_bytes
from cam.pages.ui.server.resources import MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls


def write_record(subject: Subject, maps: Mapping[MethodChoice, cam.Attribution]) -> bytes:
    """Write how each map was made, as JSON."""
    photo = subject.picture.photo
    facts = [
        record(subject.model, attribution, 0, photo.name, photo.notes)
        | {"parameters": dict(method.parameters)}
        for method, attribution in maps.items()
    ]
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def offer_all(
    subject: Subject, maps: Mapping[MethodChoice, cam.Attribution], pictures: Mapping[str, bytes]
) -> None:
    """Offer one archive: the pictures as shown, the arrays, and the record."""

    def archive() -> bytes:
        arrays = {
            f"{method.name}.npz": npz_bytes(attribution, 0) for method, attribution in maps.items()
        }
        return zip_bytes({**pictures, **arrays, "record.json": write_record(subject, maps)})

    controls.offer_file(
        "All as ZIP",
        archive,
        f"{controls.name_file(subject.picture)}.zip",
        "application/zip",
        "folder_zip",
        help="The pictures as they are shown, the arrays behind them, and how they were made.",
    )


def offer_map(subject: Subject, content: bytes, attribution: cam.Attribution) -> None:
    """Offer the picture as it is shown, and the arrays behind it."""
    method = attribution.method
    stem = f"{controls.name_file(subject.picture)}.{method}"
    with st.container(horizontal=True):
        controls.offer_file(
            "PNG",
            content,
            f"{stem}.png",
            "image/png",
            key=f"png-{method}",
            help="The picture as it is shown.",
        )
        controls.offer_file(
            "NPZ",
            lambda: npz_bytes(attribution, 0),
            f"{stem}.npz",
            "application/octet-stream",
            key=f"npz-{method}",
            help="NumPy arrays: the heatmap, and the raw map at the layer's resolution.",
        )
