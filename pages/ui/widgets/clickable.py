"""Show HTML whose buttons say what was picked."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from cam.pages.ui.state.visitor import read_widget
from cam.pages.ui.widgets.view_record import record_html

_SCRIPT = Path(__file__).with_name("clickable.js")


def show_clickable(html: str, key: str, on_pick: Callable[[str], object]) -> None:
    """Show HTML; a button with ``data-pick`` reports that text when it is clicked.

    Args:
        html: Whose texts are escaped already.
        key: Of the component, unique on the page.
        on_pick: Called with the text, before the page is drawn again.
    """

    def take() -> None:
        picked = (read_widget(key) or {}).get("pick")
        if isinstance(picked, str):
            on_pick(picked)

    # In a file nothing answers a click.
    still = html.replace("<button ", "<button disabled ")
    record_html(f'<div class="clickable">{still}</div>', _read_styles())
    _component()(key=key, data={"html": html}, on_pick_change=take)


@cache
def _read_styles() -> str:
    return _SCRIPT.with_suffix(".css").read_text(encoding="utf-8")


@cache
def _component() -> Any:
    styles = _read_styles()
    script = _SCRIPT.read_text(encoding="utf-8")
    return st.components.v2.component("cam.clickable", css=styles, js=script)
