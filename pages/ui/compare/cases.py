"""Choose the cases to compare: model, method, class and layer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import streamlit as st

import cam
from cam._models.load import BUNDLED
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import OwnWeights, Picture, Weights
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls

MODES = ["Methods", "Layers", "Classes", "Two models"]
DEFAULT_METHODS = ["gradcam", "layercam", "saliency", "input_x_gradient"]
# More are neither seen at once nor computed while somebody waits.
MOST = 8
TOP_CLASSES = 4
DEPTHS = 5


@dataclass(frozen=True)
class Case:
    """One of what is compared.

    Attributes:
        title: What tells it from the others.
        model: The model's name.
        trained: Whether it has its published weights.
        method: The method's name.
        target: The class.
        layer: Where a CAM method looks; None: the model's preset.
    """

    title: str
    model: str
    trained: Weights
    method: str
    target: int
    layer: str | None


def choose_cases(mode: str, subject: Subject) -> list[Case]:
    """The cases of a mode, chosen in the sidebar; none, and a sentence, where they do not do."""
    with st.sidebar:
        return _CHOOSERS[mode](subject)


def _methods(subject: Subject) -> list[Case]:
    methods = _several_methods(DEFAULT_METHODS)
    target = _one_target(subject)
    layer = subject_form.choose_layer(subject.model)
    known = cam.methods()
    return [
        Case(known[name].title, subject.name, subject.trained, name, target, layer)
        for name in methods
    ]


def _layers(subject: Subject) -> list[Case]:
    method = _one_method(with_layers=True)
    # As they stand in the address too.
    titles = {
        layer.name: f"{layer.name} ({layer.shape[1]} × {layer.shape[2]})"
        for layer in subject.model.feature_layers
    }
    controls.check_link("layers", "layer", titles.values())
    layers = st.multiselect(
        "Layers",
        list(titles),
        placeholder="Some, through the depth",
        max_selections=MOST,
        format_func=titles.__getitem__,
        key="layers",
        bind="query-params",
        help="In the order in which they run.",
    )
    target = _one_target(subject)
    return [
        Case(titles[name], subject.name, subject.trained, method, target, name)
        for name in sorted(layers or through_the_depth(subject.model), key=list(titles).index)
    ]


def through_the_depth(model: cam.Model) -> list[str]:
    """A few layers from the first to the last: the last of each resolution, or evenly spaced."""
    layers = {layer.name: layer for layer in model.feature_layers}
    order = list(layers)
    ends: dict[tuple[int, ...], str] = {}
    for name, layer in layers.items():
        parts = name.split(".")
        around = (layers.get(".".join(parts[:end])) for end in range(1, len(parts)))
        # Within a block that ends at another resolution it is a step on the way; what only holds
        # blocks, one behind the other, is no such block.
        blocks = [one for one in around if one is not None and one.kind != "Sequential"]
        if all(block.shape[1:] == layer.shape[1:] for block in blocks):
            ends[layer.shape[1:]] = name
    found = sorted(ends.values(), key=order.index)
    if len(found) < 3:
        count = min(DEPTHS, len(order))
        found = [order[round(step * (len(order) - 1) / max(count - 1, 1))] for step in range(count)]
    return list(dict.fromkeys(found[-DEPTHS:]))


def _classes(subject: Subject) -> list[Case]:
    method = _one_method()
    labels = controls.class_options(subject.model.labels, len(subject.order))
    controls.check_link("classes", "class", labels)
    chosen = st.multiselect(
        "Classes",
        [labels[index] for index in subject.order],
        placeholder=f"The {TOP_CLASSES} most probable classes",
        max_selections=MOST,
        key="classes",
        bind="query-params",
        help="The most probable ones come first; type to search all of them.",
    )
    layer = subject_form.choose_layer(subject.model)
    indices = [labels.index(label) for label in chosen] or subject.order[:TOP_CLASSES]
    return [
        Case(
            f"{labels[index]} ({subject.chances[index]:.1%})",
            subject.name,
            subject.trained,
            method,
            index,
            layer,
        )
        for index in indices
    ]


def _two_models(subject: Subject) -> list[Case]:
    names = resources.model_names()
    controls.check_link("second", "model", names)
    second = st.selectbox(
        "Second model",
        names,
        index=None,
        placeholder="Choose a second model",
        key="second",
        bind="query-params",
        help="It downloads its weights once, unless it is the bundled one.",
    )
    trained = second == BUNDLED or not st.checkbox(
        "Random weights of the second", key="second_untrained", bind="query-params"
    )
    methods = _several_methods(["gradcam", "saliency"])
    target = _one_target(subject)
    if second is None:
        st.info("Choose a second model, to see both side by side.")
        return []
    if (second, trained) == (subject.name, subject.trained):
        st.info("Both are the same model: choose another one, or other weights.")
        return []
    other = subject_form.look(subject.picture, second, trained)
    if other is None:
        return []
    try:
        same = matching_class(subject.model, other, target)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return []
    known = cam.methods()
    models = [(subject, target), (other, same)]
    return [
        Case(f"{known[name].title}, {called(one)}", one.name, one.trained, name, index, None)
        for name in methods
        for one, index in models
    ]


def called(subject: Subject) -> str:
    """A model's name, and whose its weights are where they are not the published ones."""
    trained = subject.trained
    if trained is True:
        return subject.name
    if isinstance(trained, bool):
        return f"{subject.name} (random weights)"
    own = trained.name if isinstance(trained, OwnWeights) else PurePath(trained).name
    return f"{subject.name} ({own})"


