"""Show step by step how Grad-CAM and the saliency map arise."""

from cam.pages.ui.server import router

router.require()

import numpy as np
import streamlit as st
from torch import Tensor

import cam
from cam._attribution.anatomy import neighbour_correlation, sign_changes
from cam.pages.ui.anatomy.gradcam_steps import ALPHA, STEPS, View, array
from cam.pages.ui.anatomy.saliency_steps import BESIDE
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Picture, Weights
from cam.pages.ui.subject import subject_form
from cam.pages.ui.widgets import controls, html_charts
from cam.pages.ui.widgets.text import heading, small

NAMES = list(STEPS)


def main() -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Anatomy", anchor=False)
    st.markdown(
        "Two heatmaps taken apart on your own picture: the seven steps of **Grad-CAM**, and beside "
        "them the shorter path of the **saliency map**."
    )
    subject = subject_form.choose_subject()
    if subject is None:
        return
    picture, name, trained, model = subject.picture, subject.name, subject.trained, subject.model
    with st.sidebar:
        target = subject_form.choose_target(model, subject.order)
        layer = subject_form.choose_layer(model)
    try:
        found = resources.anatomy(name, trained, target, layer, picture.digest, picture)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        st.info("Choose another model or layer in the sidebar.")
        return
    seen = resources.seen(name, trained, picture.digest, picture)
    explained = found.targets
    assert isinstance(explained, Tensor)
    view = View(model, found, seen, picture.photo.name, int(explained[0]))
    if not bool(found.gradients.any()):
        st.warning(
            f"The score of {view.label} does not change with this layer: "
            "all gradients are zero, as in a network whose last layer has not learned yet."
        )
    step_through(view)
    explain_the_difference(view)
    if box := controls.lazy_box(
        "Shake the picture, and look again", ":material/vibration:", "shake"
    ):
        with box:
            shake(view, name, trained, picture)
    if box := controls.lazy_box("Copy as Python", ":material/code:", "code"):
        with box:
            st.code(
                as_python(name, trained, target, layer, picture), language="python", wrap_lines=True
            )


@st.fragment
def step_through(view: View) -> None:
    """The slider and the step that it names; moving it redraws this part alone."""
    controls.check_link("step", "step", NAMES)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        step = st.select_slider(
            "Step", NAMES, key="step", bind="query-params", help="The arrow keys move it too."
        )
        place = NAMES.index(step)
        for label, icon, by in (("Back", "arrow_back", -1), ("Next", "arrow_forward", 1)):
            st.button(
                label,
                icon=f":material/{icon}:",
                disabled=not 0 <= place + by < len(NAMES),
                on_click=move,
                args=(by,),
            )
    title, draw = STEPS[step]
    st.header(f"{place + 1} of {len(NAMES)} · {title}", anchor=False)
    beside = BESIDE.get(step)
    if beside is None:
        draw(view)
        small("Up to here, Grad-CAM and the saliency map go the same way.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        heading("Grad-CAM")
        draw(view)
    with right:
        heading("Saliency map")
        beside(view)


def move(by: int) -> None:
    """Move the slider from a button: from where it is by then, as two clicks may come at once."""
    there = NAMES.index(st.session_state["step"]) + by
    st.session_state["step"] = NAMES[min(max(there, 0), len(NAMES) - 1)]


def explain_the_difference(view: View) -> None:
    """Why one map is coarse and steady, the other fine and noisy, with numbers of this picture."""
    found = view.found
    channels, rows, columns = found.activations.shape[1:]
    height, width = found.heatmap.shape[1:]
    likeness = [neighbour_correlation(one) for one in (found.heatmap, found.saliency)]
    flips = [sign_changes(one).mean() for one in (found.summed, found.pixel_gradients[0])]
    st.header("Why one is coarse and steady, the other fine and noisy", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(
            f"**Grad-CAM** is read where the network has {rows} × {columns} places left: it cannot "
            f"point finer than {height // rows} × {width // columns} pixels. Each weight is a mean "
            f"over {rows * columns:,} gradients, and each place a sum over {channels:,} channels: "
            "what is accidental in one of them cancels out. So ask it **which region** speaks for "
            "the class."
        )
    with right:
        st.markdown(
            "**The saliency map** averages nothing. Its gradient has passed every layer, and each "
            "ReLU or its like on the way lets it through or blocks it, for one pixel so and for "
            "the next one otherwise; layers with strides leave their grid in it. So ask it **which "
            "pixels** the score would react to, and trust patterns rather than single points."
        )
    st.markdown(
        f"| Measured on this picture | Grad-CAM | Saliency map |\n|---|---:|---:|\n"
        f"| Places | {rows} × {columns} | {height} × {width} |\n"
        f"| Values behind one place | {channels:,} | {len(found.pixel_gradients[0])} |\n"
        f"| Likeness of neighbours (correlation) | {cell(likeness[0], '.2f')} "
        f"| {cell(likeness[1], '.2f')} |\n"
        f"| Neighbours that disagree on the sign | {cell(flips[0], '.0%')} "
        f"| {cell(flips[1], '.0%')} |"
    )


def cell(value: Tensor, form: str) -> str:
    """A measured number; a dash where a map is the same everywhere."""
    return "–" if bool(value.isnan()) else format(float(value), form)


def shake(view: View, name: str, trained: Weights, picture: Picture) -> None:
    """Both maps under a little noise: which of them stays."""
    try:
        maps = resources.shaken(
            name, trained, view.target, view.found.layer, picture.digest, picture
        )
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    st.markdown(
        f"The same class on the picture itself and {resources.SHAKES} times with noise of "
        f"{resources.NOISE:.0%} of its range, which hardly shows. Under each map is its likeness "
        "to the first one: its correlation with it."
    )
    for found in maps.values():
        info = cam.methods()[found.method]
        heatmaps = array(found.heatmap)
        likeness = np.corrcoef(heatmaps.reshape(len(heatmaps), -1))[0]
        heading(f"{info.title}, on average {likeness[1:].mean():.2f}")
        st.html(
            html_charts.side_by_side(
                (
                    html_charts.tile(
                        one,
                        float(np.percentile(one, info.percentile)),
                        f"{info.title} of the picture{f' with noise {place}' * (place > 0)}",
                        signed=False,
                    ),
                    f"{likeness[place]:.2f}" if place else "the picture itself",
                )
                for place, one in enumerate(heatmaps)
            )
        )


def as_python(
    name: str, trained: Weights, target: int | None, layer: str | None, picture: Picture
) -> str:
    """The library calls behind the page, ready to run."""
    options = "" if target is None else f", targets={target}"
    options += "" if layer is None else f", layer={layer!r}"
    end = cam.methods()["saliency"].percentile
    colours = f"{html_charts.PLAIN!r}, {ALPHA}"
    return (
        f"{controls.model_and_photo(name, trained, picture)}"
        f"found = cam.anatomy(model, model.prepare(photo){options})\n"
        "print(found.scores, found.weights.shape, found.strongest())\n"
        "print(found.summed)\n"
        "seen = model.crop(photo)\n"
        f'cam.overlay(seen, found.heatmap[0], {colours}).save("gradcam.png")\n'
        f'cam.overlay(seen, found.saliency[0], {colours}, {end}).save("saliency.png")\n'
    )


main()
