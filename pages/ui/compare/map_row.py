"""Draw the compared maps side by side over one picture."""

import numpy as np
import streamlit as st
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.compare import case_results
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Picture
from cam.pages.ui.widgets.prose import as_sentence, show_png, write_notes
from cam.polarity import DIVERGING

MAPS_A_ROW = 4
# What is compared here has one method and one model, and so one unit.
ONE_UNIT = ("Layers", "Classes")


def show_maps(
    mode: str, cases: list[Case], picture: Picture, alpha: float, colormap: str, one_range: bool
) -> tuple[dict[Case, cam.Attribution], Tensor]:
    """Draw every case: its map, why there is none, or how far it is.

    Returns:
        Those that have a map, with it, and their heatmaps over the same part, (N, H, W).
    """
    width = min(MAPS_A_ROW, len(cases))
    cells = [column for _ in range(0, len(cases), width) for column in st.columns(width)]
    quick = case_results.explain_quickly(cases, picture)
    explained: dict[Case, cam.Attribution] = {}
    full_cells = []
    for cell, case in zip(cells, cases, strict=False):
        with cell:
            result = quick[case] if case in quick else case_results.explain_slowly(case, picture)
            if isinstance(result, cam.Attribution):
                explained[case] = result
                full_cells.append(cell)
                continue
            # Of a map the title stands below, so that the pictures of a row begin at one height.
            st.markdown(f"**{case.title}**")
            if result is not None:
                st.error(as_sentence(result))
    if not explained:
        return {}, torch.empty(0)
    pictures, maps = _align(explained, picture)
    heatmaps = _scale_colours(mode, explained, maps, one_range)
    for cell, case, below, heatmap in zip(full_cells, explained, pictures, heatmaps, strict=True):
        with cell:
            signed = explained[case].picture()[1]
            colours = DIVERGING if signed else colormap
            content = png_bytes(cam.overlay(below, heatmap, colours, alpha, signed=signed))
            show_png(content, f"{case.title}: heatmap")
            st.markdown(f"**{case.title}**")
            write_notes(explained[case])
    return explained, maps


def _align(explained: dict[Case, cam.Attribution], picture: Picture) -> tuple[list[Image], Tensor]:
    """Return the picture for each case, and the heatmaps of that part of it."""
    heatmaps = [attribution.picture()[0][0].cpu() for attribution in explained.values()]
    crops = [resources.crop(case.model, picture) for case in explained]
    if len({case.model for case in explained}) == 1:
        return crops, torch.stack(heatmaps)
    try:
        models = [resources.load_model(case.model) for case in explained]
        part, maps = cam.shared_view(picture.photo.image, models, heatmaps)
    except cam.InputError as error:
        st.warning(f"{as_sentence(error)} Each lies over what its own model sees.")
        size = heatmaps[0].shape
        resized = [
            functional.interpolate(heatmap[None, None], size=size, mode="bilinear")[0, 0]
            for heatmap in heatmaps
        ]
        return crops, torch.stack(resized)
    return [resources.fit_display(part)] * len(explained), maps


def _scale_colours(
    mode: str, explained: dict[Case, cam.Attribution], maps: Tensor, one_range: bool
) -> list[np.ndarray]:
    """Scale each heatmap so that its last colour is at 1; a few values may lie above."""
    drawn = list(maps)
    if one_range and mode in ONE_UNIT:
        scaled = cam.common_scale(list(explained.values()))
        drawn = [heatmaps[0].cpu() for heatmaps in scaled]
    values = [heatmap.nan_to_num().numpy() for heatmap in drawn]
    ends = [
        float(np.percentile(np.abs(value), cam.methods()[case.method].percentile))
        for value, case in zip(values, explained, strict=True)
    ]
    if one_range:
        ends = [max(ends)] * len(ends)
    # Not clipped: what is too bright is cut after the enlargement, as cam.overlay does it.
    return [value / (end or 1) for value, end in zip(values, ends, strict=True)]


def describe_range(mode: str, one_range: bool) -> str:
    """Describe what the colours stand for."""
    if not one_range:
        return (
            "Each map has its own range: its last colour is its own highest value, or its 99th "
            "percentile where a few bright pixels would hide the rest."
        )
    if mode in ONE_UNIT:
        return (
            "One range for all: the raw maps of one method are in one unit, so the same colour is "
            "as much evidence on as much of the picture, and what is weak looks weak."
        )
    return (
        "One range for all: each method and model measures in its own unit, so each map was "
        "stretched to 0 … 1 first, and then all colours end at the same value."
    )
