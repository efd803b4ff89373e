"""Browse a run's images, best or worst first."""

from typing import Any

import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam.pages.ui.datasets.opened_run import (
    ask,
    choose_method,
    choose_metric,
    describe_metric,
    method_title,
    overlaid,
    show_table,
)
from cam.pages.ui.server import router
from cam.pages.ui.subject import run_pictures
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.html_charts import shown
from cam.pages.ui.widgets.text import heading, small

A_PAGE = 12
A_ROW = 4
WORST, BEST = "Worst first", "Best first"


def show_images(run: cam.Run, name: str) -> None:
    """A grid sorted by a metric, or the image that the address names."""
    asked = st.query_params.get("item")
    if asked is not None:
        st.button("Back to all images", icon=":material/arrow_back:", on_click=_leave)
        if not asked.isdigit():
            st.error(f"The link asks for the image {asked!r}, which is no number.")
            return
        _one(run, name, int(asked))
        return
    left, middle, right = st.columns(3)
    with left:
        metric = choose_metric(run)
    with middle:
        method = choose_method(run)
    with right:
        controls.check_link("order", "order", (WORST, BEST))
        order = st.selectbox("Order", (WORST, BEST), key="order", bind="query-params")
    describe_metric(run, metric)
    board = ask(run, "leaderboard")
    row = board[(board["metric"] == metric) & (board["method"] == method)]
    total = int(row["n"].iloc[0]) if len(row) else 0
    if not total:
        st.info("No image has a value of this metric and method.")
        return
    pages = -(-total // A_PAGE)
    number = 1
    if pages > 1:
        controls.check_number("page", "Page", 1, pages)
        number = st.number_input(f"Page of {pages:,}", 1, pages, key="page", bind="query-params")
    rows = ask(
        run,
        "ordered",
        metric,
        method,
        worst=order == WORST,
        start=(number - 1) * A_PAGE,
        count=A_PAGE,
    )
    images = ask(run, "pictures", rows["item"].tolist()) if len(rows) else {}
    cells = [column for _ in range(0, len(rows), A_ROW) for column in st.columns(A_ROW)]
    for column, one in zip(cells, rows.itertuples(), strict=False):
        with column:
            _cell(images[one.item], one, method)


def _cell(image: Any, row: Any, method: str) -> None:
    picture = overlaid(image, method)
    if picture is not None:
        controls.show_png(png_bytes(picture), f"{method_title(method)} of {row.id}")
    st.button(row.id, key=f"look {row.item}", on_click=_look, args=(row.item,), width="stretch")
    small(f"**{shown(row.value)}** · {_said(row.label, row.predicted_label)}")


def _said(label: object, predicted: object) -> str:
    if label == predicted:
        return f"{label}, as predicted"
    return f"{label}, predicted {predicted}"


def _look(item: int) -> None:
    st.query_params["item"] = str(item)


def _leave() -> None:
    st.query_params.pop("item", None)


def _one(run: cam.Run, name: str, number: int) -> None:
    try:
        image = ask(run, "image", number)
    except cam.RunError as error:
        st.error(controls.sentence(error))
        return
    facts = image.facts
    st.subheader(str(facts["id"]), anchor=False)
    if facts.get("reason"):
        st.warning(controls.sentence(f"it was skipped: {facts['reason']}"))
        return
    st.markdown(
        f"Explained for **{facts['label']}** (the model gives it {facts['probability']:.1%}); "
        f"predicted **{facts['predicted_label']}** with {facts['confidence']:.1%}."
    )
    with st.container(horizontal=True):
        _explore(run, name, number, facts)
    shown_ones = [one for one in run.methods if one in image.heatmaps]
    cells = st.columns(max(A_ROW, len(shown_ones) + 1))
    if image.picture is not None:
        with cells[0]:
            controls.show_png(png_bytes(image.picture), f"What the model saw of {facts['id']}")
            small("What the model saw")
    for column, method in zip(cells[1:], shown_ones, strict=False):
        picture = overlaid(image, method)
        if picture is not None:
            with column:
                controls.show_png(png_bytes(picture), f"{method_title(method)} of {facts['id']}")
                small(method_title(method))
    if not run.config.get("heatmaps"):
        small("This run kept no heatmaps.")
    heading("Its scores")
    show_table(image.scores.assign(reason=image.scores["reason"].fillna("")))


def _explore(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> None:
    try:
        link = run_pictures.link(run, name, number, facts)
    except cam.CamError as error:
        small(controls.sentence(f"it cannot be opened in Explore: {error}"))
        return
    st.page_link(
        router.PAGES / "explore.py",
        label="Open in Explore",
        icon=":material/search:",
        query_params=link,
    )
