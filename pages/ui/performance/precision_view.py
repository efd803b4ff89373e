"""Show each precision's speed and how far its maps move."""

import math

import streamlit as st
from PIL.Image import Image

import cam
from cam._engine.precision import available_precisions
from cam._performance import speed
from cam.pages.ui.performance import bars
from cam.pages.ui.performance.measurement_job import measure, timed
from cam.pages.ui.performance.speed_view import batch_of, key_of
from cam.pages.ui.server import resources
from cam.pages.ui.subject.subject_form import Subject
from cam.pages.ui.widgets import controls, html_charts
from cam.pages.ui.widgets.charts import CHOSEN
from cam.pages.ui.widgets.text import small

ROUNDS = 3
METHODS = ("gradcam", "layercam", "saliency")
EXACT = "fp32"
# Of a map, in pixels: two stand side by side on a phone.
NARROWEST = 165


def precisions(subject: Subject) -> None:
    """Each precision's images per second, beside how far its maps are from fp32's."""
    device = subject.model.device
    known = [one for one in available_precisions(device) if one != EXACT]
    st.markdown(
        "Shorter numbers can be quicker to compute with, and they move the maps. How much depends "
        f"on the method: look at both, beside the maps in {EXACT}."
    )
    controls.check_link("precisions", "precision", known)
    chosen = st.pills(
        f"Beside {EXACT}",
        known,
        selection_mode="multi",
        default=[one for one in known if device.type == "cuda" or one != "fp16"],
        key="precisions",
        bind="query-params",
        help="A CPU takes about ten times as long for fp16.",
    )
    if device.type != "cuda":
        small("There is no GPU here: these are the CPU's figures, and a CPU has no tf32.")

    def work(report: speed.Report) -> list[speed.Fidelity]:
        model, batch = batch_of(subject, 1)
        return speed.by_precision(model, batch, METHODS, tuple(chosen), ROUNDS, report=report)

    def draw_maps(found: list[speed.Fidelity]) -> None:
        seen = resources.seen(
            subject.name, subject.trained, subject.picture.digest, subject.picture
        )
        for name in METHODS:
            st.markdown(f"**{cam.methods()[name].title}**")
            rows = [one for one in found if one.method == name]
            st.html(html_charts.side_by_side([_map(one, seen) for one in rows], NARROWEST))

    about = f"Medians of {ROUNDS} interleaved rounds; {subject.name}, one picture;"
    key = key_of(subject, "precision", tuple(chosen))
    measure(key, "Measuring", timed(work, about), draw_speeds, more=draw_maps)


def draw_speeds(found: list[speed.Fidelity]) -> None:
    """One bar a method and precision, with what it costs in fidelity."""
    exact = {one.method: one for one in found if one.precision == EXACT}
    for name in exact:
        rows = [
            (
                one.precision if one.precision == EXACT else f"{one.precision}, {_rank(one)}",
                one.speed.images_per_second,
                f"{one.speed.images_per_second:.1f} images/s{_gain(one, exact[name])}",
                bars.PLAIN if one.precision == EXACT else CHOSEN,
            )
            for one in found
            if one.method == name
        ]
        title = cam.methods()[name].title
        st.markdown(f"**{title}, images a second**")
        st.html(bars.bars(rows, f"{title}: images a second by precision"))


def _gain(one: speed.Fidelity, exact: speed.Fidelity) -> str:
    if one is exact:
        return ""
    times = one.speed.images_per_second / exact.speed.images_per_second
    return f", {times:.1f} × {EXACT}"


def _map(one: speed.Fidelity, seen: Image) -> tuple[str, str]:
    info = cam.methods()[one.method]
    blended = cam.overlay(seen, one.heatmap[0], "inferno", 0.6, info.percentile)
    drawing = html_charts.image(blended, f"{info.title} in {one.precision}")
    if one.precision == EXACT:
        return drawing, f"<b>{EXACT}</b>, which the others are compared with"
    return (
        drawing,
        f"<b>{one.precision}</b>: {_rank(one)}, brightest 5 %: {one.overlap:.0%} the same",
    )


def _rank(one: speed.Fidelity) -> str:
    return "no order" if math.isnan(one.spearman) else f"Spearman {one.spearman:.3f}"
