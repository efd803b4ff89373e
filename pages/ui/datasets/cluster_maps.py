"""Show where a model looks: mean maps and groups of maps."""

from typing import Any

import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.clusters import FEWEST, describe_clusters
from cam.pages.ui.charts.tiles import arrange, draw_picture
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import choose_method, draw_mean, query, title_method
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import identify_run
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import (
    as_sentence,
    report_errors,
    show_png,
    write_heading,
    write_small,
)

CLASSES = 8
LIMIT = 1000
TYPICAL = 4
EVERY = "All classes"


def show_where(run: cam.Run) -> None:
    """Show the mean map of each class, and groups of images of one class."""
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
    with report_errors():
        _show_classes(run, method)


def _show_classes(run: cam.Run, method: str) -> None:
    averages = query(run, "class_averages", method)
    write_heading("Mean map of each class")
    drawings = []
    for heatmap, row in zip(averages.maps, averages.table.head(CLASSES).itertuples(), strict=False):
        alt = f"Mean {title_method(method)} of {row.label}"
        blank = f", {row.blank:,} without a map" if row.blank else ""
        line = f"{row.label}<br>{row.images:,} images{blank}"
        drawings.append((draw_picture(draw_mean(heatmap), alt), line))
    st.html(arrange(drawings))
    write_small("Each from 0 to its own maximum: bright is where most of the class's heat lies.")
    if len(averages.table) > CLASSES:
        write_small(f"The largest {CLASSES} of {len(averages.table):,} classes.")
    write_heading("Groups of images whose maps are alike")
    labels = [EVERY, *averages.table["label"].tolist()]
    label = choose("Images of", labels, "label", "class")
    _show_groups(run, method, None if label == EVERY else label)


def _show_groups(run: cam.Run, method: str, label: str | None) -> None:
    key = ("clusters", identify_run(run), method, label)
    try:
        clusters = jobs.wait_for(
            key,
            "Grouping the heatmaps",
            lambda _tell: run.clusters(method, label, limit=LIMIT),
        )
    except cam.CamError as error:
        st.info(as_sentence(error))
        return
    if clusters is None:
        return
    st.markdown(as_sentence(_describe_groups(len(clusters.table))))
    if len(clusters.table) > 1:
        for row, heatmap in zip(clusters.table.itertuples(), clusters.maps, strict=True):
            _show_group(run, method, row, heatmap)
    write_small(
        f"{as_sentence(describe_clusters(clusters))} Spectral relevance analysis: maps are joined "
        f"with their nearest, and the graph falls into groups. It takes at least {FEWEST} images, "
        "and a group of a handful among many is not found."
    )


def _describe_groups(count: int) -> str:
    if count == 1:
        return (
            "**One group**: over these images the model looks at alike places, or at places that "
            "pass into each other, so no shortcut of some of the images shows"
        )
    return (
        f"**{count} groups**: look whether one of them has its heat on something that "
        "is not the object, such as a corner or a text; then that is what the model goes by there"
    )


def _show_group(run: cam.Run, method: str, row: Any, heatmap: Any) -> None:
    apart = "" if row.apart != row.apart else f", {row.apart:.0%} of its heat elsewhere"
    right = "" if row.correct != row.correct else f", {row.correct:.0%} predicted right"
    st.markdown(
        f"**Group {row.cluster + 1}**: {row.size:,} images ({row.share:.0%}){right}{apart}; "
        f"brightest {row.row:.0%} from the top and {row.column:.0%} from the left"
    )
    images = query(run, "pictures", list(row.representatives[:TYPICAL]))
    cells = st.columns(TYPICAL + 1)
    with cells[0]:
        show_png(png_bytes(draw_mean(heatmap)), f"Mean map of group {row.cluster + 1}")
        write_small("Its mean")
    for column, image in zip(cells[1:], images.values(), strict=False):
        name = image.facts["id"]
        with column:
            if opened_run.show_overlay(
                image, method, f"{name}, typical of group {row.cluster + 1}"
            ):
                write_small(f"{name}")
