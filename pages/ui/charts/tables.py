"""Draw a matrix of numbers and a wide table."""

from collections.abc import Sequence
from html import escape

import numpy as np

from cam.pages.ui.charts.colours import colour_values, style_ground
from cam.pages.ui.charts.elements import bold, div, element
from cam.pages.ui.charts.numbers import format_cell


def draw_matrix(names: Sequence[str], values: np.ndarray, caption: str) -> str:
    """Draw numbers of each with each, coloured from blue (-1) over white to red (1).

    Args:
        names: One a row, and the same for the columns, which have their numbers only.
        values: (N, N); a dash where NaN.
        caption: What the numbers are.
    """
    heads = [
        element("th", "cell", str(number), scope="col", aria_label=name)
        for number, name in enumerate(names, start=1)
    ]
    inks = colour_values(values, 1, signed=True).tolist()
    rows = []
    for row, name in enumerate(names):
        title = f"{bold('', str(row + 1))} {escape(name)}"
        cells = [element("th", "name", title, scope="row")]
        for ink, value in zip(inks[row], values[row], strict=True):
            finite = bool(np.isfinite(value))
            ground = style_ground(ink) if finite else ""
            text = format_cell(float(value)) if finite else "–"
            cells.append(element("td", "cell", text, style=ground))
        rows.append(cells)
    return _draw_sliding(caption, "sliding", [element("td"), *heads], rows)


def draw_table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Draw a table whose first column names the row.

    Args:
        heads: One a column.
        rows: The cells; a row of two is a name and one sentence across all other columns.
        caption: What the table is.
    """
    head = [
        element("th", "left" * (column < 2), escape(text), scope="col")
        for column, text in enumerate(heads)
    ]
    body = []
    for name, *cells in rows:
        across = {"colspan": str(len(heads) - 1)} if len(cells) == 1 else {}
        body.append([element("th", "left", escape(name), scope="row")])
        body[-1] += [
            element("td", "left" * (column == 0), escape(cell), **across)
            for column, cell in enumerate(cells)
        ]
    return _draw_sliding(caption, "sliding wide", head, body)


def _draw_sliding(
    caption: str, names: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """Draw a table that moves sideways where it is wider than the page."""
    title = element("caption", "", escape(caption))
    heads = element("thead", "", element("tr", "", *head))
    body = element("tbody", "", *(element("tr", "", *row) for row in rows))
    table = element("table", "", title, heads, body)
    return div(names, table, tabindex="0", role="region", aria_label=caption)
