"""Show a run's images as points, and those in a lasso."""

from html import escape
from typing import Any

import numpy as np
import pandas
import streamlit as st

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.gallery.placement import LIMIT, PCA, SPECTRAL
from cam._runs.results.titles import title_method, title_metric
from cam._runs.statistics.intervals import FEWEST, describe_sample
from cam.kernels.blending.colormaps import colormap_table
from cam.pages.ui.charts.plots import plot_intervals
from cam.pages.ui.datasets import opened_run
from cam.pages.ui.datasets.images.gallery import A_PAGE, make_cells
from cam.pages.ui.datasets.images.thumbnails import show_gallery
from cam.pages.ui.datasets.opened_run import draw_mean, query
from cam.pages.ui.state import address
from cam.pages.ui.state.visitor import read_widget
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.links import choose, warn
from cam.pages.ui.widgets.prose import show_png, write_heading, write_small

PLOT, SELECTED = "plane", "selected"
WAYS = {PCA: "Principal components", SPECTRAL: "Spectral embedding"}
CLASS, CORRECT, CONFIDENCE = "class", "correct", "confidence"
COLOURS = {CLASS: "Class", CORRECT: "Right or wrong", CONFIDENCE: "Confidence"}
# Okabe and Ito's colours, which any eyes tell apart; there are no more of them.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442")
GREY = "#888888"
MOST_CLASSES = len(PALETTE)
OTHERS = "other classes"
RIGHT, WRONG, UNKNOWN = "right", "wrong", "class unknown"
HEIGHT = 460


def show_placement(run: cam.Run) -> None:
    """Show the plane, and what a lasso selects on it."""
    left, middle, right = st.columns(3)
    with left:
        method = opened_run.choose_method(run, baselines=False)
    with middle:
        way = choose("Axes", WAYS, "axes", forget=(SELECTED,))
    with right:
        colour = choose("Colour", COLOURS, "colour")
    if not run.config.get("heatmaps"):
        view_record.info("This run kept no heatmaps.")
        return
    placement = query(run, "placement", method, way)
    _draw_plane(placement, colour)
    sampled = len(placement.items) + placement.blank < placement.total
    write_small(
        f"Each point is an image; near ones have alike {title_method(method)} maps (14 × 14, of "
        "length 1). Draw a lasso or a box around some to see them."
        + (f" A sample of {LIMIT:,} of {placement.total:,} images." if sampled else "")
        + (f" {placement.blank:,} without evidence are left out." if placement.blank else "")
    )
    items = read_selected(placement.items)
    if items:
        _show_selected(run.only(items=items), method)


def read_selected(table: pandas.DataFrame) -> list[int]:
    """Read which images the address selects."""
    text = address.get_value(SELECTED)
    if text is None:
        return []
    here = set(table["item"].tolist())
    items = parse_ranges(text)
    if items is None:
        warn(text, "selection", [])
        return []
    return [item for item in items if item in here]


def _draw_plane(placement: Any, colour: str) -> None:
    """Draw a point an image; a lasso writes the address."""
    import plotly.graph_objects as plotly

    figure = plotly.Figure()
    x, y = placement.axes
    for name, rows, marker in _split(placement.items, colour):
        figure.add_trace(
            plotly.Scatter(
                x=rows["x"].round(5),
                y=rows["y"].round(5),
                mode="markers",
                name=name,
                marker={"size": 9, "opacity": 0.85, "line": {"width": 0.5}, **marker},
                customdata=rows[["item", "id", "label", "predicted_label"]].to_numpy(),
                hovertemplate="%{customdata[1]}<br>%{customdata[2]}, predicted %{customdata[3]}"
                "<extra></extra>",
            )
        )
    figure.update_layout(
        height=HEIGHT,
        dragmode="lasso",
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        xaxis_title=x,
        yaxis_title=y,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0},
        showlegend=colour != CONFIDENCE,
    )
    view_record.record_html(draw_points(placement.axes, _split(placement.items, colour)))
    st.plotly_chart(
        figure,
        key=PLOT,
        on_select=take_lasso,
        selection_mode=("lasso", "box", "points"),
        config={"displaylogo": False, "scrollZoom": False},
    )


