"""Browse a run's images, best or worst first."""

from typing import Any

import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.charts.numbers import format_value
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.opened_run import query, show_overlay, title_method
from cam.pages.ui.server import router
from cam.pages.ui.subject import run_pictures
from cam.pages.ui.widgets.links import choose, choose_number
from cam.pages.ui.widgets.prose import (
    as_sentence,
    report_errors,
    show_png,
    write_heading,
    write_small,
)

A_PAGE = 12
A_ROW = 4
WORST, BEST = "Worst first", "Best first"


def show_images(run: cam.Run, name: str) -> None:
    """Show a grid sorted by a metric, or the image that the address names."""
    number = st.query_params.get("item")
    if number is not None:
        st.button("Back to all images", icon=":material/arrow_back:", on_click=leave_image)
        if number.isdigit():
            with report_errors():
                _show_image(run, name, int(number))
        else:
            st.error(f"The link asks for the image {number!r}, which is no number.")
        return
    left, middle, right = st.columns(3)
    with left:
        metric = opened_run.choose_metric(run)
    with middle:
        method = opened_run.choose_method(run)
    with right:
        order = choose("Order", (WORST, BEST), "order")
    opened_run.describe_metric(run, metric)
    board = query(run, "leaderboard")
    row = board[(board["metric"] == metric) & (board["method"] == method)]
    total = int(row["n"].iloc[0]) if len(row) else 0
    if not total:
        st.info("No image has a value of this metric and method.")
        return
    pages = -(-total // A_PAGE)
    page = choose_number(f"Page of {pages:,}", 1, pages, "page") if pages > 1 else 1
    part: dict[str, Any] = {"worst": order == WORST, "start": (page - 1) * A_PAGE, "count": A_PAGE}
    rows = query(run, "ordered", metric, method, **part)
    images = query(run, "pictures", rows["item"].tolist()) if len(rows) else {}
    cells = [column for _ in range(0, len(rows), A_ROW) for column in st.columns(A_ROW)]
    for column, row in zip(cells, rows.itertuples(), strict=False):
        with column:
            _draw_cell(images[row.item], row, method)


def _draw_cell(image: Any, row: Any, method: str) -> None:
    show_overlay(image, method, f"{title_method(method)} of {row.id}")
    st.button(
        row.id,
        key=f"look {row.item}",
        on_click=st.query_params.update,
        kwargs={"item": str(row.item)},
        width="stretch",
    )
    label, predicted = row.label, row.predicted_label
    words = "as predicted" if label == predicted else f"predicted {predicted}"
    write_small(f"**{format_value(row.value)}** · {label}, {words}")


def leave_image() -> None:
    """Forget the image that the address names."""
    st.query_params.pop("item", None)


def _show_image(run: cam.Run, name: str, number: int) -> None:
    image = query(run, "image", number)
    facts = image.facts
    st.subheader(str(facts["id"]), anchor=False)
    if facts.get("reason"):
        st.warning(as_sentence(f"it was skipped: {facts['reason']}"))
        return
    st.markdown(
        f"Explained for **{facts['label']}** (the model gives it {facts['probability']:.1%}); "
        f"predicted **{facts['predicted_label']}** with {facts['confidence']:.1%}."
    )
    with st.container(horizontal=True):
        _offer_explore(run, name, number, facts)
    methods = [method for method in run.methods if method in image.heatmaps]
    cells = st.columns(max(A_ROW, len(methods) + 1))
    if image.picture is not None:
        with cells[0]:
            show_png(png_bytes(image.picture), f"What the model saw of {facts['id']}")
            write_small("What the model saw")
    for column, method in zip(cells[1:], methods, strict=False):
        title = title_method(method)
        with column:
            if show_overlay(image, method, f"{title} of {facts['id']}"):
                write_small(title)
    if not run.config.get("heatmaps"):
        write_small("This run kept no heatmaps.")
    write_heading("Its scores")
    opened_run.show_table(image.scores.assign(reason=image.scores["reason"].fillna("")))


def _offer_explore(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> None:
    try:
        link = run_pictures.make_link(run, name, number, facts)
    except cam.CamError as error:
        write_small(as_sentence(f"it cannot be opened in Explore: {error}"))
        return
    label, icon = "Open in Explore", ":material/search:"
    st.page_link(router.PAGES / "explore.py", label=label, icon=icon, query_params=link)
