"""Draw the compared maps side by side over one image."""

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

import cam
from cam._output.viewer.payload import ViewerMap, ViewerOptions, pack, view_attribution
from cam.pages.ui.compare import case_results
from cam.pages.ui.compare.cases import Case
from cam.pages.ui.server import resources
from cam.pages.ui.server.jobs import POLL_SECONDS
from cam.pages.ui.state.choices import Picture
from cam.pages.ui.widgets.controls import name_file
from cam.pages.ui.widgets.growing_maps import GrowingMap, add_growing
from cam.pages.ui.widgets.image_viewer import offer_view, show_viewer
from cam.pages.ui.widgets.prose import as_sentence, write_notes

# What is compared here has one method and one model, and so one unit.
ONE_UNIT = ("Layers", "Classes")


def show_maps(
    mode: str, cases: list[Case], picture: Picture, options: ViewerOptions, one_range: bool
) -> tuple[dict[Case, cam.Attribution], Tensor]:
    """Draw every case: its map, why there is none, or how far it is.

    Returns:
        Those that have a map, with it, and their heatmaps over the same part, (N, H, W).
    """
    images = st.container()
    quick = case_results.explain_quickly(cases, picture)
    explained: dict[Case, cam.Attribution] = {}
    growing: dict[Case, GrowingMap] = {}
    names = {case: f"map {number}" for number, case in enumerate(cases, start=1)}
    for case in cases:
        result = quick[case] if case in quick else case_results.explain_slowly(case, picture)
        if isinstance(result, cam.Attribution):
            explained[case] = result
        elif result is not None:
            st.error(f"{case.title}: {as_sentence(result)}")
        elif at_work := case_results.find_growing(case, picture, names[case]):
            growing[case] = at_work
    if not explained and not growing:
        return {}, torch.empty(0)
    with images:
        crops, maps = _align(explained, picture) if explained else ([], torch.empty(0))
        viewed = _view(mode, explained, maps, names, one_range)
        # A map that grows lies over what its own model sees.
        below = [*crops, *(resources.crop(case.model, picture) for case in growing)]
        # Of each crop a viewer; all of them move together.
        for number, crop in enumerate({id(crop): crop for crop in below}.values()):
            over = [each for each, under in zip(viewed, crops, strict=True) if under is crop]
            payload = pack(crop, over, "the compared maps", options, name_file(picture))
            over_crop = [
                each
                for (case, each) in growing.items()
                if resources.crop(case.model, picture) is crop
            ]
            show = st.fragment(_show_viewer, run_every=POLL_SECONDS if over_crop else None)
            show(payload, list(names.values()), over_crop, not one_range, number)
            if over:
                offer_view(payload, f"{mode} compared on {payload['stem']}")
        for attribution in explained.values():
            write_notes(attribution)
    return explained, maps


def _show_viewer(
    payload: dict[str, Any], order: list[str], growing: list[GrowingMap], drawn: bool, number: int
) -> None:
    """Show a viewer, again and again while maps in it grow."""
    # On a common scale a map so far would change the colours of all others.
    payload = add_growing(payload, order, growing, drawn)
    show_viewer(payload, f"compare_viewer_{number}")


def _view(
    mode: str,
    explained: dict[Case, cam.Attribution],
    maps: Tensor,
    names: dict[Case, str],
    one_range: bool,
) -> list[ViewerMap]:
    """Take the maps for the viewer, each with its own colours or all with the same."""
    titled = [
        replace(view_attribution(attribution), name=names[case], title=case.title)
        for case, attribution in explained.items()
    ]
    if not one_range and len({case.model for case in explained}) == 1:
        return titled
    heatmaps = _scale_colours(mode, explained, maps, one_range)
    viewed = []
    for each, attribution, heatmap in zip(titled, explained.values(), heatmaps, strict=True):
        signed = heatmap if attribution.picture()[1] else None
        heatmap = heatmap.clip(min=0)
        viewed.append(replace(each, heatmap=heatmap, signed=signed, unit=1.0, percentile=100))
    return viewed


def _align(explained: dict[Case, cam.Attribution], picture: Picture) -> tuple[list[Image], Tensor]:
    """Return the image for each case, and the heatmaps of that part of it."""
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
            "as much evidence on as much of the image, and what is weak looks weak."
        )
    return (
        "One range for all: each method and model measures in its own unit, so each map was "
        "stretched to 0 … 1 first, and then all colours end at the same value."
    )
