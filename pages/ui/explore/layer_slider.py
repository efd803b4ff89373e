"""Show one method at every depth of the network."""

from dataclasses import replace

import streamlit as st
from PIL.Image import Image

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Asked, Choices
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.controls import Display
from cam.pages.ui.widgets.text import small


def look_through(subject: Subject, choices: Choices, seen: Image, display: Display) -> None:
    """A slider through the layers, and the map at that depth beside the one that is shown above."""
    names = [layer.name for layer in subject.model.feature_layers]
    at = [asked for asked in choices.methods if asked.info.layer and not asked.own_passes]
    method = at[0] if at else Asked("gradcam")
    start = choices.layer or next((name for name in subject.model.layers if name in names), None)
    controls.check_link("through_layer", "layer", names)
    # Another model has other layers.
    if st.session_state.get("through_layer", names[0]) not in names:
        del st.session_state["through_layer"]
    name = st.select_slider(
        "Layer, from the picture to the classifier",
        names,
        value=start or names[-1],
        key="through_layer",
        bind="query-params",
        help="The arrow keys move it too.",
    )
    one = replace(choices, methods=(method,), layer=name)
    try:
        explanation = resources.explain(
            one, subject.order[0], subject.picture.digest, subject.picture
        )
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    [found] = explanation.maps.values()
    left, right = st.columns([2, 3], gap="large", vertical_alignment="center")
    with left:
        title = f"{method.info.title} at {name}"
        controls.show_png(png_bytes(display.over(seen, found)), title)
    with right:
        height, width = found.raw.shape[1:]
        st.markdown(
            f"**{method.info.title}** at `{name}`, layer {names.index(name) + 1} of {len(names)}: "
            f"{height} × {width} places."
        )
        for _, note in found.notes():
            st.warning(controls.sentence(note))
        small(
            "Early layers see edges and colours anywhere; what counts for the class shows near the "
            "end of the network."
        )
        if st.button(
            "Explain at this layer",
            icon=":material/layers:",
            on_click=_take_layer,
            args=(name,),
            disabled=name == choices.layer,
        ):
            # All of the page, and not only the part of it that this is in.
            st.rerun()


def _take_layer(name: str) -> None:
    st.session_state["layer"] = name
