"""Draw widgets that show and change what the address says."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from cam.errors import nearest
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record

# A browser's numbers are doubles, which hold no larger whole number.
LARGEST = 2**53 - 1
Options = Iterable[str] | Mapping[str, str]
"""Options as the address has them, or with the titles that the page shows."""


def choose(
    label: str,
    options: Options,
    key: str,
    what: str = "",
    *,
    default: str | None = None,
    segments: bool = False,
    forget: Iterable[str] = (),
    then: Callable[[], object] | None = None,
    former: Mapping[str, str] | None = None,
    **more: Any,
) -> str:
    """Choose one option of a list, or of a row of segments.

    Args:
        label: What stands over the widget.
        options: What to choose from.
        key: The widget's name, and that in the address.
        what: What an option is, as a warning calls it; by default the key.
        default: Chosen where the address says nothing; by default the first option.
        segments: Whether all options are visible in a row.
        forget: Names that go from the address with a change.
        then: Called after a change.
        former: What options were called before, and are in older links → what they are called now.
        more: Further options of Streamlit's widget.
    """
    names, more = _list(options, more)
    default = names[0] if default is None else default
    value = (former or {}).get(address.get_value(key) or "")
    value = value or _read_option(key, names, what) or default

    def form(option: str | None) -> list[str]:
        # A click on the segment that is chosen already, which Streamlit takes back.
        option = value if option is None else option
        return [] if option == default else [option]

    start = {"default": value} if segments else {"index": names.index(value)}
    bound = address.bind(key, value, form, forget=forget, then=then, start=start)
    if segments:
        st.segmented_control(label, names, required=True, **bound, **more)
    else:
        st.selectbox(label, names, **bound, **more)
    if more.get("label_visibility") != "collapsed":
        view_record.note_choice(label, more.get("format_func", str)(value))
    return value


def choose_optional(
    label: str,
    options: Options,
    key: str,
    what: str = "",
    *,
    value: str | None = None,
    name: str | None = None,
    forget: Iterable[str] = (),
    form: address.Format | None = None,
    **more: Any,
) -> str | None:
    """Choose one option of a list, or none.

    Args:
        label: What stands over the widget.
        options: What to choose from.
        key: The widget's name.
        what: What an option is, as a warning calls it.
        value: What is chosen, where ``form`` writes it in another form than its name.
        name: Its name in the address; by default the key.
        forget: Names that go from the address with a change.
        form: Writes the option for the address.
        more: Further options of Streamlit's widget.
    """
    names, more = _list(options, more)
    if form is None:
        value = _read_option(key, names, what)
    form = form or (lambda option: [] if option is None else [option])
    start = {} if value is None else {"index": names.index(value)}
    bound = {"index": None} | address.bind(key, value, form, name, forget, start=start)
    st.selectbox(label, names, **bound, **more)
    return value


def choose_several(
    label: str,
    options: Options,
    key: str,
    what: str = "",
    *,
    default: Sequence[str] = (),
    pills: bool = False,
    linked: Iterable[str] | None = None,
    others: Collection[str] = (),
    name: str | None = None,
    **more: Any,
) -> list[str]:
    """Choose any number of options of a list, or of a row of pills.

    Args:
        label: What stands over the widget.
        options: What to choose from.
        key: The widget's name.
        what: What an option is, as a warning calls it; by default the key.
        default: Chosen where the address says nothing.
        pills: Whether all options are visible in rows.
        linked: What addresses may ask for, where that is more than the options.
        others: What else the same name in the address may hold, for another widget.
        name: In the address; by default the key.
        more: Further options of Streamlit's widget.
    """
    names, more = _list(options, more)
    most = more.get("max_selections", len(names))

    def read() -> Sequence[str]:
        texts = address.get_values(name or key)
        return default if texts is None else texts

    allowed = {*names, *others, *(linked or default)}
    for text in read():
        if text and text not in allowed:
            warn(text, what or key, [*names, *others])
    value = [option for option in dict.fromkeys(read()) if option in names]
    if len(value) > most:
        st.warning(f"The link asks for {len(value)} {label.lower()}; here are the first {most}.")
        value = value[:most]

    def form(selected: Sequence[str] | None) -> list[str]:
        # As it is by then: two widgets may change at once.
        beside = [text for text in dict.fromkeys(read()) if text in others]
        everything = [*(selected or ()), *beside]
        # An empty value says that nothing is chosen, which is not the default.
        return [] if everything == list(default) else everything or [""]

    bound = address.bind(key, value, form, name, start={"default": value})
    if pills:
        st.pills(label, names, selection_mode="multi", **bound, **more)
    else:
        st.multiselect(label, names, **bound, **more)
    return value


def choose_number(
    label: str, low: int, high: int, key: str, value: int | None = None, **more: Any
) -> int:
    """Choose a whole number between two others; by default the lower one."""
    start = low if value is None else value
    number = int(read_number(key, label, start, low, high) or 0)
    bound = address.bind(
        key, number, lambda typed: format_number(typed, start), start={"value": number}
    )
    st.number_input(label, low, high, **bound, **more)
    return number


def choose_share(
    label: str, low: float, high: float, default: float, step: float, key: str, **more: Any
) -> float:
    """Choose a number on a slider."""
    number = read_number(key, label, default, low, high)
    assert number is not None
    bound = address.bind(
        key, number, lambda moved: format_number(moved, default), start={"value": number}
    )
    st.slider(label, low, high, step=step, **bound, **more)
    return number


def choose_step(
    label: str, options: Sequence[str], key: str, what: str, default: str, **more: Any
) -> str:
    """Choose one of several steps on a slider."""
    value = _read_option(key, options, what) or default

    def form(option: str) -> list[str]:
        return [] if option == default else [option]

    bound = address.bind(key, value, form, start={"value": value})
    st.select_slider(label, options, **bound, **more)
    return value


def switch(
    label: str, key: str, default: bool = False, forget: Iterable[str] = (), **more: Any
) -> bool:
    """Switch something on or off."""
    return _switch(st.toggle, label, key, default, forget, more)


def check(
    label: str, key: str, default: bool = False, forget: Iterable[str] = (), **more: Any
) -> bool:
    """Tick a box, or not."""
    return _switch(st.checkbox, label, key, default, forget, more)


def _switch(
    draw: Callable[..., bool],
    label: str,
    key: str,
    default: bool,
    forget: Iterable[str],
    more: dict[str, Any],
) -> bool:
    value = read_switch(key, default)
    bound = address.bind(key, value, form_switch(default), forget=forget, start={"value": value})
    draw(label, **bound, **more)
    return value


def read_switch(key: str, default: bool) -> bool:
    """Read whether something is on."""
    text = address.get_value(key)
    return text == "true" if text in ("true", "false") else default


def form_switch(default: bool) -> address.Format:
    """Return what writes whether something is on."""
    return lambda on: [] if bool(on) == default else [str(bool(on)).lower()]


def type_text(label: str, default: str, key: str, **more: Any) -> str:
    """Type a line of text."""
    values = address.get_values(key)
    value = default if values is None else values[-1]

    def form(typed: str) -> list[str]:
        return [] if typed == default else [typed]

    bound = address.bind(key, value, form, start={"value": value})
    st.text_input(label, **bound, **more)
    return value


def type_lines(
    label: str, default: Sequence[str], key: str, forget: Iterable[str] = (), **more: Any
) -> tuple[str, ...]:
    """Type several texts, one a line; none at all are the default."""
    values = tuple(address.get_values(key) or default)
    text = "\n".join(values)

    def form(typed: str) -> list[str]:
        lines = dict.fromkeys(line.strip() for line in typed.splitlines())
        written = [line for line in lines if line]
        return [] if written == list(default) else written

    bound = address.bind(key, text, form, forget=forget, start={"value": text})
    st.text_area(label, **bound, **more)
    return values


def read_number(
    key: str,
    what: str,
    default: float | None,
    low: float = -math.inf,
    high: float = math.inf,
    whole: bool | None = None,
) -> float | None:
    """Read a number of the address; a warning and the default where it is none in range."""
    text = address.get_value(key)
    if text is None:
        return default
    whole = isinstance(default, int) if whole is None else whole
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    if not max(low, -LARGEST) <= number <= min(high, LARGEST):
        limits = "" if math.inf in (-low, high) else f" from {low:,} to {high:,}"
        kind = "whole number" if whole else "number"
        st.warning(f"The link asks for {_as_code(text)} as {what!r}, which is no {kind}{limits}.")
        return default
    return number


def parse_index(text: str) -> int | None:
    """Read the number of an image; None where the text is no number from 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def format_number(number: float | None, default: float | None) -> list[str]:
    """Write a number for the address."""
    if number is None or number == default:
        return []
    return [f"{number}" if isinstance(number, int) else f"{number:.12g}"]


def warn(text: str, what: str, options: Iterable[str]) -> None:
    """Say that the address asks for what is not here, and what is like it."""
    message = f"The link asks for the {what} {_as_code(text)}, which is not here; "
    message += nearest(text, list(options))
    st.warning(message if message.endswith("?") else f"{message}.")


def _list(options: Options, more: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """List the options; their titles are what is shown of them."""
    if isinstance(options, Mapping):
        more = {"format_func": options.__getitem__} | more
    return list(options), more


def _read_option(key: str, options: Sequence[str], what: str) -> str | None:
    """Read an option of the address; a warning and None where it is none of them."""
    text = address.get_value(key)
    if text is None or text in options:
        return text
    warn(text, what or key, options)
    return None


def _as_code(text: str) -> str:
    """Write as code: whoever wrote the link puts no marks and no links into the page."""
    return "`" + text[:60].replace("`", "'") + "…" * (len(text) > 60) + "`"
