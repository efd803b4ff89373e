"""Show step by step how Grad-CAM and the saliency map arise."""

from cam.pages.ui.server import router

router.require()

import numpy as np
import streamlit as st
from torch import Tensor

import cam
from cam._attribution.anatomy import neighbour_correlation, sign_changes
from cam._output.viewer.payload import ViewerMap, pack
from cam.pages.ui.anatomy.gradcam_steps import ALPHA, STEPS, View, as_array
from cam.pages.ui.anatomy.saliency_steps import BESIDE
from cam.pages.ui.charts.colours import PLAIN
from cam.pages.ui.charts.numbers import format_or_dash
from cam.pages.ui.charts.tiles import arrange, draw_tile
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.selection import Selection
from cam.pages.ui.subject import subject_form
from cam.pages.ui.subject.network_depth import choose_instructive
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.image_viewer import offer_view
from cam.pages.ui.widgets.links import choose_step
from cam.pages.ui.widgets.prose import report_errors, write_heading, write_small
from cam.pages.ui.widgets.python_code import write_loading
from cam.pages.ui.widgets.viewer_options import read_options

NAMES = list(STEPS)


def main(selection: Selection) -> None:
    """Draw the page; whatever goes wrong is one sentence where its cause is."""
    st.title("Anatomy", anchor=False)
    st.markdown(
        "Two heatmaps taken apart on your own image: the seven steps of **Grad-CAM**, and beside "
        "them the shorter path of the **saliency map**."
    )
    subject = subject_form.choose_subject(selection)
    if subject is None:
        return
    with st.sidebar:
        target = subject_form.choose_target(subject)
        default = choose_instructive(subject.model)
        layer = subject_form.choose_layer(subject.model, default)
    with report_errors(advice="Choose another model or layer in the sidebar."):
        show(subject, target, layer)


def show(subject: Subject, target: int | None, layer: str | None) -> None:
    """Show the steps of one image, why the maps differ, and what looks closer.

    Raises:
        CamError: The model cannot be explained so.
    """
    explained = subject.top if target is None else target
    anatomy = resources.take_apart(subject.choice, explained, layer, subject.picture)
    view = View(subject, anatomy, explained)
    if not bool(anatomy.gradients.any()):
        st.warning(
            f"The score of {view.label} does not change with this layer: all gradients are zero, "
            "as in a network whose last layer has not learned yet."
        )
    step_through(view)
    explain_difference(view)
    controls.draw_lazily("Robustness to noise", "vibration", "noise", show_shaken, view)
    offer_maps(view)
    controls.draw_code(lambda: write_code(subject, target, layer))


def offer_maps(view: View) -> None:
    """Offer both maps as one page with the viewer."""
    subject, anatomy = view.subject, view.anatomy
    titles = {name: cam.methods()[name].title for name in ("gradcam", "saliency")}
    heatmaps = {"gradcam": anatomy.heatmap, "saliency": anatomy.saliency}
    viewed = [
        ViewerMap(name, titles[name], as_array(heatmap)[0], percentile=percentile)
        for name, heatmap in heatmaps.items()
        for percentile in [cam.methods()[name].percentile]
    ]
    stem = controls.name_file(subject.picture)
    payload = pack(subject.crop, viewed, view.label, read_options(), stem)
    offer_view(payload, f"Anatomy of {view.label} on {stem}")


