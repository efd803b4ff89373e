"""Explore: one picture, one class, one layer, and what each method says of it."""

from pages.ui import router

router.require()

import json

import numpy as np
import streamlit as st
from PIL.Image import Image

import cam
from cam.files import npz_bytes, png_bytes, record
from cam.images import SAMPLES
from cam.models.load import BUNDLED
from pages.ui import charts, controls, resources
from pages.ui.resources import Explanation, Picture

TOP = 5


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Explore")
    st.caption(
        "See which parts of a picture speak for a class: **Grad-CAM** shows the region, coarse and "
        "steady; the **saliency map** shows single pixels, fine and noisy."
    )
    with st.sidebar:
        picture = choose_picture()
        name, trained = choose_model()
    if picture is None:
        st.info("Choose a sample or upload another picture in the sidebar.")
        return
    try:
        model = resources.model(name, trained)
        chances = resources.probabilities(name, trained, picture.digest, picture)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    order = chances.argsort()[::-1].tolist()
    with st.sidebar:
        target = choose_target(model, order)
        layer = choose_layer(model)
        methods = choose_methods()
    if not methods:
        st.info("Choose at least one method in the sidebar.")
        return
    try:
        explanation = resources.explain(
            name, trained, picture.digest, tuple(methods), target, layer, picture
        )
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    seen = resources.seen(name, trained, picture.digest, picture)
    explained = order[0] if target is None else target
    show_maps(model, picture, seen, explanation, explained)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_predictions(model, chances, order[:TOP], explained)
    with right:
        show_facts(model, picture, explanation)
        show_code(name, trained, picture, methods, target, layer)


def choose_picture() -> Picture | None:
    """A sample or an upload; the upload wins while there is one."""
    names = list(SAMPLES)
    sample = st.pills(
        "Sample photo",
        names,
        default=names[0],
        required=True,
        format_func=lambda name: controls.SAMPLE_TITLES[name],
        key="sample",
        bind="query-params",
        on_change=controls.forget_target,
    )
    upload = st.file_uploader(
        "or your own picture",
        type=controls.UPLOAD_TYPES,
        key="upload",
        on_change=controls.forget_target,
        help="It stays on this server, in memory, while the page is open.",
    )
    if upload is None:
        return resources.sample(sample)
    try:
        return resources.uploaded(upload.getvalue(), upload.name)
    except cam.ImageError as error:
        st.error(controls.sentence(error))
        return None


def choose_model() -> tuple[str, bool]:
    """A model by search, and whether with its published weights."""
    name = st.selectbox(
        "Model",
        resources.model_names(),
        key="model",
        bind="query-params",
        on_change=controls.forget_target_and_layer,
        help="The first one is bundled; every other one downloads its weights once.",
    )
    if name == BUNDLED:
        return name, True
    untrained = st.checkbox(
        "Random weights",
        key="untrained",
        bind="query-params",
        help="Nothing is downloaded. The network has learned nothing, and its maps show that.",
    )
    return name, not untrained


def choose_target(model: cam.Model, order: list[int]) -> int | None:
    """A class by search, the most probable ones first; None stands for the top class."""
    labels = controls.class_options(model.name, model.labels, len(order))
    chosen = st.selectbox(
        "Class to explain",
        [labels[index] for index in order],
        index=None,
        placeholder=f"Top class: {labels[order[0]]}",
        key="target",
        bind="query-params",
        help="The most probable classes come first; type to search all of them.",
    )
    return None if chosen is None else labels.index(chosen)


def choose_layer(model: cam.Model) -> str | None:
    """A layer by search; None stands for the model's preset."""
    try:
        preset = ", ".join(model.layers)
    except cam.LayerError:
        preset = "none"
    chosen: str | None = st.selectbox(
        "Layer for Grad-CAM",
        [layer.name for layer in model.feature_layers],
        index=None,
        placeholder=f"Preset: {preset}",
        key="layer",
        bind="query-params",
        help="In the order in which they run. Late layers know what, early ones only where.",
    )
    return chosen


