"""Choose how heatmaps are shown."""

import streamlit as st

from cam.pages.ui.charts.display import COLORMAPS, Display
from cam.pages.ui.widgets.links import choose

SIGNS = {"of contributions": None, "for and against": True, "for only": False}


def choose_alpha() -> float:
    """Choose the opacity of the heatmaps."""
    return st.slider(
        "Opacity of the heatmap", 0.0, 1.0, 0.5, 0.05, key="opacity", bind="query-params"
    )


def choose_colormap() -> str:
    """Choose the colours of the heatmaps."""
    return st.selectbox("Colour map", COLORMAPS, key="colormap", bind="query-params")


def choose_display() -> Display:
    """Choose opacity, threshold, colours and signs of the heatmaps."""
    columns = st.columns([3, 3, 2, 3], vertical_alignment="bottom")
    with columns[0]:
        alpha = choose_alpha()
    with columns[1]:
        label, about = "Hide evidence below", "Of the strongest, which is 1."
        threshold = st.slider(
            label, 0.0, 0.95, 0.0, 0.05, key="threshold", bind="query-params", help=about
        )
    with columns[2]:
        colormap = choose_colormap()
    with columns[3]:
        about = (
            "Red speaks for the class, blue against it. By default maps of contributions are shown "
            "so: their values are signed, in units of the score."
        )
        signs = choose("Signs", tuple(SIGNS), "signs", help=about)
    return Display(alpha, colormap, threshold, SIGNS[signs])
