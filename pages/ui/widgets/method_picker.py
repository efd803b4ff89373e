"""Choose methods and their parameters in the sidebar."""

import streamlit as st

import cam
from cam.pages.ui.server.resources import Asked
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.parameter_widgets import choose_parameters

FAMILIES = {
    "cam": "class activation",
    "gradient": "gradient",
    "attention": "attention",
    "perturbation": "perturbation",
}
DEFAULT = ["gradcam", "saliency"]


def quick() -> dict[str, cam.MethodInfo]:
    """Those that share one pass and have an answer at once, whatever the network."""
    known = cam.methods()
    return {
        name: known[name]
        for name in dict.fromkeys([*DEFAULT, *known])
        if not known[name].passes and not known[name].attention
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
    return [Asked(name, choose_parameters(known[name])) for name in chosen]