def choose_methods() -> list[str]:
    """One or more methods."""
    known = cam.methods()
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
    picture: Picture,
    seen: Image,
    explanation: Explanation,
    explained: int,
) -> None:
    """The photo and each method's heatmap over it; opacity and colours redraw this part alone."""
    alpha, colormap = controls.choose_display()
    label = model.label(explained)
    columns = st.columns(1 + len(explanation.maps))
    with columns[0]:
        st.markdown("**What the model sees**")
        controls.show_png(png_bytes(seen), f"The part of {picture.photo.name} that it is shown")
    for column, (method, attribution) in zip(columns[1:], explanation.maps.items(), strict=True):
        info = cam.methods()[method]
        heatmap = attribution.heatmap[0]
        blended = png_bytes(cam.overlay(seen, heatmap, colormap, alpha, info.percentile))
        with column:
            st.markdown(f"**{info.title}** for {label}")
            controls.show_png(blended, f"{info.title} heatmap for {label}")
            scale = (
                ""
                if info.percentile == 100
                else (f" The colours end at its {info.percentile:g}th percentile.")
            )
            st.caption(info.description + scale)
            for _, note in attribution.notes():
                st.warning(note[0].upper() + note[1:] + ".")
            stem = f"{controls.stem(picture)}.{method}"
            with st.container(horizontal=True):
                st.download_button(
                    "Picture",
                    blended,
                    f"{stem}.png",
                    "image/png",
                    key=f"png-{method}",
                    on_click="ignore",
                    icon=":material/download:",
                )
                st.download_button(
                    "Arrays",
                    lambda attribution=attribution: npz_bytes(attribution, 0),
                    f"{stem}.npz",
                    "application/octet-stream",
                    key=f"npz-{method}",
                    on_click="ignore",
                    icon=":material/download:",
                    help="NumPy .npz: the heatmap, and the raw map at the layer's resolution.",
                )
    st.html(controls.color_bar(colormap))


def show_predictions(model: cam.Model, chances: np.ndarray, top: list[int], explained: int) -> None:
    """The top classes as bars; a click explains that class."""
    st.subheader("Predictions")
    labels = controls.class_options(model.name, model.labels, len(chances))
    names = [labels[index] for index in top]
    figure = charts.predictions(
        names,
        [float(chances[index]) for index in top],
        top.index(explained) if explained in top else None,
    )
    st.plotly_chart(
        figure,
        key="predictions",
        on_select=lambda: controls.take_clicked_class(names),
        selection_mode="points",
        config={"displayModeBar": False},
        alt="; ".join(
            f"{name} {float(chances[index]):.1%}" for name, index in zip(names, top, strict=True)
        ),
    )
    st.caption("Click a bar to explain that class.")


def show_facts(model: cam.Model, picture: Picture, explanation: Explanation) -> None:
    """How the maps were made, and what was done to the picture."""
    st.subheader("How it was made")
    first = next(iter(explanation.maps.values()))
    layers = {layer for one in explanation.maps.values() for layer in one.layers}
    lines = [
        f"Score explained: {float(first.scores[0]):.3f} (raw logit)",
        f"One forward and one backward pass: {explanation.seconds * 1000:.0f} ms on "
        f"{first.heatmap.device.type.upper()}",
    ]
    for one in explanation.maps.values():
        if one.layers:
            height, width = one.raw.shape[1:]
            lines.append(f"Layer `{', '.join(sorted(layers))}`, {height} × {width} positions")
            break
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


def show_code(
    name: str,
    trained: bool,
    picture: Picture,
    methods: list[str],
    target: int | None,
    layer: str | None,
) -> None:
    """The library call that this page made."""
    with st.expander("Copy as Python"):
        st.code(
            controls.as_python(name, trained, picture, methods, target, layer), language="python"
        )


main()
