"""Drawings of comparisons: lines, a matrix with its numbers, a table that can be slid sideways."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pages.ui import drawings

# Okabe and Ito's, in the order in which they differ most; each line has its own dashes too.
COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#999999", "#F0E442"]
DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "6 2 1 2 1 2"]
_WIDTH, _HEIGHT = 340, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 8, 8, 36
_SLIDING = '<div tabindex="0" role="region" aria-label="{}" style="overflow-x:auto">'
_CELL = "padding:.35rem .6rem;border-bottom:1px solid rgba(128,128,128,.35)"


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: In the legend.
        x: Growing.
        y: NaN where there is nothing.
        colour: Of the line.
        dashes: As SVG's ``stroke-dasharray``.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dashes: str = ""


def lines(
    several: Sequence[Line],
    ends: tuple[float, float],
    across: str,
    down: str,
    alt: str,
    marked: float | None = None,
) -> str:
    """A chart of lines over x from 0 to 1, with a legend.

    Args:
        several: The lines.
        ends: The lowest and the highest y.
        across: What x is.
        down: What y is.
        alt: What the chart says, in words.
        marked: An x with an upright line.
    """
    low, high = ends

    def at(x: float, y: float) -> tuple[float, float]:
        share = (y - low) / ((high - low) or 1)
        return (
            _LEFT + (_WIDTH - _LEFT - _RIGHT) * x,
            _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(max(share, 0), 1)),
        )

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(alt)}" '
        'style="width:100%;max-width:36rem;display:block" font-size="11" fill="currentColor">'
    ]
    for value in np.linspace(low, high, 5):
        _, y = at(0, float(value))
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="currentColor" stroke-opacity="{0.5 if abs(value) < 1e-9 else 0.15}"/>'
            f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">'
            f"{drawings.short(float(value))}</text>"
        )
    for value in (0, 0.5, 1):
        x, _ = at(value, low)
        anchor = {0: "start", 1: "end"}.get(value, "middle")
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 22}" text-anchor="{anchor}">{value:.0%}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>'
    )
    if marked is not None:
        x, _ = at(marked, low)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" '
            'stroke="currentColor" stroke-dasharray="3 3"/>'
        )
    for line in several:
        points = " ".join(
            "{:.1f},{:.1f}".format(*at(x, y))
            for x, y in zip(line.x, line.y, strict=True)
            if np.isfinite(y)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.colour}" '
            f'stroke-width="2.2" stroke-dasharray="{line.dashes}" stroke-linejoin="round"/>'
        )
    parts.append("</svg>")
    keys = "".join(
        '<span style="white-space:nowrap"><svg width="28" height="8" aria-hidden="true">'
        f'<line x1="0" x2="28" y1="4" y2="4" stroke="{line.colour}" stroke-width="2.5" '
        f'stroke-dasharray="{line.dashes}"/></svg> {escape(line.name)}</span> '
        for line in several
    )
    return (
        f'<div style="font-size:.8rem"><div>{escape(down)}</div>{"".join(parts)}'
        f'<div style="display:flex;flex-wrap:wrap;gap:.2rem 1rem">{keys}</div></div>'
    )


def title(line: str) -> str:
    """What stands over a chart."""
    return f'<div style="font-weight:600;font-size:.9rem">{escape(line)}</div>'


def matrix(names: Sequence[str], values: np.ndarray, caption: str) -> str:
    """Numbers of each with each, coloured from blue (-1) over white to red (1).

    Args:
        names: One a row, and the same for the columns, which have their numbers only.
        values: (N, N); a dash where NaN.
        caption: What the numbers are.
    """
    heads = "".join(
        f'<th scope="col" aria-label="{escape(name)}" '
        f'style="{_CELL};text-align:center">{place}</th>'
        for place, name in enumerate(names, start=1)
    )
    inks = drawings.colours(values, 1, signed=True).tolist()
    rows = []
    for place, name in enumerate(names):
        cells = "".join(
            f'<td style="{_CELL};text-align:center;min-width:3.2rem;'
            + (
                f'{drawings.on_ground(inks[place][other])}">{drawings.short(float(value))}</td>'
                if np.isfinite(value)
                else '">–</td>'
            )
            for other, value in enumerate(values[place])
        )
        rows.append(
            f'<tr><th scope="row" style="{_CELL};text-align:left;font-weight:400">'
            f"<b>{place + 1}</b> {escape(name)}</th>{cells}</tr>"
        )
    return (
        f"{_SLIDING.format(escape(caption))}"
        '<table style="border-collapse:collapse;font-size:.875rem">'
        f'<caption style="text-align:left;padding-bottom:.4rem">{escape(caption)}</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table whose first column names the row.

    Args:
        heads: One a column.
        rows: The cells; a row of two is a name and one sentence across all other columns.
        caption: What the table is.
    """
    head = "".join(
        f'<th scope="col" style="{_CELL};text-align:{"right" if place > 1 else "left"};'
        f'vertical-align:bottom">{escape(one)}</th>'
        for place, one in enumerate(heads)
    )
    body = []
    for name, *cells in rows:
        span = f' colspan="{len(heads) - 1}"' if len(cells) == 1 else ""
        inside = "".join(
            f'<td{span} style="{_CELL};text-align:{"right" if place else "left"}">'
            f"{escape(cell)}</td>"
            for place, cell in enumerate(cells)
        )
        body.append(
            f'<tr><th scope="row" style="{_CELL};text-align:left">{escape(name)}</th>{inside}</tr>'
        )
    return (
        f"{_SLIDING.format(escape(caption))}"
        '<table style="border-collapse:collapse;font-size:.875rem;width:100%;min-width:40rem">'
        f'<caption style="text-align:left;padding-bottom:.4rem">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
