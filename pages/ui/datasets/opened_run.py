"""Open a run, filter it, and read its tables once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas
import streamlit as st
from PIL import Image

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.run_images import RunImage
from cam._runs.results.run_tables import BY
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.server.resources import share
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.parameter_widgets import Info
from cam.pages.ui.widgets.prose import show_png, write_small
from cam.polarity import DIVERGING

# The side at which pictures of a run are drawn; they are kept at 160.
SIDE = 224
EVERYTHING = "All"
TITLES = {"class": "Class", "correct": "Prediction", "confidence": "Confidence"}
ALPHA = 0.5
# What the columns of the library's tables are called where that is not their name.
COLUMNS = {"n": "Images", "low": "From", "high": "To", "holm": "p, corrected"}


def open_run(name: str) -> cam.Run:
    """Open a run by its name.

    Raises:
        RunError: There is none, or it cannot be read.
    """
    return cam.Run.open(allowed_roots.get_run_path(name))


@share(max_entries=256, show_spinner="Reading the run …")
def query(run: cam.Run, what: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of the run; shared by all visitors, so nobody may write to its answer."""
    return getattr(run, what)(*arguments, **options)


def choose_parts(run: cam.Run) -> cam.Run:
    """Choose some of the run's images; by default all."""
    parts = {}
    for column, by in zip(st.columns(len(BY)), BY, strict=True):
        table = query(run, "query", f"SELECT DISTINCT {BY[by]} AS part FROM items i ORDER BY part")
        with column:
            part = choose(TITLES[by], [EVERYTHING, *table["part"]], f"only_{by}", by)
        if part != EVERYTHING:
            parts[by] = part
    return run.only(parts) if parts else run


def choose_metric(run: cam.Run) -> str:
    """Choose one of the run's metrics, for all views the same."""
    titles = {key: title_metric(key) for key in run.metrics}
    return choose("Metric", titles, "metric")


def describe_metric(run: cam.Run, metric: str) -> None:
    """Describe what a metric says, and which end is the good one."""
    better = "Higher" if run.directions[metric] > 0 else "Lower"
    info = cam.metrics().get(metric.partition("(")[0])
    write_small(f"{better} is better. {info.description if info else ''}")


def choose_method(run: cam.Run, baselines: bool = True) -> str:
    """Choose one of the run's methods, for all views the same."""
    methods = run.config["methods"]
    keys = [facts["key"] for facts in methods if baselines or not facts.get("baseline")]
    titles = {key: title_method(key) for key in keys}
    return choose("Method", titles, "method", linked=map(title_method, run.methods))


def title_method(key: str) -> str:
    """Title a method with its parameters; a baseline by its key."""
    return _title(key, cam.methods()) or f"{key} (a baseline)"


def title_metric(key: str) -> str:
    """Title a metric with its parameters."""
    return _title(key, cam.metrics()) or key


def _title(key: str, infos: Mapping[str, Info]) -> str | None:
    name, bracket, rest = key.partition("(")
    info = infos.get(name)
    return None if info is None else info.title + (f" ({rest}" if bracket else "")


def show_table(table: pandas.DataFrame) -> None:
    """Show a table of the library's: its columns and keys in words, numbers short."""
    words = {"method": title_method, "metric": title_metric}
    words |= dict.fromkeys(("better", "worse"), title_method)
    worded = {
        name: [title(str(key)) for key in table[name]]
        for name, title in words.items()
        if name in table
    }
    columns = {}
    for name, kind in table.dtypes.items():
        title = COLUMNS.get(str(name), str(name).capitalize())
        short = st.column_config.NumberColumn(title, format="%.4g")
        plain = st.column_config.Column(title)
        columns[str(name)] = short if kind.kind == "f" else plain
    st.dataframe(table.assign(**worded), hide_index=True, width="stretch", column_config=columns)


def show_overlay(image: RunImage, method: str, alt: str) -> bool:
    """Show what the model saw under a heatmap; False where either was not kept."""
    if image.picture is None or method not in image.heatmaps:
        return False
    picture = image.picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    info = cam.methods().get(method.partition("(")[0])
    percentile = 100.0 if info is None else info.percentile
    signed = method in image.signed
    colours = DIVERGING if signed else "inferno"
    heatmap = image.heatmaps[method]
    overlay = cam.overlay(picture, heatmap, colours, ALPHA, percentile, signed=signed)
    show_png(png_bytes(overlay), alt)
    return True


def draw_mean(heatmap: np.ndarray) -> Image.Image:
    """Draw a mean map on grey: a class's pictures have nothing in common to be shown under it.

    From 0 to its own maximum: the mean of maps that are bright in a few pixels is dark everywhere.
    """
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    highest = float(heatmap.max())
    return cam.overlay(grey, heatmap / highest if highest > 0 else heatmap, "inferno", 0.8)
