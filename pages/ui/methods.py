"""Which methods, with which parameters: the quick ones side by side, all others by search."""

from typing import Any

import streamlit as st

import cam
from pages.ui import controls
from pages.ui.resources import Asked

FAMILIES = {
    "cam": "class activation",
    "gradient": "gradient",
    "attention": "attention",
    "perturbation": "perturbation",
}
DEFAULT = ["gradcam", "saliency"]


def quick() -> dict[str, cam.MethodInfo]:
    """Those that share one pass and have an answer at once, whatever the network."""
    return {
        name: info
        for name, info in cam.methods().items()
        if not info.needs.passes and not info.needs.attention
    }


def choose_methods() -> list[Asked]:
    """Methods with their parameters, in the sidebar."""
    known = cam.methods()
    at_once = list(quick())
    others = sorted(set(known) - set(at_once), key=lambda name: (known[name].family, name))
    controls.check_link("methods", "method", [known[name].title for name in at_once])
    chosen: list[str] = st.pills(
        "Methods",
        at_once,
        selection_mode="multi",
        default=DEFAULT,
        format_func=lambda name: known[name].title,
        key="methods",
        bind="query-params",
        help="These share one forward and one backward pass: all of them together cost little "
        "more than one.",
    )
    titles = {name: f"{known[name].title} ({FAMILIES[known[name].family]})" for name in others}
    controls.check_link("more", "method", titles.values())
    chosen += st.multiselect(
        "More methods",
        others,
        format_func=titles.__getitem__,
        key="more",
        bind="query-params",
        placeholder="Type to search",
        help="These send the picture through the network again and again, or read a transformer's "
        "attention. They run in the background, with progress.",
    )
    return [Asked(name, _choose_parameters(known[name])) for name in chosen]


def _choose_parameters(info: cam.MethodInfo) -> tuple[tuple[str, Any], ...]:
    """A widget for each parameter that is a number, a word or a switch; only what was changed."""
    offered = {
        name: default
        for name, default in info.parameters.items()
        if isinstance(default, bool | int | float | str)
    }
    if not offered:
        return ()
    with st.expander(f"{info.title}: parameters", icon=":material/tune:"):
        st.markdown(f":small[{info.cost[0].upper()}{info.cost[1:]}. {info.citation}]")
        values = {name: _widget(info, name, default) for name, default in offered.items()}
    return tuple((name, value) for name, value in values.items() if value != offered[name])


def _widget(info: cam.MethodInfo, name: str, default: bool | int | float | str) -> Any:
    label, key = name.replace("_", " "), f"{info.name}.{name}"
    if isinstance(default, bool):
        return st.toggle(label, default, key=key, bind="query-params")
    if isinstance(default, str):
        return st.text_input(label, default, key=key, bind="query-params").strip()
    # A format of its own: Streamlit would show 0.15 and 1e-05 with two digits.
    style = {"step": 1} if isinstance(default, int) else {"format": "%g"}
    value = st.number_input(label, value=default, key=key, bind="query-params", **style)
    return default if value is None else value
