"""Choose methods and their parameters in the sidebar."""

import cam
from cam.pages.ui.server.resources import MethodChoice
from cam.pages.ui.widgets.links import choose_pills, choose_several
from cam.pages.ui.widgets.parameter_widgets import choose_parameters

FAMILIES = {
    "cam": "class activation",
    "gradient": "gradient",
    "attention": "attention",
    "perturbation": "perturbation",
}
DEFAULT = ["gradcam", "saliency"]


def choose_methods() -> list[MethodChoice]:
    """Choose methods with their parameters, the quick ones first."""
    infos = cam.methods()
    # Those that share one pass and have an answer at once, whatever the network.
    quick = {
        name: infos[name].title
        for name in dict.fromkeys([*DEFAULT, *infos])
        if not infos[name].passes and not infos[name].attention
    }
    others = sorted(infos.keys() - quick, key=lambda name: (infos[name].family, name))
    slow = {name: f"{infos[name].title} ({FAMILIES[infos[name].family]})" for name in others}
    about = (
        "These share one forward and one backward pass: all of them together cost little "
        "more than one."
    )
    names = choose_pills("Methods", quick, "methods", "method", default=DEFAULT, help=about)
    about = (
        "These send the picture through the network again and again, or read a transformer's "
        "attention. They run in the background, with progress."
    )
    hint = "Type to search"
    names += choose_several("More methods", slow, "more", "method", placeholder=hint, help=about)
    return [MethodChoice(name, choose_parameters(infos[name])) for name in names]
