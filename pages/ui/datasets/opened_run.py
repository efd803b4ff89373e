"""Open a run, filter it, and read its tables once."""

from typing import Any

import numpy as np
import pandas
import streamlit as st
from PIL import Image

import cam
from cam._runs.results.run_images import RunImage
from cam._runs.results.run_tables import BY
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

# The side at which pictures of a run are drawn; they are kept at 160.
SIDE = 224
EVERYTHING = "All"
TITLES = {"class": "Class", "correct": "Prediction", "confidence": "Confidence"}
ALPHA = 0.5
# What the columns of the library's tables are called where that is not their name.
COLUMNS = {"n": "Images", "low": "From", "high": "To", "holm": "p, corrected"}


def open_run(name: str) -> cam.Run:
    """A run by its name.

    Raises:
        RunError: There is none, or it cannot be read.
    """
    return cam.Run.open(allowed_roots.run_path(name))


def ask(run: cam.Run, what: str, *arguments: Any, **options: Any) -> Any:
    """What a method of the run answers; shared by all visitors, so nobody may write to it."""
    return _asked(version(run), what, arguments, tuple(options.items()), run)


def version(run: cam.Run) -> tuple[Any, ...]:
    """What tells a run from itself a moment ago, and from another one of that name."""
    return (
        str(run.path),
        str(run.notes.get("started")),
        tuple(run.store.ranges()),
        tuple(run.parts.items()),
    )


@st.cache_resource(max_entries=256, show_spinner="Reading the run …")
def _asked(
    key: tuple[Any, ...],
    what: str,
    arguments: tuple[Any, ...],
    options: tuple[tuple[str, Any], ...],
    _run: cam.Run,
) -> Any:
    return getattr(_run, what)(*arguments, **dict(options))


def choose_parts(run: cam.Run) -> cam.Run:
    """The run, or those of its images that are asked for."""
    parts = {}
    for column, by in zip(st.columns(len(BY)), BY, strict=True):
        known = _groups(run, by)
        key = f"only_{by}"
        controls.check_link(key, by, [EVERYTHING, *known])
        with column:
            chosen = st.selectbox(TITLES[by], [EVERYTHING, *known], key=key, bind="query-params")
        if chosen != EVERYTHING:
            parts[by] = chosen
    return run.only(parts) if parts else run


def _groups(run: cam.Run, by: str) -> list[str]:
    found: list[str] = ask(
        run, "query", f"SELECT DISTINCT {BY[by]} AS part FROM items i ORDER BY part"
    )["part"].tolist()
    return found


def choose_metric(run: cam.Run) -> str:
    """One of the run's metrics, for all views the same."""
    titles = {key: metric_title(key) for key in run.metrics}
    controls.check_link("metric", "metric", titles.values())
    chosen: str = st.selectbox(
        "Metric", run.metrics, format_func=titles.__getitem__, key="metric", bind="query-params"
    )
    return chosen


def describe_metric(run: cam.Run, metric: str) -> None:
    """What a metric says, and which end is the good one."""
    better = "Higher" if run.directions[metric] > 0 else "Lower"
    info = cam.metrics().get(metric.partition("(")[0])
    small(f"{better} is better. {info.description if info else ''}")


def choose_method(run: cam.Run, baselines: bool = True) -> str:
    """One of the run's methods, for all views the same."""
    known = [one["key"] for one in run.config["methods"] if baselines or not one.get("baseline")]
    titles = {key: method_title(key) for key in known}
    controls.check_link("method", "method", [method_title(one) for one in run.methods])
    chosen: str = st.selectbox(
        "Method", known, format_func=titles.__getitem__, key="method", bind="query-params"
    )
    return chosen


def method_title(key: str) -> str:
    """A method's name with its parameters; a baseline's key."""
    name, bracket, rest = key.partition("(")
    info = cam.methods().get(name)
    if info is None:
        return f"{key} (a baseline)"
    return info.title + (f" ({rest}" if bracket else "")


def metric_title(key: str) -> str:
    """A metric's name with its parameters."""
    name, bracket, rest = key.partition("(")
    info = cam.metrics().get(name)
    return key if info is None else info.title + (f" ({rest}" if bracket else "")


def show_table(table: pandas.DataFrame) -> None:
    """A table of the library's: its columns and the keys in them in words, numbers short."""
    words = {"method": method_title, "metric": metric_title}
    words |= dict.fromkeys(("better", "worse"), method_title)
    told = {
        name: [word(str(one)) for one in table[name]]
        for name, word in words.items()
        if name in table
    }
    columns = {}
    for name, kind in table.dtypes.items():
        title = COLUMNS.get(str(name), str(name).capitalize())
        short = st.column_config.NumberColumn(title, format="%.4g")
        plain = st.column_config.Column(title)
        columns[str(name)] = short if kind.kind == "f" else plain
    st.dataframe(table.assign(**told), hide_index=True, width="stretch", column_config=columns)


def overlaid(image: RunImage, method: str) -> Image.Image | None:
    """What the model saw under a heatmap; None where either was not kept."""
    if image.picture is None or method not in image.heatmaps:
        return None
    picture = image.picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    info = cam.methods().get(method.partition("(")[0])
    percentile = 100.0 if info is None else info.percentile
    return cam.overlay(picture, image.heatmaps[method], "inferno", ALPHA, percentile)


def mean_map(heatmap: np.ndarray) -> Image.Image:
    """A mean map on grey: a class's pictures have nothing in common to be shown under it.

    From 0 to its own maximum: the mean of maps that are bright in a few pixels is dark everywhere.
    """
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    highest = float(heatmap.max())
    return cam.overlay(grey, heatmap / highest if highest > 0 else heatmap, "inferno", 0.8)
