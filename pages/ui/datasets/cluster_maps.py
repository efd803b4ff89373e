"""Show where a model looks: mean maps and groups of maps."""

from typing import Any

import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.clusters import FEWEST, describe_clusters
from cam.pages.ui.datasets.opened_run import (
    ask,
    choose_method,
    mean_map,
    method_title,
    overlaid,
    version,
)
from cam.pages.ui.server import jobs
from cam.pages.ui.widgets import controls, html_charts
from cam.pages.ui.widgets.text import heading, small

CLASSES = 8
LIMIT = 1000
TYPICAL = 4
EVERY = "All classes"


def show_where(run: cam.Run) -> None:
    """The mean map of each class, and groups of images of one class."""
    st.markdown(
        "A model that goes by a **watermark, a border or a background** scores well, and so do its "
        "heatmaps. What shows it is where the evidence lies over many pictures: a class whose mean "
        "map is bright in a corner, or a group of its images whose heat lies elsewhere than that "
        "of the others."
    )
    if not run.config.get("heatmaps"):
        st.info("This run kept no heatmaps.")
        return
    method = choose_method(run, baselines=False)
    try:
        averages = ask(run, "class_averages", method)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return
    heading("Mean map of each class")
    rows = averages.table.head(CLASSES)
    st.html(
        html_charts.side_by_side(
            (
                html_charts.image(mean_map(heatmap), f"Mean {method_title(method)} of {row.label}"),
                f"{row.label}<br>{row.images:,} images"
                + (f", {row.blank:,} without a map" if row.blank else ""),
            )
            for heatmap, row in zip(averages.maps, rows.itertuples(), strict=False)
        )
    )
    small("Each from 0 to its own maximum: bright is where most of the class's heat lies.")
    if len(averages.table) > CLASSES:
        small(f"The largest {CLASSES} of {len(averages.table):,} classes.")
    heading("Groups of images whose maps are alike")
    labels = [EVERY, *averages.table["label"].tolist()]
    controls.check_link("label", "class", labels)
    label = st.selectbox("Images of", labels, key="label", bind="query-params")
    _groups(run, method, None if label == EVERY else label)


def _groups(run: cam.Run, method: str, label: str | None) -> None:
    key = (version(run), method, label)
    try:
        found = jobs.result(
            ("clusters", key),
            "Grouping the heatmaps",
            lambda _tell: run.clusters(method, label, limit=LIMIT),
        )
    except cam.CamError as error:
        st.info(controls.sentence(error))
        return
    if found is None:
        return
    st.markdown(controls.sentence(_verdict(found)))
    if len(found.table) > 1:
        for row, heatmap in zip(found.table.itertuples(), found.maps, strict=True):
            _group(run, method, row, heatmap)
    small(
        f"{controls.sentence(describe_clusters(found))} Spectral relevance analysis: maps are "
        f"with their nearest, and the graph falls into groups. It takes at least {FEWEST} images, "
        "and a group of a handful among many is not found."
    )


def _verdict(found: Any) -> str:
    if len(found.table) == 1:
        return (
            "**One group**: over these images the model looks at alike places, or at places that "
            "pass into each other, so no shortcut of some of the images shows"
        )
    return (
        f"**{len(found.table)} groups**: look whether one of them has its heat on something that "
        "is not the object, such as a corner or a text; then that is what the model goes by there"
    )


def _group(run: cam.Run, method: str, row: Any, heatmap: Any) -> None:
    apart = "" if row.apart != row.apart else f", {row.apart:.0%} of its heat elsewhere"
    right = "" if row.correct != row.correct else f", {row.correct:.0%} predicted right"
    st.markdown(
        f"**Group {row.cluster + 1}**: {row.size:,} images ({row.share:.0%}){right}{apart}; "
        f"brightest {row.row:.0%} from the top and {row.column:.0%} from the left"
    )
    images = ask(run, "pictures", list(row.representatives[:TYPICAL]))
    cells = st.columns(TYPICAL + 1)
    with cells[0]:
        controls.show_png(png_bytes(mean_map(heatmap)), f"Mean map of group {row.cluster + 1}")
        small("Its mean")
    for column, image in zip(cells[1:], images.values(), strict=False):
        picture = overlaid(image, method)
        if picture is not None:
            with column:
                name = image.facts["id"]
                controls.show_png(png_bytes(picture), f"{name}, typical of group {row.cluster + 1}")
                small(f"{name}")
