"""Draw the compared maps side by side over one picture."""

from collections.abc import Sequence

import numpy as np
import streamlit as st
import torch
from PIL import ImageOps
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.compare import case_results
from cam.pages.ui.compare.case_results import Shown
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Picture
from cam.pages.ui.widgets import controls

MAPS_A_ROW = 4
# What is compared here has one method and one model, and so one unit.
ONE_UNIT = ("Layers", "Classes")


def show_maps(
    mode: str, cases: list[Case], picture: Picture, alpha: float, colormap: str, one_range: bool
) -> tuple[list[Shown], Tensor]:
    """Draw every case: its map, why there is none, or how far it is.

    Returns:
        Those that have a map, and their heatmaps over the same part, (N, H, W).
    """
    width = min(MAPS_A_ROW, len(cases))
    cells = [column for _ in range(0, len(cases), width) for column in st.columns(width)]
    quick = case_results.explained(cases, picture)
    shown, places = [], []
    for cell, case in zip(cells, cases, strict=False):
        with cell:
            found = quick[case] if case in quick else _later(case, picture)
            # The title stands below, so that the pictures of a row begin at one height.
            if found is None or isinstance(found, cam.CamError):
                st.markdown(f"**{case.title}**")
            if isinstance(found, cam.CamError):
                st.error(controls.sentence(found))
            elif found is not None:
                model = resources.model(case.model, case.trained)
                shown.append(Shown(case, model, found))
                places.append(cell)
    if not shown:
        return [], torch.empty(0)
    pictures, maps = _over_one_part(shown, picture)
    for cell, one, seen, heatmap in zip(
        places, shown, pictures, _coloured(mode, shown, maps, one_range), strict=True
    ):
        with cell:
            content = png_bytes(cam.overlay(seen, heatmap, colormap, alpha))
            controls.show_png(content, f"{one.case.title}: heatmap")
            st.markdown(f"**{one.case.title}**")
            for _, note in one.found.notes():
                st.warning(controls.sentence(note))
    return shown, maps


def _later(case: Case, picture: Picture) -> cam.Attribution | cam.CamError | None:
    try:
        return case_results.explained_later(case, picture)
    except cam.CamError as error:
        return error


def _over_one_part(shown: list[Shown], picture: Picture) -> tuple[list[Image], Tensor]:
    """The picture for each case, and the heatmaps of that part of it."""
    heatmaps = [one.found.heatmap[0].cpu() for one in shown]
    own = [
        resources.seen(one.case.model, one.case.trained, picture.digest, picture) for one in shown
    ]
    if len({(one.case.model, one.case.trained) for one in shown}) == 1:
        return own, torch.stack(heatmaps)
    try:
        part, maps = cam.shared_view(picture.photo.image, [one.model for one in shown], heatmaps)
    except cam.InputError as error:
        st.warning(f"{controls.sentence(error)} Each lies over what its own model sees.")
        size = heatmaps[0].shape
        resized = [
            functional.interpolate(one[None, None], size=size, mode="bilinear")[0, 0]
            for one in heatmaps
        ]
        return own, torch.stack(resized)
    side = min(max(*part.size, resources.SMALLEST_SIDE), resources.DISPLAY_SIDE)
    return [ImageOps.contain(part, (side, side))] * len(shown), maps


def _coloured(mode: str, shown: Sequence[Shown], maps: Tensor, one_range: bool) -> list[np.ndarray]:
    """Each heatmap so that its last colour is at 1; a few values may lie above."""
    drawn = list(maps)
    if one_range and mode in ONE_UNIT:
        drawn = [one[0].cpu() for one in cam.common_scale([one.found for one in shown])]
    values = [one.nan_to_num().numpy() for one in drawn]
    ends = [
        float(np.percentile(value, cam.methods()[one.case.method].percentile))
        for value, one in zip(values, shown, strict=True)
    ]
    if one_range:
        ends = [max(ends)] * len(ends)
    # Not clipped: what is too bright is cut after the enlargement, as cam.overlay does it.
    return [value / (end or 1) for value, end in zip(values, ends, strict=True)]


def ranges(mode: str, one_range: bool) -> str:
    """What the colours stand for."""
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
        "One range for all: methods and models measure in units of their own, so each map was "
        "stretched to 0 … 1 first, and then all colours end at the same value."
    )
