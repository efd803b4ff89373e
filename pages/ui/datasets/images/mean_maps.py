"""Show where a model looks: mean maps and groups of maps."""

from typing import Any

import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.gallery.clusters import FEWEST, describe_clusters
from cam._runs.results.titles import title_method, word_sentences
from cam.pages.ui.charts.tiles import arrange, draw_picture
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import choose_method, draw_mean, query
from cam.pages.ui.server import jobs
from cam.pages.ui.server.resources import identify_run
from cam.pages.ui.widgets import view_record
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
# A mean of fewer is no mean.
SEVERAL = 2
TYPICAL = 4
EVERY = "All classes"


def show_where(run: cam.Run) -> None:
    """Show the mean map of each class, and groups of images of one class."""
    view_record.markdown(
        "A model that uses a **watermark, a border or a background** shows it over many images: a "
        "class whose mean map is bright in a corner, or a cluster of maps unlike the others."
    )
    if not run.config.get("heatmaps"):
        view_record.info("This run kept no heatmaps.")
        return
    method = choose_method(run, baselines=False)
    with report_errors():
        _show_classes(run, method)


def _show_classes(run: cam.Run, method: str) -> None:
    averages = query(run, "class_averages", method)
    write_heading("Mean map of each class")
    drawings: list[tuple[str, str]] = []
    several = averages.table["images"] >= SEVERAL
    for heatmap, row in zip(averages.maps, averages.table[several].itertuples(), strict=False):
        if len(drawings) == CLASSES:
            break
        alt = f"Mean {title_method(method)} of {row.label}"
        blank = f", {row.blank:,} without a map" if row.blank else ""
        line = f"{row.label}<br>{row.images:,} images{blank}"
        drawings.append((draw_picture(draw_mean(heatmap), alt), line))
    if drawings:
        view_record.html(arrange(drawings))
        write_small("Each from 0 to its own maximum: bright is where most of the evidence lies.")
    else:
        view_record.info("No class has several images, so there is nothing to average.")
    if several.sum() > CLASSES:
        write_small(f"The largest {CLASSES} of {several.sum():,} classes with several images.")
    write_heading("Clusters of maps")
    labels = [EVERY, *averages.table["label"].tolist()]
    label = choose("Images of", labels, "label", "class")
    _show_groups(run, method, None if label == EVERY else label)


def _show_groups(run: cam.Run, method: str, label: str | None) -> None:
    key = ("clusters", identify_run(run), method, label)
    try:
        clusters = jobs.wait_for(
            key,
            "Clustering the maps",
            lambda _tell: run.clusters(method, label, limit=LIMIT),
        )
    except cam.CamError as error:
        view_record.info(as_sentence(error))
        return
    if clusters is None:
        return
    (words,) = word_sentences([describe_clusters(clusters)], run.methods, ())
    view_record.markdown(as_sentence(_describe_groups(len(clusters.table))))
    if len(clusters.table) > 1:
        for row, heatmap in zip(clusters.table.itertuples(), clusters.maps, strict=True):
            _show_group(run, method, row, heatmap)
    write_small(
        f"{as_sentence(words)} Spectral relevance analysis: spectral "
        f"clustering of the maps, of {FEWEST} images and more; a handful among many is not found."
    )


def _describe_groups(count: int) -> str:
    if count == 1:
        return (
            "**One cluster**: the maps of these images are alike or vary continuously, so no "
            "shortcut of some of the images shows"
        )
    return (
        f"**{count} clusters**: look whether the evidence of one lies on something that is not the "
        "object, such as a corner or a text; then that is what the model uses there"
    )


def _show_group(run: cam.Run, method: str, row: Any, heatmap: Any) -> None:
    apart = "" if row.apart != row.apart else f", {row.apart:.0%} of its evidence elsewhere"
    right = "" if row.correct != row.correct else f", {row.correct:.0%} predicted right"
    view_record.markdown(
        f"**Cluster {row.cluster + 1}**: {row.size:,} images ({row.share:.0%}){right}{apart}; "
        f"brightest {row.row:.0%} from the top and {row.column:.0%} from the left"
    )
    images = query(run, "pictures", list(row.representatives[:TYPICAL]))
    cells = st.columns(TYPICAL + 1)
    with cells[0]:
        show_png(png_bytes(draw_mean(heatmap)), f"Mean map of cluster {row.cluster + 1}")
        write_small("Its mean")
    for column, image in zip(cells[1:], images.values(), strict=False):
        name = image.facts["id"]
        with column:
            if opened_run.show_overlay(
                image, method, f"{name}, typical of cluster {row.cluster + 1}"
            ):
                write_small(f"{name}")
