"""Explore: one picture, one class, one layer, and what each method says of it."""

from pages.ui import router

router.require()

import json
from dataclasses import replace

import numpy as np
import streamlit as st
from PIL.Image import Image

import cam
from cam.files import npz_bytes, png_bytes, record
from pages.ui import charts, choosing, controls, resources
from pages.ui.resources import Choices, Explanation, Picture

TOP = 5
MAPS_A_ROW = 4


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Explore", anchor=False)
    st.caption(
        "See which parts of a picture speak for a class: **Grad-CAM** shows the region, coarse and "
        "steady; the **saliency map** shows single pixels, fine and noisy."
    )
    subject = choosing.choose_subject()
    if subject is None:
        return
    with st.sidebar:
        target = choosing.choose_target(subject.model, subject.order)
        layer = choosing.choose_layer(subject.model)
        methods = choose_methods()
    if not methods:
        st.info("Choose at least one method in the sidebar.")
        return
    choices = Choices(subject.name, subject.trained, tuple(methods), target, layer)
    explanation = explain(choices, subject.picture)
    if explanation is None:
        return
    explained = subject.order[0] if target is None else target
    show_maps(subject.model, choices, subject.picture, explanation, explained)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_predictions(subject.model, subject.chances, subject.order[:TOP], explained)
    with right:
        show_facts(subject.model, subject.picture, explanation)


def explain(choices: Choices, picture: Picture) -> Explanation | None:
    """Explain the picture; where a layer is in the way, with the methods that need none."""
    try:
        return resources.explain(choices, picture.digest, picture)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        known = cam.methods()
        rest = tuple(name for name in choices.methods if not known[name].needs.layer)
        if not isinstance(error, cam.LayerError) or not rest:
            return None
    return explain(replace(choices, methods=rest), picture)


def choose_methods() -> list[str]:
    """One or more methods of those that need no passes of their own, and no transformer.

    The others take minutes on a CPU, and must not be offered without progress and Cancel.
    """
    known = {
        name: info
        for name, info in cam.methods().items()
        if not info.needs.passes and not info.needs.attention
    }
    controls.check_link("methods", "method", [info.title for info in known.values()])
    chosen: list[str] = st.pills(
        "Methods",
        list(known),
        selection_mode="multi",
        default=["gradcam", "saliency"],
        format_func=lambda name: known[name].title,
        key="methods",
        bind="query-params",
    )
    return chosen


@st.fragment
def show_maps(
    model: cam.Model,
    choices: Choices,
    picture: Picture,
    explanation: Explanation,
    explained: int,
) -> None:
    """The photo and each method's heatmap over it; opacity and colours redraw this part alone."""
    alpha, colormap = controls.choose_display()
    label = model.label(explained)
    seen = resources.seen(choices.model, choices.trained, picture.digest, picture)
    # As many rows as it takes: side by side, nine maps would be stamps.
    cells = 1 + len(explanation.maps)
    rows = -(-cells // MAPS_A_ROW)
    columns = [column for _ in range(rows) for column in st.columns(min(cells, MAPS_A_ROW))]
    with columns[0]:
        st.markdown("**What the model sees**")
        controls.show_png(png_bytes(seen), f"The part of {picture.photo.name} that it is shown")
    for column, attribution in zip(columns[1:cells], explanation.maps.values(), strict=True):
        info = cam.methods()[attribution.method]
        blended = cam.overlay(seen, attribution.heatmap[0], colormap, alpha, info.percentile)
        content = png_bytes(blended)
        with column:
            st.markdown(f"**{info.title}** for {label}")
            controls.show_png(content, f"{info.title} heatmap for {label}")
            st.caption(controls.description(info))
            for _, note in attribution.notes():
                st.warning(controls.sentence(note))
            offer_downloads(f"{controls.stem(picture)}.{info.name}", content, attribution)
    st.html(charts.color_bar(colormap))
    if values := controls.lazy_box("Inspect values", ":material/colorize:", "inspect"):
        with values:
            show_values(seen, explanation, alpha, colormap)
    if code := controls.lazy_box("Copy as Python", ":material/code:", "code"):
        with code:
            st.code(controls.as_python(choices, picture, alpha, colormap), language="python")


def offer_downloads(stem: str, content: bytes, attribution: cam.Attribution) -> None:
    """The picture as it is shown, and the arrays behind it."""
    with st.container(horizontal=True):
        st.download_button(
            "Picture",
            content,
            f"{stem}.png",
            "image/png",
            key=f"png-{attribution.method}",
            on_click="ignore",
            icon=":material/download:",
        )
        st.download_button(
            "Arrays",
            lambda: npz_bytes(attribution, 0),
            f"{stem}.npz",
            "application/octet-stream",
            key=f"npz-{attribution.method}",
            on_click="ignore",
            icon=":material/download:",
            help="NumPy .npz: the heatmap, and the raw map at the layer's resolution.",
        )


def show_values(seen: Image, explanation: Explanation, alpha: float, colormap: str) -> None:
    """Each heatmap over the picture, with the value under the pointer."""
    columns = st.columns(len(explanation.maps))
    for column, attribution in zip(columns, explanation.maps.values(), strict=True):
        info = cam.methods()[attribution.method]
        heatmap = attribution.heatmap[0].cpu().numpy()
        with column:
            st.markdown(f"**{info.title}**: point at it")
            st.plotly_chart(
                charts.inspector(seen, heatmap, colormap, alpha, info.percentile),
                key=f"inspector-{attribution.method}",
                config={"displayModeBar": False},
                alt=f"{info.title}: values from 0 to 1",
            )


def show_predictions(model: cam.Model, chances: np.ndarray, top: list[int], explained: int) -> None:
    """The top classes as bars; a click on a class explains it."""
    st.subheader("Predictions", anchor=False)
    options = controls.class_options(model.labels, len(chances))
    st.caption("Click a class to explain it.")
    shown = top if explained in top else [*top, explained]
    for index in shown:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                options[index],
                key=f"class-{index}",
                type="secondary" if index == explained else "tertiary",
                width=160,
                on_click=controls.take_class,
                args=(options[index],),
            )
            st.html(charts.bar(float(chances[index]), index == explained), width="stretch")


def show_facts(model: cam.Model, picture: Picture, explanation: Explanation) -> None:
    """How the maps were made, and what was done to the picture."""
    st.subheader("How it was made", anchor=False)
    first = next(iter(explanation.maps.values()))
    lines = [
        f"Score explained: {float(first.scores[0]):.3f} (raw logit)",
        f"One forward and one backward pass: {explanation.seconds * 1000:.0f} ms on "
        f"{first.heatmap.device.type.upper()}",
    ]
    at_layers = [one for one in explanation.maps.values() if one.layers]
    for one in at_layers[:1]:  # all of them look at the same
        height, width = one.raw.shape[1:]
        layers = ", ".join(f"`{layer}`" for layer in one.layers)
        lines.append(f"Layer {layers}, {height} × {width} positions")
    lines += [f"Your picture: {note}" for note in picture.photo.notes]
    st.markdown("\n".join(f"- {line}" for line in lines))
    facts = [
        record(model, one, 0, picture.photo.name, picture.photo.notes)
        for one in explanation.maps.values()
    ]
    st.download_button(
        "Record",
        json.dumps(facts, indent=2, ensure_ascii=False),
        f"{controls.stem(picture)}.json",
        "application/json",
        on_click="ignore",
        icon=":material/download:",
        help="Predictions, target, layer, methods and versions, as JSON.",
    )


main()
