"""Form the cells and headings of a report's tables."""

from typing import TYPE_CHECKING, Any

import numpy as np

from cam._runs.results.titles import title_method, title_metric

if TYPE_CHECKING:
    import pandas

HEADINGS = {
    "n": "Values",
    "nan": "Undefined",
    "low": "From",
    "high": "To",
    "holm": "p, corrected",
    "images_per_second": "Images/s",
}


def title_table(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Put titles in place of the keys of methods and metrics."""
    titles = dict.fromkeys(("method", "first", "second", "better", "worse"), title_method)
    titles["metric"] = title_metric
    words = {
        name: [value if value is None or value != value else title(str(value)) for value in column]
        for name, title in titles.items()
        if name in table and not table[name].empty
        for column in [table[name].astype(object)]
        if not all(isinstance(value, int | float) for value in column)
    }
    return table.assign(**words)


def word_heading(column: object) -> str:
    """Head a column: a method's or metric's by its title."""
    key = str(column)
    if key in HEADINGS:
        return HEADINGS[key]
    title = title_metric(key)
    title = title_method(key) if title == key else title
    return title[0].upper() + title[1:]


def number_class(column: "pandas.Series") -> str:
    import pandas
    from markupsafe import Markup

    return Markup(' class="number"') if pandas.api.types.is_numeric_dtype(column) else ""


def format_cell(value: Any, column: str) -> str:
    import pandas

    if pandas.isna(value):
        return "–"
    if column in ("p", "holm"):
        return format_p(value).removeprefix("= ")
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def format_p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"
