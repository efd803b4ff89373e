"""Show one method at every depth of the network."""

from dataclasses import replace

import streamlit as st

from cam._output.explanation_files import png_bytes
from cam.pages.ui.charts.display import Display
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Choices, MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.links import check_link
from cam.pages.ui.widgets.prose import report_errors, show_png, write_notes, write_small


def look_through(subject: Subject, choices: Choices, display: Display) -> None:
    """Draw a slider through the layers, and the map at that depth."""
    names = [layer.name for layer in subject.model.feature_layers]
    start = choices.layer or next((at for at in subject.model.layers if at in names), names[-1])
    check_link("through_layer", "layer", names)
    # Another model has other layers.
    if st.session_state.get("through_layer", names[0]) not in names:
        del st.session_state["through_layer"]
    label, about = "Layer, from the picture to the classifier", "The arrow keys move it too."
    name = st.select_slider(
        label, names, start, key="through_layer", bind="query-params", help=about
    )
    with report_errors():
        _draw_layer(subject, choices, display, name, names)


def _draw_layer(
    subject: Subject, choices: Choices, display: Display, name: str, names: list[str]
) -> None:
    """Draw the map of the first method that looks at a layer, or of Grad-CAM."""
    quick = (method for method in choices.methods if not method.own_passes)
    at_layers = (method for method in quick if method.info.layer)
    method = next(at_layers, MethodChoice("gradcam"))
    at_layer = replace(choices, methods=(method,), layer=name)
    [attribution] = resources.explain(at_layer, subject.top, subject.picture).values()
    left, right = st.columns([2, 3], gap="large", vertical_alignment="center")
    with left:
        picture = display.overlay(subject.crop, attribution)
        show_png(png_bytes(picture), f"{method.info.title} at {name}")
    with right:
        height, width = attribution.raw.shape[1:]
        st.markdown(
            f"**{method.info.title}** at `{name}`, layer {names.index(name) + 1} of {len(names)}: "
            f"{height} × {width} places."
        )
        write_notes(attribution)
        write_small(
            "Early layers see edges and colours anywhere; what counts for the class shows near the "
            "end of the network."
        )
        if st.button(
            "Explain at this layer",
            icon=":material/layers:",
            on_click=st.session_state.update,
            kwargs={"layer": name},
            disabled=name == choices.layer,
        ):
            # All of the page, and not only the part of it that this is in.
            st.rerun()
