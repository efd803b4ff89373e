"""Show one method at every depth of the network."""

from dataclasses import replace

import streamlit as st

from cam._output.viewer.payload import ViewerOptions, pack, view_attribution
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Choices, MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.image_viewer import show_viewer
from cam.pages.ui.widgets.links import choose_step
from cam.pages.ui.widgets.prose import report_errors, write_notes, write_small


def look_through(subject: Subject, choices: Choices, options: ViewerOptions) -> None:
    """Draw a slider through the layers, and the map at that depth."""
    names = [layer.name for layer in subject.model.feature_layers]
    start = choices.layer or next((at for at in subject.model.layers if at in names), names[-1])
    label, about = "Layer, from the image to the classifier", "The arrow keys move it too."
    name = choose_step(label, names, "through_layer", "layer", start, help=about)
    with report_errors():
        _draw_layer(subject, choices, name, names, options)


def _draw_layer(
    subject: Subject, choices: Choices, name: str, names: list[str], options: ViewerOptions
) -> None:
    """Draw the map of the first method that looks at a layer, or of Grad-CAM."""
    quick = (method for method in choices.methods if not method.own_passes)
    at_layers = (method for method in quick if method.info.layer)
    method = next(at_layers, MethodChoice("gradcam"))
    at_layer = replace(choices, methods=(method,), layer=name)
    [attribution] = resources.explain(at_layer, subject.top, subject.picture).values()
    left, right = st.columns([2, 3], gap="large", vertical_alignment="center")
    with left:
        viewed = view_attribution(attribution, title=f"{method.info.title} at {name}")
        show_viewer(pack(subject.crop, [viewed], name, options), "layer_viewer")
    with right:
        height, width = attribution.raw.shape[1:]
        st.markdown(
            f"**{method.info.title}** at `{name}`, layer {names.index(name) + 1} of {len(names)}: "
            f"a {height} × {width} feature grid."
        )
        write_notes(attribution)
        write_small(
            "Early layers see edges and colours anywhere; what counts for the class shows near the "
            "end of the network."
        )
        if st.button(
            "Explain at this layer",
            icon=":material/layers:",
            on_click=address.write,
            args=({"layer": [name], "channel": None},),
            disabled=name == choices.layer,
        ):
            # All of the page, and not only the part of it that this is in.
            st.rerun()
