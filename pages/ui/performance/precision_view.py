"""Show each precision's speed and how far its maps move."""

import math
from functools import partial
from typing import Any

import streamlit as st
from PIL.Image import Image

import cam
from cam._engine.precision import available_precisions
from cam._performance import speed
from cam.pages.ui.charts.bars import Bar, draw_bars
from cam.pages.ui.charts.colours import HIGHLIGHT, NEUTRAL
from cam.pages.ui.charts.tiles import arrange, draw_picture
from cam.pages.ui.performance.measurement_job import measure_speed
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets.links import choose_pills
from cam.pages.ui.widgets.prose import write_small

ROUNDS = 3
METHODS = ("gradcam", "layercam", "saliency")
EXACT = "fp32"
# Of a map, in pixels: two stand side by side on a phone.
NARROWEST = 165


def show_precisions(subject: Subject) -> str:
    """Show each precision's images per second, beside how far its maps are from fp32's."""
    device = subject.model.device
    available = [name for name in available_precisions(device) if name != EXACT]
    st.markdown(
        "Reduced precision can be quicker to compute with, and it moves the maps. How much depends "
        f"on the method: look at both, beside the maps in {EXACT}."
    )
    more: dict[str, Any] = {
        "default": [name for name in available if device.type == "cuda" or name != "fp16"],
        "help": "A CPU takes about ten times as long for fp16.",
    }
    names = tuple(choose_pills(f"Beside {EXACT}", available, "precisions", "precision", **more))
    if device.type != "cuda":
        write_small("There is no GPU here: these are the CPU's figures, and a CPU has no tf32.")

    def draw_maps(measured: list[speed.Fidelity]) -> None:
        for method in METHODS:
            st.markdown(f"**{cam.methods()[method].title}**")
            maps = [_draw_map(row, subject.crop) for row in measured if row.method == method]
            st.html(arrange(maps, NARROWEST))

    run = partial(speed.by_precision, methods=METHODS, precisions=names)
    code = (
        f"rows = speed.by_precision(\n    model, batch, {METHODS}, {names}, rounds={ROUNDS}\n)\n"
        "for row in rows:\n"
        "    print(row.method, row.precision, row.speed.images_per_second, row.spearman)\n"
    )
    return measure_speed(subject, run, _draw_speeds, ROUNDS, code, more=draw_maps)


def _draw_speeds(measured: list[speed.Fidelity]) -> None:
    """Draw one bar a method and precision, with what it costs in fidelity."""
    exact = {row.method: row for row in measured if row.precision == EXACT}
    for name in exact:
        drawn = [
            Bar(
                EXACT if row.precision == EXACT else f"{row.precision}, {_describe_order(row)}",
                row.speed.images_per_second,
                f"{row.speed.images_per_second:.1f} images/s{_describe_gain(row, exact[name])}",
                NEUTRAL if row.precision == EXACT else HIGHLIGHT,
            )
            for row in measured
            if row.method == name
        ]
        title = cam.methods()[name].title
        st.markdown(f"**{title}, images a second**")
        st.html(draw_bars(drawn, f"{title}: images a second by precision"))


def _describe_gain(row: speed.Fidelity, exact: speed.Fidelity) -> str:
    if row is exact:
        return ""
    times = row.speed.images_per_second / exact.speed.images_per_second
    return f", {times:.1f} × {EXACT}"


def _draw_map(row: speed.Fidelity, crop: Image) -> tuple[str, str]:
    info = cam.methods()[row.method]
    blended = cam.overlay(crop, row.heatmap[0], "inferno", 0.6, info.percentile)
    line = f"<b>{EXACT}</b>, which the others are compared with"
    if row.precision != EXACT:
        order = _describe_order(row)
        line = f"<b>{row.precision}</b>: {order}, brightest 5 %: {row.overlap:.0%} the same"
    return draw_picture(blended, f"{info.title} in {row.precision}"), line


def _describe_order(row: speed.Fidelity) -> str:
    return "no order" if math.isnan(row.spearman) else f"Spearman {row.spearman:.3f}"