@st.fragment
def step_through(view: View) -> None:
    """Draw the slider and the step that it names; moving it redraws this part alone."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        about = "The arrow keys move it too."
        step = choose_step("Step", NAMES, "step", "step", NAMES[0], help=about)
        index = NAMES.index(step)
        for label, icon, by in (("Back", "arrow_back", -1), ("Next", "arrow_forward", 1)):
            st.button(
                label,
                icon=f":material/{icon}:",
                disabled=not 0 <= index + by < len(NAMES),
                on_click=move,
                args=(by,),
            )
    title, draw = STEPS[step]
    st.header(f"{index + 1} of {len(NAMES)} · {title}", anchor=False)
    beside = BESIDE.get(step)
    if beside is None:
        draw(view)
        write_small("Up to here, Grad-CAM and the saliency map go the same way.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        write_heading("Grad-CAM")
        draw(view)
    with right:
        write_heading("Saliency map")
        beside(view)


def move(by: int) -> None:
    """Move the slider from a button: from where it is by then, as two clicks may come at once."""
    step = address.get_value("step")
    index = (NAMES.index(step) if step in NAMES else 0) + by
    address.write({"step": [NAMES[min(max(index, 0), len(NAMES) - 1)]]})


def explain_difference(view: View) -> None:
    """Explain why one map is coarse and the other fine, with numbers of this picture."""
    anatomy = view.anatomy
    channels, rows, columns = anatomy.activations.shape[1:]
    height, width = anatomy.heatmap.shape[1:]
    likeness = [neighbour_correlation(heatmap) for heatmap in (anatomy.heatmap, anatomy.saliency)]
    flips = [sign_changes(values).mean() for values in (anatomy.summed, anatomy.pixel_gradients[0])]
    st.header("Why one is coarse and steady, the other fine and noisy", anchor=False)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown(
            f"**Grad-CAM** is read from a {rows} × {columns} feature grid: it cannot "
            f"point finer than {height // rows} × {width // columns} pixels. Each weight is a mean "
            f"over {rows * columns:,} gradients, each position a sum over {channels:,} channels: "
            "what is accidental in one of them cancels out. It answers **which region** speaks for "
            "the class."
        )
    with right:
        st.markdown(
            "**The saliency map** averages nothing. Its gradient has passed every layer, and each "
            "ReLU on the way passes the gradient for some pixels and blocks it for their "
            "neighbours; layers with strides leave their grid in it. It answers **which pixels** "
            "the score would react to; trust patterns rather than single points."
        )
    st.markdown(
        f"| Measured on this image | Grad-CAM | Saliency map |\n|---|---:|---:|\n"
        f"| Positions | {rows} × {columns} | {height} × {width} |\n"
        f"| Values behind a position | {channels:,} | {len(anatomy.pixel_gradients[0])} |\n"
        f"| Spatial autocorrelation | {_write_cells(likeness, '.2f')} |\n"
        f"| Neighbours that disagree on the sign | {_write_cells(flips, '.0%')} |"
    )


def _write_cells(values: list[Tensor], form: str) -> str:
    """Write measured numbers; a dash where a map is the same everywhere."""
    return " | ".join(format_or_dash(float(value), form) for value in values)


def show_shaken(view: View) -> None:
    """Show both maps under a little noise: which of them stays."""
    subject = view.subject
    with report_errors():
        maps = resources.shake(subject.choice, view.target, view.anatomy.layer, subject.picture)
        st.markdown(
            f"The same class on the image itself and {resources.SHAKES} times with noise of "
            f"{resources.NOISE:.0%} of its range, which hardly shows. Under each map is its "
            "correlation with the first map."
        )
        for attribution in maps.values():
            _show_noisy(attribution)


def _show_noisy(attribution: cam.Attribution) -> None:
    info = cam.methods()[attribution.method]
    heatmaps = as_array(attribution.heatmap)
    likeness = np.corrcoef(heatmaps.reshape(len(heatmaps), -1))[0]
    write_heading(f"{info.title}, on average {likeness[1:].mean():.2f}")
    drawings = []
    for number, heatmap in enumerate(heatmaps):
        alt = f"{info.title} of the image{f' with noise {number}' * (number > 0)}"
        end = float(np.percentile(heatmap, info.percentile))
        line = f"{likeness[number]:.2f}" if number else "the image itself"
        drawings.append((draw_tile(heatmap, end, alt, signed=False), line))
    st.html(arrange(drawings))


def write_code(subject: Subject, target: int | None, layer: str | None) -> str:
    """Write the library calls behind the page, ready to run."""
    options = "" if target is None else f", targets={target}"
    options += "" if layer is None else f", layer={layer!r}"
    end = cam.methods()["saliency"].percentile
    look = f"{PLAIN!r}, {ALPHA}"
    return (
        f"{write_loading(subject.choice, subject.picture)}"
        f"anatomy = cam.anatomy(model, model.prepare(photo){options})\n"
        "print(anatomy.scores, anatomy.weights.shape, anatomy.strongest())\n"
        "print(anatomy.summed)\n"
        "crop = model.crop(photo)\n"
        f'cam.overlay(crop, anatomy.heatmap[0], {look}).save("gradcam.png")\n'
        f'cam.overlay(crop, anatomy.saliency[0], {look}, {end}).save("saliency.png")\n'
    )


main(address.read_selection())