def draw_points(
    axes: tuple[str, str], traces: list[tuple[str, pandas.DataFrame, dict[str, Any]]]
) -> str:
    """Draw the plane for a file, where nothing can be selected on it."""
    rows = pandas.concat([part for _, part, _ in traces])
    low, high = rows[["x", "y"]].min(), rows[["x", "y"]].max()
    scaled = {"x": (-low["x"], max(high["x"] - low["x"], 1e-9))}
    scaled["y"] = (-low["y"], max(high["y"] - low["y"], 1e-9))
    points, names = [], []
    for name, part, look in traces:
        colours = [look["color"]] * len(part)
        if not isinstance(look["color"], str):
            levels = (look["color"].fillna(0).clip(0, 1) * 255).round().astype(int)
            colours = [_write_colour(colormap_table("viridis")[level]) for level in levels]
        else:
            names.append(f'<b style="color:{look["color"]}">●</b> {escape(name)}')
        for row, ink in zip(part.itertuples(), colours, strict=True):
            x = 10 + 780 * (row.x + scaled["x"][0]) / scaled["x"][1]
            y = 450 - 440 * (row.y + scaled["y"][0]) / scaled["y"][1]
            title = escape(f"{row.id}: {row.label}, predicted {row.predicted_label}")
            points.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{ink}" fill-opacity=".85">'
                f"<title>{title}</title></circle>"
            )
    legend = " · ".join(names) or "From dark, confidence 0, to yellow, confidence 1"
    words = escape(f"{len(rows):,} images; across: {axes[0]}; upwards: {axes[1]}")
    svg = f'<svg viewBox="0 0 800 460" role="img" aria-label="{words}">{"".join(points)}</svg>'
    return f'<p class="small">{legend}</p>{svg}<p class="small">{words}</p>'


def _write_colour(levels: Any) -> str:
    red, green, blue = (int(level) for level in levels)
    return f"rgb({red},{green},{blue})"


def take_lasso() -> None:
    """Write to the address which images were selected."""
    state = read_widget(PLOT) or {}
    points = state.get("selection", {}).get("points", [])
    items = sorted({int(point["customdata"][0]) for point in points if point.get("customdata")})
    address.write({SELECTED: [format_ranges(items)] if items else None})


def _split(
    rows: pandas.DataFrame, colour: str
) -> list[tuple[str, pandas.DataFrame, dict[str, Any]]]:
    """Split images into traces: name, rows and how their points look."""
    if colour == CONFIDENCE:
        values = rows["confidence"].astype(float)
        bar = {"title": "confidence", "thickness": 12}
        scale = {"color": values, "colorscale": "Viridis", "cmin": 0, "cmax": 1, "colorbar": bar}
        return [("images", rows, scale)]
    if colour == CORRECT:
        words = rows["correct"].map({True: RIGHT, False: WRONG}).fillna(UNKNOWN)
        # The shape says it too.
        looks = {
            RIGHT: {"color": PALETTE[0], "symbol": "circle"},
            WRONG: {"color": PALETTE[1], "symbol": "x"},
            UNKNOWN: {"color": GREY, "symbol": "diamond"},
        }
        return [(word, rows[words == word], looks[word]) for word in looks if (words == word).any()]
    names = rows["label"].astype(str)
    largest = names.value_counts().index[:MOST_CLASSES]
    words = names.where(names.isin(largest), OTHERS)
    parts = [
        (str(name), rows[words == name], {"color": colour})
        for name, colour in zip(largest, PALETTE, strict=False)
    ]
    rest = rows[words == OTHERS]
    return [*parts, (OTHERS, rest, {"color": GREY})] if len(rest) else parts


def _show_selected(run: cam.Run, method: str) -> None:
    rows = query(run, "image_measures", method)
    count = len(rows)
    with st.container(horizontal=True, vertical_alignment="center"):
        view_record.subheader(f"{count:,} selected image{'' if count == 1 else 's'}", anchor=False)
        st.button(
            "Clear the selection",
            icon=":material/close:",
            on_click=address.write,
            args=({SELECTED: None},),
        )
    left, right = st.columns([1, 2])
    with left:
        write_heading(f"Mean map of {title_method(method)}")
        average = query(run, "mean_map", method)
        if average is not None and count > 1:
            show_png(png_bytes(draw_mean(average)), f"Mean {title_method(method)} of the selection")
        else:
            write_small("Of several images only.")
    with right:
        metric = opened_run.choose_metric(run)
        board = query(run, "leaderboard")
        board = board[board["metric"] == metric].sort_values("rank").dropna(subset=["mean"])
        if board.empty:
            view_record.info("No selected image has a value of this metric.")
        else:
            numbers = (board[name].to_numpy() for name in ("mean", "low", "high"))
            titles = [title_method(str(key)) for key in board["method"]]
            view_record.html(plot_intervals(titles, *numbers))
            groups = int(board["groups"].max())
            write_small(describe_sample(groups, int(board["n"].max())))
            if groups < FEWEST:
                write_small(
                    f"Too few groups for intervals ({groups}; {FEWEST} are needed): "
                    f"{title_metric(metric)} may differ by chance."
                )
    show_gallery(run, method, make_cells(rows.head(A_PAGE)), "selection")


def format_ranges(items: list[int]) -> str:
    """Write ascending numbers shortly: "0-3,7"."""
    if not items:
        return ""
    breaks = np.flatnonzero(np.diff(items) != 1) + 1
    runs = np.split(np.asarray(items), breaks)
    return ",".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def parse_ranges(text: str) -> list[int] | None:
    """Read what :func:`format_ranges` wrote; None where it is something else."""
    items: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            return None
        if len(first) > 9 or len(last) > 9 or not 0 <= int(last) - int(first) < 100_000:
            return None
        items += range(int(first), int(last) + 1)
        if len(items) > 100_000:
            return None
    return items
