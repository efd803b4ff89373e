"""Draw comparisons: lines, a matrix of numbers, a wide table."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cam.pages.ui.widgets import html_charts

# Okabe and Ito's, in the order in which they differ most; each line has its own dashes too.
COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#999999", "#F0E442"]
DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "6 2 1 2 1 2"]
# Seen on light and on dark.
_GRID = "#808080"
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

    The words are the page's own, in its ink and its size on any screen; the lines are a picture
    between them, because Streamlit takes SVG out of what it is given as HTML.

    Args:
        several: The lines.
        ends: The lowest and the highest y.
        across: What x is.
        down: What y is.
        alt: What the chart says, in words.
        marked: An x with an upright line.
    """
    step = 0.25 if ends[1] - ends[0] <= 1 else 0.5
    ticks = [float(value) for value in np.arange(ends[0], ends[1] + step / 2, step)]
    labels = "".join(f"<span>{html_charts.short(value)}</span>" for value in reversed(ticks))
    keys = "".join(
        f'<span style="white-space:nowrap"><img src="{_uri(_key(line))}" alt="" '
        f'style="width:2rem;height:.6rem;display:inline"> {escape(line.name)}</span>'
        for line in several
    )
    return (
        f'<div style="font-size:.8rem;max-width:36rem"><div style="padding-bottom:.5rem">'
        f"{escape(down)}</div>"
        '<div style="display:grid;grid-template-columns:auto 1fr;gap:.15rem .4rem">'
        '<div style="display:flex;flex-direction:column;justify-content:space-between;'
        f'text-align:right;line-height:1;margin:-.4rem 0">{labels}</div>'
        f'<img src="{_uri(_plot(several, ends, ticks, marked))}" alt="{escape(alt)}" '
        'style="width:100%;height:10rem;display:block"><span></span>'
        '<div style="display:flex;justify-content:space-between">'
        f"<span>0%</span><span>{escape(across)}</span><span>100%</span></div></div>"
        f'<div style="display:flex;flex-wrap:wrap;gap:.1rem 1rem;padding-top:.3rem">{keys}</div>'
        "</div>"
    )


def _plot(
    several: Sequence[Line], ends: tuple[float, float], ticks: list[float], marked: float | None
) -> str:
    """The lines alone, as SVG that fills whatever room it has."""
    low, high = ends

    def at(value: float) -> float:
        return 100 * (1 - min(max((value - low) / ((high - low) or 1), 0), 1))

    parts = []
    for value in ticks:
        strong = 0.8 if abs(value) < 1e-9 else 0.35
        parts.append(_stroke([(0, at(value)), (100, at(value))], _GRID, 1, "", strong))
    if marked is not None:
        parts.append(_stroke([(100 * marked, 0), (100 * marked, 100)], _GRID, 2, "4 3"))
    for line in several:
        points = [(100 * x, at(y)) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)]
        parts.append(_stroke(points, line.colour, 2.2, line.dashes))
    return _svg(100, 100, "".join(parts))


def _key(line: Line) -> str:
    return _svg(32, 10, _stroke([(0, 5), (32, 5)], line.colour, 2.5, line.dashes))


def _stroke(
    points: Sequence[tuple[float, float]],
    colour: str,
    width: float,
    dashes: str,
    opacity: float = 1,
) -> str:
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-opacity="{opacity}" stroke-dasharray="{dashes}" stroke-linejoin="round" '
        'vector-effect="non-scaling-stroke"/>'
    )


def _svg(width: int, height: int, inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="none">{inside}</svg>'
    )


def _uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


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
    inks = html_charts.colours(values, 1, signed=True).tolist()
    rows = []
    for place, name in enumerate(names):
        cells = "".join(
            f'<td style="{_CELL};text-align:center;min-width:3.2rem;'
            + (
                f'{html_charts.on_ground(inks[place][other])}">{html_charts.short(float(value))}</td>'
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
