"""Draw a widget for each parameter of a method or metric."""

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

import streamlit as st

import cam
from cam._formatting import value_of
from cam._metrics.base.metric_registry import MetricInfo
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

Parameters = tuple[tuple[str, Any], ...]
"""Names and values, of those that are not the defaults."""
Info = cam.MethodInfo | MetricInfo
MOST_VARIANTS = 4


def choose_parameters(info: Info) -> Parameters:
    """The parameters of one method or metric, in a box that is closed at first."""
    drawn = _drawn(info)
    if not drawn:
        return ()
    with _box(info):
        return _variant(info, drawn, info.name)


def choose_variants(info: Info) -> list[Parameters]:
    """One or several variants of a method or metric, each with parameters of its own."""
    drawn = _drawn(info)
    if not drawn:
        return [()]
    with _box(info):
        count = st.number_input(
            "Variants",
            1,
            MOST_VARIANTS,
            1,
            key=f"{info.name}.variants",
            bind="query-params",
            help="The same one several times in a run, each with parameters of its own.",
        )
        found: list[Parameters] = []
        for number in range(1, count + 1):
            if count > 1:
                st.markdown(f"**Variant {number}**")
            own = info.name if number == 1 else f"{info.name}.{number}"
            variant = _variant(info, drawn, own)
            if variant in found:
                small("It is the same as one above, so it is left out until something differs.")
            else:
                found.append(variant)
    return found


def told(name: str, parameters: Parameters) -> str:
    """What tells one variant from another, as a run's results name it."""
    listed = ", ".join(f"{key}={value!r}" for key, value in parameters)
    return f"{name} ({listed})" if listed else name


def _box(info: Info) -> Any:
    box = st.expander(f"{info.title}: parameters", icon=":material/tune:")
    with box:
        cost = f"{info.cost[0].upper()}{info.cost[1:]}. " if info.cost != "none" else ""
        small(f"{cost}{info.citation}")
    return box


def _variant(info: Info, drawn: Mapping[str, Callable[..., Any]], own: str) -> Parameters:
    values = {
        name: draw(name.replace("_", " "), info.parameters[name], f"{own}.{name}")
        for name, draw in drawn.items()
    }
    return tuple((name, value) for name, value in values.items() if value != info.parameters[name])


def _drawn(info: Info) -> dict[str, Callable[..., Any]]:
    """How each parameter is asked for; one that only a tensor can be is not."""
    hints = get_type_hints(info.function)
    found = {
        name: _asked_as(info, name, default, hints.get(name))
        for name, default in info.parameters.items()
    }
    return {name: draw for name, draw in found.items() if draw is not None}


def _asked_as(info: Info, name: str, default: Any, hint: Any) -> Callable[..., Any] | None:
    rule = info.rules[name]
    if rule.choices:
        return lambda label, usual, key: _choice(label, usual, key, rule.choices)
    if rule.mixed:
        return lambda label, usual, key: _text(label, usual, key, f"It must be {rule.words}.")
    if isinstance(default, bool):
        return _switch
    if isinstance(default, int | float):
        return _number
    if isinstance(default, str | tuple):
        return _text
    types = set(get_args(hint)) - {NoneType}
    if default is None and types and types <= {int, float}:
        return _whole_or_none if types == {int} else _number
    return None


def _switch(label: str, usual: bool, key: str) -> bool:
    return st.toggle(label, usual, key=key, bind="query-params")


def _choice(label: str, usual: str, key: str, choices: tuple[str, ...]) -> str:
    chosen: str = st.selectbox(
        label, choices, index=choices.index(usual), key=key, bind="query-params"
    )
    return chosen


def _number(label: str, usual: int | float | None, key: str) -> int | float | None:
    # A format of its own: Streamlit would show 0.15 and 1e-05 with two digits.
    style: dict[str, Any] = {"step": 1} if isinstance(usual, int) else {"format": "%g"}
    style |= {"placeholder": "chosen by itself"} if usual is None else {}
    controls.check_number(key, label)
    value: int | float | None = st.number_input(
        label, value=usual, key=key, bind="query-params", **style
    )
    return usual if value is None else value


def _whole_or_none(label: str, usual: None, key: str) -> int | None:
    controls.check_number(key, label)
    value: int | None = st.number_input(
        label, value=usual, step=1, key=key, bind="query-params", placeholder="chosen by itself"
    )
    return value


def _text(label: str, usual: Any, key: str, about: str | None = None) -> Any:
    """Text, or several numbers with commas between them, as the command line reads them."""
    several = isinstance(usual, tuple)
    shown = ", ".join(f"{one:g}" for one in usual) if several else str(usual)
    typed = st.text_input(label, shown, key=key, bind="query-params", help=about)
    value = value_of(typed.strip())
    return (value,) if several and isinstance(value, int | float) else value