def matching_class(model: cam.Model, other: Subject, target: int) -> int:
    """The class of another model that has the same label.

    Raises:
        TargetError: It has none.
    """
    if model.labels is not None and other.model.labels is not None:
        return other.model.class_index(model.label(target))
    if target < len(other.order):
        return target
    raise cam.TargetError(
        f"{other.name} has {len(other.order)} classes and no labels, so there is no match for "
        f"{model.label(target)!r}"
    )


def _one_target(subject: Subject) -> int:
    target = subject_form.choose_target(subject.model, subject.order)
    return subject.order[0] if target is None else target


def _one_method(with_layers: bool = False) -> str:
    known = {name: info for name, info in cam.methods().items() if not with_layers or info.layer}
    controls.check_link("method", "method", [info.title for info in known.values()])
    chosen: str = st.selectbox(
        "Method",
        list(known),
        index=list(known).index("gradcam"),
        format_func=lambda name: known[name].title,
        key="method",
        bind="query-params",
    )
    return chosen


def _several_methods(default: list[str]) -> list[str]:
    known = cam.methods()
    controls.check_link("compared", "method", [info.title for info in known.values()])
    chosen: list[str] = st.multiselect(
        "Methods",
        list(known),
        default=default,
        max_selections=MOST,
        format_func=lambda name: known[name].title,
        key="compared",
        bind="query-params",
        help="Those with passes of their own take longer, and can be cancelled.",
    )
    return chosen


_CHOOSERS: dict[str, Callable[[Subject], list[Case]]] = {
    "Methods": _methods,
    "Layers": _layers,
    "Classes": _classes,
    "Two models": _two_models,
}


def as_python(cases: list[Case], picture: Picture, call: str) -> str:
    """The library calls behind the page, ready to run: the maps, and then what is measured."""
    models = list(dict.fromkeys((case.model, case.trained) for case in cases))
    lines = [
        controls.model_and_photo(*models[0], picture, *models[1:]),
        "cases = {  # model, method, class, layer\n",
    ]
    for case in cases:
        model = "other" if models.index((case.model, case.trained)) else "model"
        lines.append(
            f"    {case.title!r}: ({model}, {case.method!r}, {case.target}, {case.layer!r}),\n"
        )
    lines.append(
        "}\n"
        "found = {}\n"
        "for title, (model, method, target, layer) in cases.items():\n"
        "    batch = model.prepare(photo)\n"
        "    found[title] = cam.attribute(model, batch, method, target, layer)[method]\n"
    )
    return "".join(lines) + call
