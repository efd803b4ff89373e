"""Read values under the pointer, and the evidence in a box."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st
import torch

import cam
from cam.pages.ui.charts.display import Display
from cam.pages.ui.charts.inspector import Box, draw_inspector
from cam.pages.ui.server.resources import MethodChoice
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.prose import write_small

SIDES = ("box_columns", "box_rows")
MAPS_A_ROW = 3
# By the number of maps: as high as a column is wide, or there would be a gap above and below.
HEIGHTS = {1: 420, 2: 380, 4: 380}
HEIGHT = 260


def show_values(
    subject: Subject, maps: Mapping[MethodChoice, cam.Attribution], display: Display
) -> None:
    """Show each heatmap with the value at the pointer, and a box for all of them."""
    height, width = next(iter(maps.values())).heatmap.shape[1:]
    write_small("Point at a map to read its value. Draw a box over it, or move the sliders.")
    box = _choose_box(height, width)
    shares = _measure_shares(subject, maps, box) if box else {}
    cells = controls.make_cells(len(maps), MAPS_A_ROW)
    for cell, (method, attribution) in zip(cells, maps.items(), strict=True):
        values, signed = display.select_values(attribution)
        with cell:
            st.markdown(f"**{method.info.title}**")
            key = f"inspector-{method.name}"
            array, tall = values.cpu().numpy(), HEIGHTS.get(len(maps), HEIGHT)
            percentile = method.info.percentile
            st.plotly_chart(
                draw_inspector(subject.crop, array, display, percentile, box, signed, tall),
                key=key,
                on_select=partial(_take_box, key, height, width),
                selection_mode="box",
                config={"displayModeBar": False},
                alt=f"{method.info.title}: its value at each pixel",
            )
            if box:
                write_small(f"**{shares[method]:.0%}** of the evidence is in this box.")
    if box:
        left, right, top, bottom = box
        part = (right - left + 1) * (bottom - top + 1) / (width * height)
        write_small(
            f"The box is {part:.0%} of the picture: a map that points at nothing would have "
            f"{part:.0%} of its evidence there."
        )
        st.button("Clear the box", icon=":material/close:", on_click=_clear, args=(height, width))


def _choose_box(height: int, width: int) -> Box | None:
    """Choose columns and rows of a box; None while it is the whole picture."""
    sides = []
    for column, key, size in zip(st.columns(2), SIDES, (width, height), strict=True):
        with column:
            name = key.removeprefix("box_")
            # Another model looks at another size.
            held = st.session_state.get(key)
            if held is not None and held[1] >= size:
                del st.session_state[key]
            sides.append(
                st.slider(f"Box: {name}", 0, size - 1, (0, size - 1), key=key, bind="query-params")
            )
    (left, right), (top, bottom) = sides
    whole = (left, right, top, bottom) == (0, width - 1, 0, height - 1)
    return None if whole else (left, right, top, bottom)


def _clear(height: int, width: int) -> None:
    for side, size in zip(SIDES, (width, height), strict=True):
        st.session_state[side] = (0, size - 1)


def _take_box(key: str, height: int, width: int) -> None:
    """Move the sliders to what was drawn."""
    drawn: list[dict[str, Any]] = st.session_state[key]["selection"]["box"]
    if not drawn:
        return
    for side, axis, size in zip(SIDES, "xy", (width, height), strict=True):
        low, high = sorted(drawn[-1][axis])
        first = min(max(round(low), 0), size - 1)
        st.session_state[side] = (first, min(max(round(high), first), size - 1))


def _measure_shares(
    subject: Subject, maps: Mapping[MethodChoice, cam.Attribution], box: Box
) -> dict[MethodChoice, float]:
    """Measure each map's evidence in the box, as the energy-based pointing game does."""
    left, right, top, bottom = box
    measure = cam.metric("energy_pointing_game")
    batch = subject.model.prepare(subject.picture.photo)
    mask = torch.zeros(1, *batch.shape[2:], dtype=torch.bool, device=batch.device)
    mask[0, top : bottom + 1, left : right + 1] = True
    return {
        method: float(measure(subject.model, batch, explained, subject.top, masks=mask))
        for method, explained in maps.items()
    }
