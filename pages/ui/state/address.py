"""Read choices from the address and write them there.

Nothing else does. The address is the state. A widget shows what the address says, and a click on it
writes a new address, as an entry of the browser's history: so a link, Back and Forward bring back
every choice. What is drawn never writes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

import cam
from cam.pages.ui.state.selection import Parameters, Selection

_LATEST, _PAGE, _BOUND = "_address", "_address_page", "_address_widgets"
Format = Callable[[Any], Sequence[str]]
"""Writes a widget's value as the address holds it; nothing for the default."""


def read_selection() -> Selection:
    """Read what the visitor has chosen."""
    return Selection.read(_read(), cam.methods())


def get_values(name: str) -> list[str] | None:
    """Return what the address says of one name; None where it says nothing."""
    return _read().get(name)


def get_value(name: str) -> str | None:
    """Return the last value of one name; None where there is none or it is empty."""
    values = get_values(name) or [""]
    return values[-1] or None


def _read() -> Parameters:
    """Return the latest choices; those of the browser, where the visitor moved there.

    A click that comes before the browser has the address of the click before brings an old one:
    only Back, Forward, a link or another page may overrule what was chosen last.
    """
    current = {name: st.query_params.get_all(name) for name in st.query_params}
    context = get_script_run_ctx()
    page = context.page_script_hash if context else ""
    moved = context is not None and context.is_history_navigation
    latest: Parameters | None = st.session_state.get(_LATEST)
    if st.session_state.get(_PAGE) != page:
        # Of its widgets the browser knows nothing yet: each is set to what it shows.
        for key in st.session_state.pop(_BOUND, ()):
            st.session_state.pop(key, None)
        st.session_state[_PAGE], moved = page, True
    if latest is None or moved:
        st.session_state[_LATEST] = current
        return current
    if latest != current:
        st.query_params.from_dict(latest)
    return latest


def write(changes: Mapping[str, Sequence[str] | None], forget: Iterable[str] = ()) -> None:
    """Write choices to the address, as one entry of the browser's history.

    Args:
        changes: Name → values; None takes the name out of the address.
        forget: Names that go with the change: another model has other layers.
    """
    parameters = dict(_read())
    for name in forget:
        parameters.pop(name, None)
    for name, values in changes.items():
        if values is None or parameters.get(name) != list(values):
            parameters.pop(name, None)
        if values is not None:
            parameters[name] = list(values)
    st.session_state[_LATEST] = parameters
    if parameters != {name: st.query_params.get_all(name) for name in st.query_params}:
        st.query_params.from_dict(parameters)


def redraw_if_changed(selection: Selection, apart: Iterable[str]) -> None:
    """Draw the whole page anew where a fragment runs in its place.

    A click beside a fragment that comes with a click in it runs the fragment alone, in Streamlit's
    browser: the page would go on to show what was chosen before. So does how maps are drawn, which
    comes from a viewer in the fragment: what is copied and downloaded beside it follows.

    Args:
        selection: What the page shows.
        apart: What the fragment itself shows.
    """
    names = set(apart)
    before, after = (
        {name: values for name, values in choices.items() if name not in names}
        # Both as selections write it: an address may name a default too, or another order.
        for choices in (selection.write(), read_selection().write())
    )
    if before != after:
        st.rerun()


def bind(
    key: str,
    value: Any,
    form: Format,
    name: str | None = None,
    forget: Iterable[str] = (),
    then: Callable[[], object] | None = None,
    start: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Let a widget show what the address says, and write there what it is changed to.

    Args:
        key: The widget's.
        value: What the address says, as the widget has it.
        form: Writes the widget's value for the address; nothing for the default.
        name: Its name in the address; by default the key.
        forget: Names that go from the address as this one changes.
        then: Called after a change is written.
        start: The widget's options that make it begin with the value.

    Returns:
        ``key`` and ``on_change`` for the widget, and how it begins.
    """
    # Only where it differs: what is set overrules a click that is on its way.
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key], start = value, None
    st.session_state.setdefault(_BOUND, set()).add(key)

    def take() -> None:
        # A browser that was away may report of a widget that is drawn no more.
        if key not in st.session_state:
            return
        values = list(form(st.session_state[key])) or None
        # A click on what is chosen already changes nothing else either.
        if values != get_values(name or key):
            write({name or key: values}, forget)
        if then is not None:
            then()

    # A click ends the run that draws the page, and the widget that was set in it may not have
    # reached the browser: the next run's does not set it, and it must not begin with another value,
    # which the browser would send back as chosen.
    return {"key": key, "on_change": take, **(start or {})}
