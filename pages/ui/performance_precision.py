"""Speed against fidelity, with the maps: what each precision gains, and what it moves."""

import math

import streamlit as st

import cam
from cam import speed
from cam.files import png_bytes
from cam.models.precision import available_precisions
from pages.ui import controls, resources
from pages.ui.choosing import Subject
from pages.ui.performance_job import measure, timed
from pages.ui.performance_speed import batch_of, key_of
from pages.ui.steps import small

ROUNDS = 3
METHODS = ("gradcam", "layercam", "saliency")


def precisions(subject: Subject) -> None:
    """Each precision's images per second, beside how far its maps are from fp32's."""
    device = subject.model.device
    known = available_precisions(device)
    st.markdown(
        "A shorter number is quicker to compute with, and moves the maps. How much depends on the "
        "method: look at both."
    )
    controls.check_link("precisions", "precision", known)
    chosen = st.pills(
        "Precisions",
        known,
        selection_mode="multi",
        default=[one for one in known if device.type == "cuda" or one != "fp16"],
        key="precisions",
        bind="query-params",
        help="fp32 is always measured. A CPU takes about ten times as long for fp16.",
    )
    if device.type != "cuda":
        small(
            "There is no GPU here: tf32 does not exist on a CPU, and these are the CPU's figures."
        )

    def work(report: speed.Report) -> list[speed.Fidelity]:
        model, batch = batch_of(subject, 1)
        return speed.by_precision(model, batch, METHODS, chosen, ROUNDS, report=report)

    def draw(found: list[speed.Fidelity]) -> None:
        seen = resources.seen(
            subject.name, subject.trained, subject.picture.digest, subject.picture
        )
        for name in METHODS:
            rows = [one for one in found if one.method == name]
            if not rows:
                continue
            info = cam.methods()[name]
            st.markdown(f"**{info.title}**")
            for column, one in zip(st.columns(len(known)), rows, strict=False):
                with column:
                    blended = cam.overlay(seen, one.heatmap[0], "inferno", 0.6, info.percentile)
                    controls.show_png(png_bytes(blended), f"{info.title} in {one.precision}")
                    st.markdown(f"{one.precision}: **{one.speed.images_per_second:.1f}** images/s")
                    if one.precision == "fp32":
                        small("what the others are compared with")
                        continue
                    rank = "none" if math.isnan(one.spearman) else f"{one.spearman:.3f}"
                    small(f"Spearman {rank}, brightest 5 %: {one.overlap:.0%} the same")

    about = f"Medians of {ROUNDS} interleaved rounds; {subject.name}, one picture;"
    key = key_of(subject, "precision", tuple(chosen))
    measure(key, "Measuring", timed(work, about), draw)
