"""Offer everything that Explore shows as files."""

import json
from collections.abc import Mapping
from functools import partial

import streamlit as st

import cam
from cam._output.explanation_files import npz_bytes, record, zip_bytes
from cam.pages.ui.server.resources import MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.controls import offer_file


def write_record(subject: Subject, maps: Mapping[MethodChoice, cam.Attribution]) -> bytes:
    """Write how each map was made, as JSON."""
    photo = subject.picture.photo
    facts = [
        record(subject.model, attribution, 0, photo.name, photo.notes)
        | {"parameters": dict(method.parameters)}
        for method, attribution in maps.items()
    ]
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def offer_record(subject: Subject, maps: Mapping[MethodChoice, cam.Attribution]) -> None:
    """Offer how the maps were made."""
    name = f"{controls.name_file(subject.picture)}.json"
    about = "The record: predictions, target, layer, methods and versions."
    offer_file("JSON", partial(write_record, subject, maps), name, "application/json", help=about)


def offer_all(
    subject: Subject, maps: Mapping[MethodChoice, cam.Attribution], pictures: Mapping[str, bytes]
) -> None:
    """Offer one archive: the pictures as shown, the arrays, and the record."""

    def write_archive() -> bytes:
        arrays = {f"{method.name}.npz": npz_bytes(made, 0) for method, made in maps.items()}
        return zip_bytes({**pictures, **arrays, "record.json": write_record(subject, maps)})

    name = f"{controls.name_file(subject.picture)}.zip"
    about = "The pictures as they are shown, the arrays behind them, and how they were made."
    offer_file("All as ZIP", write_archive, name, "application/zip", "folder_zip", help=about)


def offer_map(subject: Subject, content: bytes, attribution: cam.Attribution) -> None:
    """Offer the picture as it is shown, and the arrays behind it."""
    method = attribution.method
    stem = f"{controls.name_file(subject.picture)}.{method}"
    arrays = partial(npz_bytes, attribution, 0)
    with st.container(horizontal=True):
        about = "The picture as it is shown."
        offer_file("PNG", content, f"{stem}.png", "image/png", key=f"png-{method}", help=about)
        about = "NumPy arrays: the heatmap, and the raw map at the layer's resolution."
        kind = "application/octet-stream"
        offer_file("NPZ", arrays, f"{stem}.npz", kind, key=f"npz-{method}", help=about)
