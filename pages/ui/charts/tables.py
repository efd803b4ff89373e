"""Draw a matrix of numbers and a wide table."""

from collections.abc import Sequence
from html import escape

import numpy as np

from cam.pages.ui.charts.colours import colour_values, style_ground
from cam.pages.ui.charts.elements import div, element
from cam.pages.ui.charts.numbers import format_cell

_CELL = "padding:.35rem .6rem;border-bottom:1px solid rgba(128,128,128,.35);text-align:"


def draw_matrix(names: Sequence[str], values: np.ndarray, caption: str) -> str:
    """Draw numbers of each with each, coloured from blue (-1) over white to red (1).

    Args:
        names: One a row, and the same for the columns, which have their numbers only.
        values: (N, N); a dash where NaN.
        caption: What the numbers are.
    """
    heads = [
        element("th", f"{_CELL}center", str(number), scope="col", aria_label=name)
        for number, name in enumerate(names, start=1)
    ]
    inks = colour_values(values, 1, signed=True).tolist()
    rows = []
    for row, name in enumerate(names):
        title = f"{element('b', '', str(row + 1))} {escape(name)}"
        cells = [element("th", f"{_CELL}left;font-weight:400", title, scope="row")]
        for ink, value in zip(inks[row], values[row], strict=True):
            finite = bool(np.isfinite(value))
            ground = style_ground(ink) if finite else ""
            text = format_cell(float(value)) if finite else "–"
            cells.append(element("td", f"{_CELL}center;min-width:3.2rem;{ground}", text))
        rows.append(cells)
    return _draw_sliding(caption, "", [element("td"), *heads], rows)


def draw_table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Draw a table whose first column names the row.

    Args:
        heads: One a column.
        rows: The cells; a row of two is a name and one sentence across all other columns.
        caption: What the table is.
    """
    sides = ["left", "left", *["right"] * (len(heads) - 2)]
    head = [
        element("th", f"{_CELL}{side};vertical-align:bottom", escape(text), scope="col")
        for side, text in zip(sides, heads, strict=True)
    ]
    body = []
    for name, *cells in rows:
        across = {"colspan": str(len(heads) - 1)} if len(cells) == 1 else {}
        body.append([element("th", f"{_CELL}left", escape(name), scope="row")])
        body[-1] += [
            element("td", f"{_CELL}{'right' if column else 'left'}", escape(cell), **across)
            for column, cell in enumerate(cells)
        ]
    return _draw_sliding(caption, ";width:100%;min-width:40rem", head, body)


def _draw_sliding(
    caption: str, style: str, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """Draw a table that moves sideways where it is wider than the page."""
    title = element("caption", "text-align:left;padding-bottom:.4rem", escape(caption))
    heads = element("thead", "", element("tr", "", *head))
    body = element("tbody", "", *(element("tr", "", *row) for row in rows))
    style = f"border-collapse:collapse;font-size:.875rem{style}"
    table = element("table", style, title, heads, body)
    return div("overflow-x:auto", table, tabindex="0", role="region", aria_label=caption)
