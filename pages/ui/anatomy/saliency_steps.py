"""Draw the steps of the saliency map beside Grad-CAM's."""

from collections.abc import Callable

import numpy as np
import streamlit as st
from PIL import Image

import cam
from cam._attribution.anatomy import sign_changes
from cam._output.explanation_files import png_bytes
from cam._output.viewer.description import count_half
from cam.pages.ui.anatomy.gradcam_steps import ALPHA, View, as_array, describe_gradients
from cam.pages.ui.charts.colours import PLAIN, draw_legend
from cam.pages.ui.charts.numbers import format_value
from cam.pages.ui.charts.tiles import draw_picture, draw_tile
from cam.pages.ui.widgets.prose import show_png, write_facts

PATCH = 16


def get_saliency_percentile() -> float:
    """Return where the colours of a saliency map end, here as on every page."""
    return cam.methods()["saliency"].percentile


def draw_pixel_gradient(view: View) -> None:
    """Draw beside step 3: the gradient goes on to the pixels."""
    st.markdown(
        r"The same backward pass goes on down to the **pixels**, $\partial y / \partial x$: three "
        "numbers each, for red, green and blue. Grey is zero."
    )
    values = as_array(view.anatomy.pixel_gradients[0])
    end = float(np.percentile(np.abs(values), get_saliency_percentile())) or 1
    inks = ((values / end).clip(-1, 1) * 127.5 + 127.5).round().astype(np.uint8)
    if len(inks) == 3:
        picture = Image.fromarray(np.ascontiguousarray(inks.transpose(1, 2, 0)))
    else:
        picture = Image.fromarray(inks[0]).convert("RGB")
    st.html(draw_picture(picture, f"Gradient of {view.label} by the pixels", smooth=False))
    write_facts(
        describe_gradients(values),
        "They are of the pixels as the network gets them, after normalisation.",
    )


def draw_maximum(view: View) -> None:
    """Draw beside step 4: the reverse of pooling."""
    st.markdown(
        "Saliency does the reverse: it **keeps the positions** and takes the largest size over the "
        r"colours, $M_{ij} = \max_c |\partial y / \partial x_{c,ij}|$."
    )
    values = as_array(view.anatomy.pixel_maximum[0])
    end = float(np.percentile(values, get_saliency_percentile()))
    st.html(draw_tile(values, end, f"Largest gradient of {view.label} at each pixel", signed=False))
    st.html(draw_legend(end, signed=False))
    write_facts(
        f"{values.size:,} values, one a pixel; the largest is {format_value(values.max())}, "
        f"the mean {format_value(values.mean())}.",
    )


def draw_neighbours(view: View) -> None:
    """Draw beside step 5: a close look at why the map is noisy."""
    values, map_ = (
        as_array(view.anatomy.pixel_gradients[0]),
        as_array(view.anatomy.pixel_maximum[0]),
    )
    row, column = np.unravel_index(int(map_.argmax()), map_.shape)
    side = min(PATCH, *map_.shape)
    top = int(np.clip(row - side // 2, 0, map_.shape[0] - side))
    left = int(np.clip(column - side // 2, 0, map_.shape[1] - side))
    colour = int(np.abs(values[:, row, column]).argmax())
    patch = values[colour, top : top + side, left : left + side]
    flips = float(sign_changes(view.anatomy.pixel_gradients[0])[colour])
    name = ("red", "green", "blue")[colour] if len(values) == 3 else f"channel {colour}"
    st.markdown(
        "There is nothing to weigh here, so look closer: the gradient around the strongest pixel, "
        f"{side} × {side} pixels, {name} alone."
    )
    end = float(np.abs(patch).max())
    st.html(draw_tile(patch, end, "The gradient around the strongest pixel"))
    st.html(draw_legend(end))
    if not np.isnan(flips):
        write_facts(
            f"**{flips:.0%}** of all pixels side by side disagree on the sign; tossed coins would "
            "give 50%.",
            "That is the noise of a saliency map: neighbours show nearly the same thing, and still "
            "get different answers."
            if flips > 0.2
            else "",
        )


def draw_unsigned(view: View) -> None:
    """Draw beside step 6: no sum, no sign."""
    st.markdown(
        "Saliency has no sum and needs no ReLU: a size has no sign. So it says **which pixels the "
        "score reacts to**, not whether they speak for or against the class."
    )
    values = as_array(view.anatomy.saliency[0])
    end = float(np.percentile(values, get_saliency_percentile()))
    st.html(draw_tile(values, end, "The saliency map, stretched to 0 … 1", signed=False))
    st.html(draw_legend(end, signed=False))
    write_facts(
        "Stretched to 0 … 1. The colours end where 99% of the pixels lie below, at "
        f"{format_value(end)}: a few bright pixels would leave the rest black."
    )


def draw_overlay(view: View) -> None:
    """Draw beside step 7: the map over the picture."""
    st.markdown(
        "No enlarging: the map has one value a pixel already. It tends to trace edges and texture "
        "rather than whole things."
    )
    blended = cam.overlay(
        view.subject.crop, view.anatomy.saliency[0], PLAIN, ALPHA, get_saliency_percentile()
    )
    show_png(png_bytes(blended), f"Saliency map heatmap for {view.label}")
    values = as_array(view.anatomy.saliency[0])
    write_facts(
        "A position is one pixel.",
        f"Half of it lies on {count_half(values) / values.size:.0%} of the pixels.",
    )


BESIDE: dict[str, Callable[[View], None]] = {
    "Gradients": draw_pixel_gradient,
    "Weights": draw_maximum,
    "Maps": draw_neighbours,
    "Sum": draw_unsigned,
    "Overlay": draw_overlay,
}
