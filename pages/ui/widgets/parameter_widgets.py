"""Draw a widget for each parameter of a method or metric."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import cam
from cam._formatting import value_of
from cam._metrics.base.metric_registry import MetricInfo
from cam.pages.ui.state import address
from cam.pages.ui.widgets import links
from cam.pages.ui.widgets.links import choose_number
from cam.pages.ui.widgets.prose import write_small
from cam.parameters import Rule

Parameters = tuple[tuple[str, Any], ...]
"""Names and values, of those that are not the defaults."""
Info = cam.MethodInfo | MetricInfo
Widget = Callable[[str, Any, str], Any]
"""From label, default and key to a value."""
MOST_VARIANTS = 4


def choose_parameters(info: Info) -> Parameters:
    """Choose the parameters of one method or metric, in a box that is closed at first."""
    widgets = _select_widgets(info)
    if not widgets:
        return ()
    with _open_box(info):
        return _choose_variant(info, widgets, info.name)


def choose_variants(info: Info) -> list[Parameters]:
    """Choose one or several variants of a method or metric, each with its parameters."""
    widgets = _select_widgets(info)
    if not widgets:
        return [()]
    with _open_box(info):
        key = f"{info.name}.variants"
        about = "The same one several times in a run, each with its own parameters."
        count = choose_number("Variants", 1, MOST_VARIANTS, key, help=about)
        variants: list[Parameters] = []
        for number in range(1, count + 1):
            if count > 1:
                st.markdown(f"**Variant {number}**")
            prefix = info.name if number == 1 else f"{info.name}.{number}"
            variant = _choose_variant(info, widgets, prefix)
            if variant in variants:
                write_small(
                    "It is the same as one above, so it is left out until something differs."
                )
            else:
                variants.append(variant)
    return variants


def name_variant(name: str, parameters: Mapping[str, Any]) -> str:
    """Name one variant among others, as a run's results do."""
    values = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    return f"{name} ({values})" if values else name


def _open_box(info: Info) -> DeltaGenerator:
    box = st.expander(f"{info.title}: parameters", icon=":material/tune:")
    with box:
        cost = f"{info.cost[0].upper()}{info.cost[1:]}. " if info.cost != "none" else ""
        write_small(f"{cost}{info.citation}")
    return box


def _choose_variant(info: Info, widgets: Mapping[str, Widget], prefix: str) -> Parameters:
    values = {
        name: draw(name.replace("_", " "), info.parameters[name], f"{prefix}.{name}")
        for name, draw in widgets.items()
    }
    return tuple((name, value) for name, value in values.items() if value != info.parameters[name])


def _select_widgets(info: Info) -> dict[str, Widget]:
    """Select how each parameter is asked for; one that only a tensor can be is not."""
    widgets = {
        name: _select_widget(info.rules[name], default) for name, default in info.parameters.items()
    }
    return {name: widget for name, widget in widgets.items() if widget is not None}


def _select_widget(rule: Rule, default: Any) -> Widget | None:
    if rule.choices:
        return partial(_choose_word, choices=rule.choices)
    if rule.mixed:
        return partial(_choose_text, about=f"It must be {rule.words}.")
    if isinstance(default, bool):
        return lambda label, on, key: links.switch(label, key, on)
    if isinstance(default, int | float):
        return partial(_choose_number, whole=isinstance(default, int))
    if isinstance(default, str | tuple):
        return _choose_text
    if default is None and rule.least is not None:
        return partial(_choose_number, whole=not rule.holds(rule.least + 0.5))
    return None


def _choose_word(label: str, default: str, key: str, choices: tuple[str, ...]) -> str:
    return links.choose(label, choices, key, default=default)


def _choose_number(
    label: str, default: int | float | None, key: str, whole: bool
) -> int | float | None:
    # With a format: Streamlit would show 0.15 and 1e-05 with two digits.
    style: dict[str, Any] = {"step": 1} if whole else {"format": "%g"}
    style |= {"placeholder": "chosen automatically"} if default is None else {}
    value = links.read_number(key, label, default, whole=whole)

    def form(typed: int | float | None) -> list[str]:
        return links.format_number(typed, default)

    style |= {"value": None} | address.bind(key, value, form, start={"value": value})
    st.number_input(label, **style)
    return value


def _choose_text(label: str, default: Any, key: str, about: str | None = None) -> Any:
    """Choose text, or several numbers with commas between them, as on the command line."""
    several = isinstance(default, tuple)
    text = ", ".join(f"{number:g}" for number in default) if several else str(default)
    value = value_of(links.type_text(label, text, key, help=about).strip())
    return (value,) if several and isinstance(value, int | float) else value
