"""Show a run's images as thumbnails, sorted by what may be wrong."""

from typing import Any

import pandas
import streamlit as st

import cam
from cam._runs.results.gallery.image_measures import MEASURES
from cam._runs.results.titles import title_metric
from cam.pages.ui.charts.numbers import format_value
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.images.one_image import show_image
from cam.pages.ui.datasets.images.thumbnails import Cell, show_gallery
from cam.pages.ui.datasets.opened_run import query
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.links import choose, choose_number, parse_index
from cam.pages.ui.widgets.prose import report_errors, write_small

A_PAGE = 200
WORST, BEST = "Worst first", "Best first"
# Of these measures more is better.
RISING = ("confidence",)
CELL = "cell"
# Between the two classes of a cell of the confusion matrix, in the address.
ARROW = " → "


def show_images(run: cam.Run, name: str) -> None:
    """Show the gallery, or the image that the address names."""
    number = address.get_value("item")
    if number is None:
        _show_all(run)
        return
    st.button("Back to all images", icon=":material/arrow_back:", on_click=leave_image)
    index = parse_index(number)
    if index is None:
        st.error(f"The link asks for the image {number[:60]!r}, which is no number.")
        return
    with report_errors():
        show_image(run, name, index)


def leave_image() -> None:
    """Forget the image that the address names."""
    address.write({"item": None})


def _show_all(run: cam.Run) -> None:
    run = _choose_cell(run)
    measures = {key: title for key, (title, _) in MEASURES.items()}
    if not run.config.get("heatmaps"):
        measures = {}
    titles = {key: title_metric(key) for key in run.metrics} | measures
    left, middle, right = st.columns(3)
    with left:
        measure = choose("Sort by", titles, "sort", "order", forget=("page",))
    with middle:
        method = opened_run.choose_method(run)
    with right:
        order = choose("Order", (WORST, BEST), "order", forget=("page",))
    if measure in measures:
        write_small(MEASURES[measure][1])
    else:
        opened_run.describe_metric(run, measure)
    table = _sort(run, measure, method, order == WORST)
    if table.empty:
        view_record.info("No image has a value of this metric and method.")
        return
    pages = -(-len(table) // A_PAGE)
    page = choose_number(f"Page of {pages:,}", 1, pages, "page") if pages > 1 else 1
    part = table.iloc[(page - 1) * A_PAGE : page * A_PAGE]
    show_gallery(run, method, make_cells(part), "gallery")
    missing = run.done - len(table)
    if missing and not run.parts and run.numbers is None:
        write_small(f"{missing:,} images have no value of it; the leaderboard says why.")


def _choose_cell(run: cam.Run) -> cam.Run:
    """Restrict the run to the cell of the confusion matrix that the address names."""
    cell = address.get_value(CELL)
    if cell is None:
        return run
    label, _, predicted = cell.partition(ARROW)
    items = query(run, "confused", label, predicted)
    with st.container(horizontal=True, vertical_alignment="center"):
        count = f"{len(items):,} image{'' if len(items) == 1 else 's'}"
        view_record.markdown(f"{count} of **{label}** predicted as **{predicted}**")
        forget = {CELL: None}
        st.button("All images", icon=":material/close:", on_click=address.write, args=(forget,))
    return run.only(items=items)


def _sort(run: cam.Run, measure: str, method: str, worst: bool) -> pandas.DataFrame:
    """Sort the images that have a value: their column is ``value``."""
    if measure in run.metrics:
        rows: pandas.DataFrame = query(
            run, "ordered", measure, method, worst=worst, count=run.total
        )
        return rows
    rows = query(run, "image_measures", method)
    rows = rows.assign(value=rows[measure].astype(float)).dropna(subset=["value"])
    rising = (measure in RISING) == worst
    return rows.sort_values("value", ascending=rising, kind="stable")


def make_cells(rows: pandas.DataFrame) -> list[Cell]:
    """Make the thumbnails of rows of items; their figure is ``value`` where there is one."""
    return [_make_cell(row) for row in rows.to_dict("records")]


def _make_cell(row: dict[Any, Any]) -> Cell:
    value = row.get("value")
    figure = "" if value is None else format_value(float(value))
    # Of images without a known class nothing is wrong.
    wrong = row.get("correct") is not None and row["correct"] == False  # noqa: E712
    label = str(row["label"])
    line = f"{label}, predicted {row['predicted_label']}" if wrong else label
    return Cell(int(row["item"]), figure, line, wrong)
