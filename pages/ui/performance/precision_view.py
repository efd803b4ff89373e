"""Show each precision's speed and how far its maps move."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from PIL.Image import Image

import cam
from cam._engine.precision import available_precisions
from cam._performance import speed
from cam.pages.ui.charts.bars import Bar, draw_bars
from cam.pages.ui.charts.colours import HIGHLIGHT, NEUTRAL
from cam.pages.ui.charts.tiles import arrange, draw_picture
from cam.pages.ui.performance.estimates import get_interval, write_estimate
from cam.pages.ui.performance.measurement_job import measure_speed
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.links import choose_several
from cam.pages.ui.widgets.prose import write_small

METHODS = ("gradcam", "layercam", "saliency")
EXACT = "fp32"
# Of a map, in pixels: two stand side by side on a phone.
NARROWEST = 165


def choose_precisions(subject: Subject) -> tuple[str, ...]:
    """Choose the precisions that are measured beside fp32."""
    device = subject.model.device
    available = [name for name in available_precisions(device) if name != EXACT]
    more: dict[str, Any] = {
        "default": [name for name in available if device.type == "cuda" or name != "fp16"],
        "pills": True,
        "help": "A CPU without instructions for 16-bit numbers takes many times as long.",
    }
    label = f"Activation dtype beside {EXACT}"
    names = tuple(choose_several(label, available, "precisions", "precision", **more))
    if device.type != "cuda":
        write_small("There is no GPU here: these are the CPU's figures, and a CPU has no tf32.")
    return names


def measure_precisions(subject: Subject, names: tuple[str, ...]) -> None:
    """Measure each precision's speed, and show its maps beside those in fp32."""

    def draw_maps(measured: list[speed.Fidelity]) -> None:
        for method in METHODS:
            view_record.markdown(f"**{cam.methods()[method].title}**")
            rows = [row for row in measured if row.method == method]
            maps = [_draw_map(row, subject.crop) for row in rows]
            view_record.html(arrange(maps, NARROWEST))

    run = partial(speed.by_precision, methods=METHODS, precisions=names)
    what = ("precisions", names)
    measure_speed(subject, run, draw_speeds, "Measure precisions", what, more=draw_maps)


def write_code(names: tuple[str, ...]) -> str:
    """Write the Python behind the measurement."""
    return (
        f"rows = speed.by_precision(model, batch, {METHODS}, {names})\n"
        "for row in rows:\n"
        "    print(row.method, row.precision, row.speed.images_per_second.median, row.spearman)\n"
    )


def draw_speeds(measured: Sequence[speed.Fidelity]) -> None:
    """Draw one bar a method and precision, with what it costs in fidelity."""
    exact = {row.method: row for row in measured if row.precision == EXACT}
    for name in exact:
        title = cam.methods()[name].title
        view_record.markdown(f"**{title}, images/s**")
        drawn = [_make_bar(row, exact[name]) for row in measured if row.method == name]
        view_record.html(draw_bars(drawn, f"{title}: images/s by precision"))


def _make_bar(row: speed.Fidelity, exact: speed.Fidelity) -> Bar:
    each = row.speed.images_per_second
    name, figure, ink = EXACT, write_estimate(each), NEUTRAL
    if row is not exact:
        times = row.speed.relative_to(exact.speed)
        name, ink = f"{row.precision}, {_describe_order(row)}", HIGHLIGHT
        figure += f" · {write_estimate(times, ' ×')}"
    return Bar(name, each.median, figure, ink, get_interval(each))


def _draw_map(row: speed.Fidelity, crop: Image) -> tuple[str, str]:
    info = cam.methods()[row.method]
    assert row.heatmap is not None
    blended = cam.overlay(crop, row.heatmap[0], "inferno", 0.6, info.percentile)
    line = f"<b>{EXACT}</b>, which the others are compared with"
    if row.precision != EXACT:
        order = _describe_order(row)
        line = f"<b>{row.precision}</b>: {order}, brightest 5 %: {row.overlap:.0%} the same"
    return draw_picture(blended, f"{info.title} in {row.precision}"), line


def _describe_order(row: speed.Fidelity) -> str:
    return "no order" if math.isnan(row.spearman) else f"Spearman {row.spearman:.3f}"
