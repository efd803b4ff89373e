"""Offer everything that Explore shows as files."""

import json
from collections.abc import Mapping
from functools import partial

import cam
from cam._output.explanation_files import npz_bytes, png_bytes, record, zip_bytes
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.state.choices import MethodChoice, write_reading
from cam.pages.ui.subject.subject_form import LookedAt
from cam.pages.ui.widgets.controls import name_file, offer_file
from cam.pages.ui.widgets.viewer_options import draw_overlay

Maps = Mapping[MethodChoice, cam.Attribution]


def offer_record(subject: LookedAt, maps: Maps) -> None:
    """Offer how the maps were made."""
    about = "The record: predictions, target, layer, methods and versions."
    name, write = f"{name_file(subject.picture)}.json", partial(write_record, subject, maps)
    offer_file("JSON", write, name, "application/json", help=about)


def write_record(subject: LookedAt, maps: Maps) -> bytes:
    """Write how each map was made, as JSON."""
    photo = subject.picture.photo
    facts = [
        record(subject.model, attribution, 0, photo.name, photo.notes)
        # With the part that was cut out and what was changed, which no file's name says.
        | {"parameters": dict(method.parameters), "read_by": write_reading(subject.picture)}
        for method, attribution in maps.items()
    ]
    return json.dumps(facts, indent=2, ensure_ascii=False).encode()


def write_png(subject: LookedAt, attribution: cam.Attribution, options: ViewerOptions) -> bytes:
    """Draw a map over what the model sees, at the resolution of the image itself."""
    crop = subject.model.crop(subject.picture.photo)
    return png_bytes(draw_overlay(options, crop, attribution))


def offer_all(subject: LookedAt, maps: Maps, options: ViewerOptions) -> None:
    """Offer one archive: the images as shown, the arrays, and the record."""

    def write_archive() -> bytes:
        files = {"record.json": write_record(subject, maps)}
        for method, attribution in maps.items():
            files[f"{method.name}.png"] = write_png(subject, attribution, options)
            files[f"{method.name}.npz"] = npz_bytes(attribution, 0)
        return zip_bytes(files)

    about = "The images as they are shown, the arrays behind them, and how they were made."
    name = f"{name_file(subject.picture)}.zip"
    offer_file("All as ZIP", write_archive, name, "application/zip", "folder_zip", help=about)
