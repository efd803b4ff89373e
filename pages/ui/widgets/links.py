"""Draw widgets bound to the link, and warn of invalid values."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from cam.errors import nearest

# How long the warning about an invalid link stays visible.
WARNING_SECONDS = 20
_WARNINGS = "_link_warnings"

Options = Iterable[str] | Mapping[str, str]
"""Options, or options with the titles that the page and the link show."""


def choose(
    label: str, options: Options, key: str, what: str = "", *, segments: bool = False, **more: Any
) -> str:
    """Choose one option of a list, or of a row of segments, which has a ``default``.

    Args:
        label: What stands over the widget.
        options: What to choose from, the first of which is the default.
        key: The widget's, and the link's.
        what: What an option is, as a warning about the link calls it; by default the key.
        segments: Whether all options are visible in a row.
        more: Further options of Streamlit's widget.
    """
    if not segments:
        return str(_bind(st.selectbox, label, options, key, what, more))
    more = {"default": next(iter(options)), "required": True} | more
    return str(_bind(st.segmented_control, label, options, key, what, more))


def choose_optional(
    label: str, options: Options, key: str, what: str = "", **more: Any
) -> str | None:
    """Choose one option of a list, or none."""
    option: str | None = _bind(st.selectbox, label, options, key, what, {"index": None} | more)
    return option


def choose_pill(label: str, options: Options, key: str, what: str = "", **more: Any) -> str | None:
    """Choose one of a row of pills; none where the one that is chosen is clicked again."""
    option: str | None = _bind(st.pills, label, options, key, what, more)
    return option


def choose_several(
    label: str, options: Options, key: str, what: str = "", **more: Any
) -> list[str]:
    """Choose any number of options of a list."""
    return list(_bind(st.multiselect, label, options, key, what, more))


def choose_pills(label: str, options: Options, key: str, what: str = "", **more: Any) -> list[str]:
    """Choose any number of a row of pills."""
    return list(_bind(st.pills, label, options, key, what, {"selection_mode": "multi"} | more))


def _bind(
    draw: Callable[..., Any],
    label: str,
    options: Options,
    key: str,
    what: str,
    more: dict[str, Any],
) -> Any:
    """Draw a widget that is bound to the link, after a word on a link that it cannot follow.

    ``more`` may hold ``linked``: what links may ask for, where that is more than the options.
    """
    titles = list(options)
    if isinstance(options, Mapping):
        more = {"format_func": options.__getitem__} | more
        titles = list(options.values())
    check_link(key, what or key, more.pop("linked", titles))
    return draw(label, list(options), key=key, bind="query-params", **more)


def choose_number(
    label: str, low: int, high: int, key: str, value: int | None = None, **more: Any
) -> int:
    """Choose a whole number between two others; by default the lower one."""
    check_number(key, label, low, high)
    start = low if value is None else value
    return int(st.number_input(label, low, high, start, key=key, bind="query-params", **more))


def check_link(key: str, what: str, options: Iterable[str]) -> None:
    """Say what a link asks for in vain; Streamlit would show the default without a word.

    Called before the widget that is bound to ``key``, which then clears the address.
    """
    names = list(options)
    # Read before, it is no link any more: now another model, say, has other layers.
    for name in () if key in st.session_state else st.query_params.get_all(key):
        # Empty where nothing is chosen of several.
        if name and name not in names:
            hint = nearest(name, names)
            message = f"The link asks for the {what} {_as_code(name)}, which is not here; {hint}"
            _remember(key, message if message.endswith("?") else f"{message}.")
    _warn(key)


def check_number(key: str, what: str, low: float = -math.inf, high: float = math.inf) -> None:
    """Say that a link asks for what is no number, or one that is out of range."""
    for text in st.query_params.get_all(key):
        try:
            valid = low <= float(text) <= high
        except ValueError:
            valid = False
        if not valid:
            limits = "" if high == math.inf else f" from {low:,} to {high:,}"
            _remember(
                key, f"The link asks for {_as_code(text)} as {what!r}, which is no number{limits}."
            )
    _warn(key)


def _as_code(text: str) -> str:
    """Write as code: whoever wrote the link puts no marks and no links into the page."""
    return "`" + text[:60].replace("`", "'") + "…" * (len(text) > 60) + "`"


def _remember(key: str, message: str) -> None:
    """Keep a warning: as the address is cleared, the next run would not know of it any more."""
    st.session_state.setdefault(_WARNINGS, {})[_get_path(), key, message] = time.monotonic()


def _warn(key: str) -> None:
    """Warn also in the runs that follow without a click, as when a job is done."""
    warnings = st.session_state.get(_WARNINGS, {})
    for (path, widget, message), since in list(warnings.items()):
        if (path, widget) == (_get_path(), key):
            if time.monotonic() - since < WARNING_SECONDS:
                st.warning(message)
            else:
                del warnings[path, widget, message]


def _get_path() -> str:
    return urlsplit(st.context.url or "").path
