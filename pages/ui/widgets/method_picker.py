"""Choose methods and their parameters in the sidebar."""

from typing import Any

import cam
from cam.pages.ui.state.choices import MethodChoice
from cam.pages.ui.state.selection import DEFAULT_METHODS, Selection
from cam.pages.ui.widgets.links import choose_several
from cam.pages.ui.widgets.parameter_widgets import choose_parameters

FAMILIES = {
    "cam": "class activation",
    "gradient": "gradient",
    "attention": "attention",
    "perturbation": "perturbation",
}
# What people look for first; the others follow in the order of the registry.
FIRST = ("layercam", "gradcam_plus_plus", "hirescam", "input_x_gradient")


def list_quick() -> dict[str, str]:
    """List the methods that share one pass and have an answer at once: name → title."""
    infos = cam.methods()
    return {
        name: infos[name].title
        for name in dict.fromkeys([*DEFAULT_METHODS, *FIRST, *infos])
        if not infos[name].passes and not infos[name].attention
    }


def choose_methods(selection: Selection) -> list[MethodChoice]:
    """Choose methods with their parameters, the quick ones first."""
    infos, quick = cam.methods(), list_quick()
    others = sorted(infos.keys() - quick, key=lambda name: (infos[name].family, name))
    slow = {name: f"{infos[name].title} ({FAMILIES[infos[name].family]})" for name in others}
    about = (
        "These share one forward and one backward pass: all of them together cost little "
        "more than one."
    )
    more: dict[str, Any] = {"default": DEFAULT_METHODS, "name": "methods"}
    names = choose_several(
        "Methods", quick, "quick", "method", pills=True, others=slow, help=about, **more
    )
    about = (
        "These send the image through the network again and again, or read a transformer's "
        "attention. They run in the background, with progress."
    )
    # A name that is neither here nor there was spoken of above.
    linked = selection.methods or DEFAULT_METHODS
    more |= {"others": quick, "linked": linked, "placeholder": "Type to search"}
    names += choose_several("More methods", slow, "slow", "method", help=about, **more)
    return [MethodChoice(name, choose_parameters(infos[name])) for name in names]
