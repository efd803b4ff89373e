"""Show an image and its maps in the browser's viewer."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, partial
from typing import Any

import streamlit as st

from cam._output.viewer.marks import Pick, read_pick
from cam._output.viewer.payload import ViewerOptions
from cam._output.viewer.region import Region, read_region
from cam._output.viewer.standalone import read_script, read_styles, write_page
from cam.pages.ui.state import address
from cam.pages.ui.state.selection import DISPLAY
from cam.pages.ui.state.visitor import read_widget
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.controls import offer_file
from cam.pages.ui.widgets.view_record import ViewRecord

SAVE = "Save this view as HTML"


def show_viewer(
    payload: Mapping[str, Any],
    key: str,
    on_region: Callable[[], None] | None = None,
    on_pick: Callable[[Pick], None] | None = None,
) -> Region | None:
    """Show an image and its maps; returns what is selected on them.

    What a visitor does in it runs nothing on the server. How the maps are drawn goes into the
    page's address, in the browser; the server hears of it before the next click elsewhere.

    Args:
        payload: Of :func:`cam._output.viewer.payload.pack`.
        key: Of the component, unique on the page.
        on_region: Called when a selection is finished or cleared; None: selections stay in the
            browser, without a run.
        on_pick: Called when a box or a place of the image is clicked; None: a click enlarges.
    """
    view_record.record_viewer(payload)
    reports = {} if on_region is None else {"on_region_change": on_region}
    if on_pick is not None:
        reports["on_pick_change"] = partial(_take_pick, key, payload["digest"], on_pick)
    names = [name.removeprefix("on_").removesuffix("_change") for name in reports]
    data = {**payload, "report": names, "looks": asdict(ViewerOptions())}
    result = _component()(key=key, data=data, on_looks_change=partial(_take_looks, key), **reports)
    return read_region(result.get("region"), payload)


def offer_view(payload: Mapping[str, Any], title: str) -> None:
    """Offer the viewer with its maps as one page that opens without a network."""
    about = "One file that opens without a network: the image, its maps, and this viewer."
    name, write = f"{payload['stem']}.html", partial(write_page, payload, title)
    offer_file(SAVE, write, name, "text/html", "html", help=about)


def offer_record(record: ViewRecord, title: str, stem: str) -> None:
    """Offer what a page drew as one file that opens without a network.

    Args:
        record: Of the page's parts that are drawn by then.
        title: What the file is called by its reader.
        stem: Its name without the ending.
    """
    about = "One file below 1 MB that opens without a network: what this page shows now."
    write = partial(record.write, title)
    name = re.sub(r"[^\w.]+", "-", stem).strip("-")
    offer_file(SAVE, write, f"{name}.html", "text/html", "html", help=about, key="save_view")


def _take_pick(key: str, digest: str, then: Callable[[Pick], None]) -> None:
    pick = read_pick((read_widget(key) or {}).get("pick"), digest)
    if pick is not None:
        then(pick)


def _take_looks(key: str) -> None:
    """Take how the maps are drawn into the address, where the browser has it already."""
    looks = (read_widget(key) or {}).get("looks")
    if isinstance(looks, Mapping):
        texts = {name: looks.get(name) for name in DISPLAY}
        address.write({name: text and [str(text)] for name, text in texts.items()})


@cache
def _component() -> Any:
    return st.components.v2.component("cam.image_viewer", css=read_styles(), js=read_script())
