"""Open a run, filter it, and read its tables once."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas
import streamlit as st
from PIL import Image

import cam
from cam._output.explanation_files import png_bytes
from cam._runs.results.run_images import RunImage
from cam._runs.results.run_tables import BY
from cam._runs.results.titles import describe_metric as describe_in_words
from cam._runs.results.titles import title_method, title_metric
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.server.resources import share
from cam.pages.ui.state import address
from cam.pages.ui.widgets import view_record
from cam.pages.ui.widgets.links import choose
from cam.pages.ui.widgets.prose import escape_markdown, show_png, write_small
from cam.polarity import DIVERGING

# The side at which images of a run are drawn; they are kept at 160.
SIDE = 224
ALPHA = 0.85
EVERYTHING = "All"
TITLES = {"class": "Class", "correct": "Prediction", "confidence": "Confidence"}
# What the columns of the library's tables are called where that is not their name.
COLUMNS = {"n": "Images", "low": "From", "high": "To", "holm": "p, corrected"}


def open_run(name: str) -> cam.Run:
    """Open a run by its name.

    Raises:
        RunError: There is none, or it cannot be read.
    """
    return cam.Run.open(allowed_roots.find_run_path(name))


def follow_renamed(key: str, names: Collection[str]) -> dict[str, str]:
    """Find the run that a link calls by a former name, and say what it is called now.

    Args:
        key: Its name in the address.
        names: Of the runs that are there.

    Returns:
        The former name → the present one; empty where the link names a run that is there, or none.
    """
    text = address.get_value(key)
    if text is None or text in names:
        return {}
    try:
        name = allowed_roots.find_run_path(text).name
    except cam.CamError:
        return {}
    if name not in names:
        return {}
    write_small(
        f"The link asks for the run **{escape_markdown(text)}**, which was renamed to "
        f"**{escape_markdown(name)}**."
    )
    return {text: name}


@share(max_entries=256, show_spinner="Reading the run …")
def query(run: cam.Run, what: str, *arguments: Any, **options: Any) -> Any:
    """Call a method of the run; shared by all visitors, so nobody may write to its answer."""
    return getattr(run, what)(*arguments, **options)


def choose_parts(run: cam.Run) -> cam.Run:
    """Choose some of the run's images; by default all."""
    count = sum(address.get_value(f"only_{by}") is not None for by in BY)
    parts = {}
    with st.popover(f"Filter ({count})" if count else "Filter", icon=":material/filter_alt:"):
        for by in BY:
            sql = f"SELECT DISTINCT {BY[by]} AS part FROM items i ORDER BY part"
            table = query(run, "query", sql)
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
    write_small(f"{better} is better. {describe_in_words(metric)}")


def choose_method(run: cam.Run, baselines: bool = True) -> str:
    """Choose one of the run's methods, for all views the same."""
    methods = run.config["methods"]
    keys = [facts["key"] for facts in methods if baselines or not facts.get("baseline")]
    titles = {key: title_method(key) for key in keys}
    return choose("Method", titles, "method")


def show_table(table: pandas.DataFrame) -> None:
    """Show a table of the library's: its columns and keys in words, numbers short."""
    words = {"method": title_method, "metric": title_metric}
    words |= dict.fromkeys(("better", "worse"), title_method)
    worded = {
        name: [title(str(key)) for key in table[name]]
        for name, title in words.items()
        if name in table
    }
    columns, titles = {}, {}
    for name, kind in table.dtypes.items():
        title = COLUMNS.get(str(name), str(name).capitalize())
        short = st.column_config.NumberColumn(title, format="%.4g")
        plain = st.column_config.Column(title)
        titles[str(name)] = title
        columns[str(name)] = short if kind.kind == "f" else plain
    view_record.dataframe(table.assign(**worded), titles, column_config=columns)


def blend(image: RunImage, method: str, side: int) -> Image.Image | None:
    """Lay a map over what the model saw, which stays as it is where there is no evidence."""
    if image.picture is None or method not in image.heatmaps:
        return None
    picture = image.picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    info = cam.methods().get(method.partition("(")[0])
    percentile = 100.0 if info is None else info.percentile
    signed = method in image.signed
    colours = DIVERGING if signed else "inferno"
    heatmap = image.heatmaps[method]
    return cam.overlay(picture, heatmap, colours, ALPHA, percentile, signed=signed, fade=True)


def show_overlay(image: RunImage, method: str, alt: str) -> bool:
    """Show what the model saw under a heatmap; False where either was not kept."""
    overlay = blend(image, method, SIDE)
    if overlay is None:
        return False
    show_png(png_bytes(overlay), alt)
    return True


def draw_mean(heatmap: np.ndarray) -> Image.Image:
    """Draw a mean map on grey: a class's images have nothing in common to be shown under it.

    From 0 to its own maximum: the mean of maps that are bright in a few pixels is dark everywhere.
    """
    grey = Image.new("RGB", (SIDE, SIDE), "#808080")
    highest = float(heatmap.max())
    scaled = heatmap / highest if highest > 0 else heatmap
    return cam.overlay(grey, scaled, "inferno", 0.85, fade=True)
