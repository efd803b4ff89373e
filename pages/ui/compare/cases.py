"""Choose the cases to compare: model, method, class and layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

import cam
from cam._models.families.bundled import BUNDLED, SECOND
from cam._models.load import is_bundled
from cam.pages.ui.server import resources, served
from cam.pages.ui.state.choices import PUBLISHED, RANDOM, ModelChoice, Picture
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.network_depth import sample_depth
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.controls import title_methods
from cam.pages.ui.widgets.links import check, choose, choose_several
from cam.pages.ui.widgets.prose import report_errors
from cam.pages.ui.widgets.python_code import write_loading

DEFAULT_METHODS = ["gradcam", "layercam", "saliency", "input_x_gradient"]
# More are neither seen at once nor computed while somebody waits.
MOST = 8
TOP_CLASSES = 4


@dataclass(frozen=True)
class Case:
    """One of what is compared.

    Attributes:
        title: What tells it from the others.
        model: The model's name and weights.
        method: The method's name.
        target: The class.
        layer: Where a CAM method looks; None: the model's preset.
    """

    title: str
    model: ModelChoice
    method: str
    target: int
    layer: str | None


def choose_cases(mode: str, subject: Subject, selection: Selection) -> list[Case]:
    """Choose the cases of a mode in the sidebar; none, and a sentence, where they do not do."""
    with st.sidebar:
        return MODES[mode](subject, selection)


def _choose_methods(subject: Subject, selection: Selection) -> list[Case]:
    methods = _choose_several_methods(DEFAULT_METHODS)
    target = _choose_target(subject)
    layer = subject_form.choose_layer(subject.model)
    titles = title_methods()
    return [Case(titles[name], subject.choice, name, target, layer) for name in methods]


def _choose_layers(subject: Subject, selection: Selection) -> list[Case]:
    method = _choose_method(with_layers=True)
    # As they stand in the address too.
    titles = {
        layer.name: f"{layer.name} ({layer.shape[1]} × {layer.shape[2]})"
        for layer in subject.model.feature_layers
    }
    more: dict[str, Any] = {
        "placeholder": "Some, through the depth",
        "help": "In the order in which they run.",
    }
    layers = choose_several("Layers", titles, "layers", "layer", max_selections=MOST, **more)
    target = _choose_target(subject)
    return [
        Case(titles[name], subject.choice, method, target, name)
        for name in sorted(layers or sample_depth(subject.model), key=list(titles).index)
    ]


def _choose_classes(subject: Subject, selection: Selection) -> list[Case]:
    method = _choose_method()
    titles = subject.titles
    ordered = [titles[index] for index in subject.order]
    more: dict[str, Any] = {
        "placeholder": f"The {TOP_CLASSES} most probable classes",
        "help": "The most probable ones come first; type to search all of them.",
    }
    classes = choose_several("Classes", ordered, "classes", "class", max_selections=MOST, **more)
    layer = subject_form.choose_layer(subject.model)
    indices = [titles.index(title) for title in classes] or subject.order[:TOP_CLASSES]
    named = {index: f"{titles[index]} ({subject.chances[index]:.1%})" for index in indices}
    return [Case(title, subject.choice, method, index, layer) for index, title in named.items()]


def _choose_two_models(subject: Subject, selection: Selection) -> list[Case]:
    more: dict[str, Any] = {
        "help": "It downloads its weights once, unless it is a bundled one.",
    }
    default = SECOND if subject.choice.name == BUNDLED else BUNDLED
    names = resources.list_models()
    name = choose("Second model", names, "second", "model", default=default, **more)
    random = not (is_bundled(name) or served.has_model(name)) and check(
        "Random weights of the second model", "second_untrained"
    )
    methods = _choose_several_methods(["gradcam", "saliency"])
    target = _choose_target(subject)
    second = ModelChoice(name, RANDOM if random else PUBLISHED, subject.choice.prompts)
    if second == subject.choice:
        st.info("Both are the same model: choose another one, or other weights.")
        return []
    other = subject_form.look(subject.picture, second)
    if other is None:
        return []
    with report_errors():
        match = match_class(subject.model, other, target)
        titles = title_methods()
        return [
            Case(f"{titles[method]}, {choice.title}", choice, method, index, None)
            for method in methods
            for choice, index in ((subject.choice, target), (second, match))
        ]
    return []


def match_class(model: cam.Model, other: Subject, target: int) -> int:
    """Find the class of another model that has the same label.

    Raises:
        TargetError: It has none.
    """
    if model.labels is not None and other.model.labels is not None:
        return other.model.class_index(model.label(target))
    if target < len(other.order):
        return target
    raise cam.TargetError(
        f"{other.choice.name} has {len(other.order)} classes and no labels, so there is no match "
        f"for {model.label(target)!r}"
    )


def _choose_target(subject: Subject) -> int:
    target = subject_form.choose_target(subject)
    return subject.top if target is None else target


def _choose_method(with_layers: bool = False) -> str:
    infos = cam.methods()
    titles = {
        name: title
        for name, title in title_methods().items()
        if not with_layers or infos[name].layer
    }
    return choose("Method", titles, "method", default="gradcam")


def _choose_several_methods(default: list[str]) -> list[str]:
    about = "Those with further passes take longer, and can be cancelled."
    more: dict[str, Any] = {"default": default, "max_selections": MOST, "help": about}
    return choose_several("Methods", title_methods(), "methods", "method", **more)


MODES: dict[str, Callable[[Subject, Selection], list[Case]]] = {
    "Methods": _choose_methods,
    "Layers": _choose_layers,
    "Classes": _choose_classes,
    "Two models": _choose_two_models,
}


def write_cases(cases: list[Case], picture: Picture, call: str) -> str:
    """Write the library calls behind the page: the maps, and then what is measured."""
    models = list(dict.fromkeys(case.model for case in cases))
    lines = [
        write_loading(models[0], picture, models[1] if len(models) > 1 else None),
        "cases = {  # model, method, class, layer\n",
    ]
    for case in cases:
        model = "other" if models.index(case.model) else "model"
        lines.append(
            f"    {case.title!r}: ({model}, {case.method!r}, {case.target}, {case.layer!r}),\n"
        )
    lines.append(
        "}\n"
        "attributions = {}\n"
        "for title, (model, method, target, layer) in cases.items():\n"
        "    batch = model.prepare(photo)\n"
        "    maps = cam.attribute(model, batch, method, target, layer)\n"
        "    attributions[title] = maps[method]\n"
    )
    return "".join(lines) + call
