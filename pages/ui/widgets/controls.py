"""Draw boxes, cells and downloads, and title classes and methods."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import PurePath
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import cam
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Picture
from cam.pages.ui.widgets.links import form_switch, read_switch

SAMPLE_TITLES = {
    "chelsea": "Cat",
    "coffee": "Coffee",
    "rocket": "Rocket",
    "motorcycle_left": "Motorcycle",
}


def name_file(picture: Picture) -> str:
    """Name the files that are downloaded, without an ending."""
    return PurePath(picture.photo.name).stem or "picture"


# Not Streamlit's cache, which would hash a thousand strings at each call.
@lru_cache(maxsize=8)
def title_classes(labels: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    """Title each class by its label, with the index where two classes share it."""
    if labels is None:
        return tuple(f"class {index}" for index in range(classes))
    count = Counter(labels)
    return tuple(
        label if count[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels)
    )


def describe_method(info: cam.MethodInfo) -> str:
    """Describe what a method shows, and where its colours end."""
    if info.percentile == 100:
        return info.description
    return f"{info.description} The colours end at its {info.percentile:g}th percentile."


def title_methods() -> dict[str, str]:
    """Title every method by its name."""
    return {name: info.title for name, info in cam.methods().items()}


def draw_lazily(
    label: str,
    icon: str,
    key: str,
    draw: Callable[..., object],
    *arguments: Any,
    bound: bool = True,
    expanded: bool = False,
) -> None:
    """Draw an expander whose content is made only while it is open.

    Args:
        label: What stands on it.
        icon: Before the label.
        key: The widget's.
        draw: Draws the content.
        arguments: Of ``draw``.
        bound: Whether a link opens it too.
        expanded: Whether it is open at first.
    """
    state: dict[str, Any] = {"expanded": expanded, "key": key, "on_change": "rerun"}
    if bound:
        is_open = read_switch(key, expanded)
        state = {"expanded": is_open} | address.bind(key, is_open, form_switch(expanded))
    box = st.expander(label, icon=f":material/{icon}:", **state)
    if box.open:
        with box:
            draw(*arguments)


def draw_code(code: Callable[[], str]) -> None:
    """Draw the Python behind a page, in a box; it is written once the box is open."""
    show = partial(st.code, language="python", wrap_lines=True)
    draw_lazily("Copy as Python", "code", "code", lambda: show(code()))


def scroll_here() -> None:
    """Bring what follows into view, where a click far below has changed it."""
    st.html(
        '<span class="look-here" style="scroll-margin-top:4rem"></span>'
        '<script>document.querySelector(".look-here").scrollIntoView()</script>',
        unsafe_allow_javascript=True,
    )


def make_cells(count: int, most: int) -> list[DeltaGenerator]:
    """Make cells in as few rows as hold them, and all rows alike."""
    rows = -(-count // most)
    width = -(-count // rows)
    return [column for _ in range(rows) for column in st.columns(width)][:count]


def offer_file(
    label: str,
    content: bytes | Callable[[], bytes | str],
    name: str,
    kind: str,
    icon: str = "download",
    **more: Any,
) -> None:
    """Offer a download, which may be made as it is asked for, and leaves the page as it is."""
    st.download_button(
        label, content, name, kind, on_click="ignore", icon=f":material/{icon}:", **more
    )
