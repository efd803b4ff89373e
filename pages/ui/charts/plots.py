"""Plot lines, intervals and ranks along an axis.

A run's report has intervals and ranks as SVG, which Streamlit takes out of what it is given as
HTML.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from cam._runs.results.report.report_charts import choose_ticks, group_alike
from cam.pages.ui.charts.colours import HIGHLIGHT, OTHERS
from cam.pages.ui.charts.elements import div, span, write_image
from cam.pages.ui.charts.numbers import format_cell, format_value

# Visible on light and on dark.
_GRID = "#808080"
Scale = Callable[[float], float]
"""From a value to where it lies on the axis, in percent."""


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


def plot_lines(
    lines: Sequence[Line],
    ends: tuple[float, float],
    across: str,
    down: str,
    alt: str,
    marked: float | None = None,
) -> str:
    """Plot lines over x from 0 to 1, with a legend.

    The words are the page's own, in its ink and its size on any screen; the lines are an image
    between them, because Streamlit takes SVG out of what it is given as HTML.

    Args:
        lines: The lines.
        ends: The lowest and the highest y.
        across: What x is.
        down: What y is.
        alt: What the chart says, in words.
        marked: An x with an upright line.
    """
    step = 0.25 if ends[1] - ends[0] <= 1 else 0.5
    ticks = [float(value) for value in np.arange(ends[0], ends[1] + step / 2, step)]
    numbers = (span("", format_cell(value)) for value in reversed(ticks))
    picture = write_image(_draw_strokes(lines, ends, ticks, marked), alt, "strokes")
    axis = div("spread", span("", "0%"), span("", escape(across)), span("", "100%"))
    plot = div("plot", div("spread upright", *numbers), picture, span(), axis)
    keys = (span("", _draw_key(line), escape(line.name)) for line in lines)
    return div("lines", div("", escape(down)), plot, div("", *keys))


def _draw_strokes(
    lines: Sequence[Line], ends: tuple[float, float], ticks: list[float], marked: float | None
) -> str:
    """Draw the lines alone, as SVG that fills whatever room it has."""
    low, high = ends

    def scale(value: float) -> float:
        return 100 * (1 - min(max((value - low) / ((high - low) or 1), 0), 1))

    strokes = []
    for tick in ticks:
        ends_of_tick = [(0, scale(tick)), (100, scale(tick))]
        strokes.append(_stroke(ends_of_tick, _GRID, 1, "", 0.8 if abs(tick) < 1e-9 else 0.35))
    if marked is not None:
        strokes.append(_stroke([(100 * marked, 0), (100 * marked, 100)], _GRID, 2, "4 3"))
    for line in lines:
        points = [
            (100 * x, scale(y)) for x, y in zip(line.x, line.y, strict=True) if np.isfinite(y)
        ]
        strokes.append(_stroke(points, line.colour, 2.2, line.dashes))
    return _encode_svg(100, 100, "".join(strokes))


def _draw_key(line: Line) -> str:
    stroke = _stroke([(0, 5), (32, 5)], line.colour, 2.5, line.dashes)
    return f"{write_image(_encode_svg(32, 10, stroke), '', 'key')} "


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


def _encode_svg(width: int, height: int, strokes: str) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'preserveAspectRatio="none">{strokes}</svg>'
    )
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"


def plot_intervals(
    names: Sequence[str], means: np.ndarray, lows: np.ndarray, highs: np.ndarray
) -> str:
    """Plot a dot for each mean and a line for its interval, on one axis."""
    unknown = np.isnan(lows)
    lows, highs = np.where(unknown, means, lows), np.where(unknown, means, highs)
    # Few: on a phone their numbers would stand in one another.
    ticks = choose_ticks(float(lows.min()), float(highs.max()), parts=3)

    def scale(value: float) -> float:
        return float(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]))

    rows, words = [], []
    columns = (column.tolist() for column in (means, lows, highs, unknown))
    for name, mean, low, high, few in zip(names, *columns, strict=True):
        line = _draw_stretch("interval", scale(low), scale(high), OTHERS)
        value = format_value(mean)
        rows.append((name, line + _draw_dot(scale(mean)), value))
        interval = f"from {format_value(low)} to {format_value(high)}"
        words.append(f"{name} {value}, {'no interval' if few else interval}")
    return _draw_axis(f"Means with 95 % intervals: {'; '.join(words)}", rows, ticks, scale)


def plot_ranks(ranks: dict[str, float], critical: float) -> str:
    """Plot a critical-difference diagram: average ranks, and bars over what may be alike."""
    ordered = sorted(ranks.items(), key=lambda pair: pair[1])
    top = max(len(ordered), 2)
    ticks = list(map(float, range(1, top + 1)))

    def scale(rank: float) -> float:
        return 100 * (rank - 1) / (top - 1)

    rows = [(name, _draw_dot(scale(rank)), f"{rank:.2f}") for name, rank in ordered]
    groups = group_alike([rank for _, rank in ordered], critical)
    for first, last in groups:
        low, high = scale(ordered[first][1]), scale(ordered[last][1])
        rows.append(("may be alike", _draw_stretch("alike", low, high, HIGHLIGHT), ""))
    words = ", ".join(f"{name} {rank:.2f}" for name, rank in ordered)
    alikes = "; ".join(
        "may be alike: " + ", ".join(name for name, _ in ordered[first : last + 1])
        for first, last in groups
    )
    label = f"Average ranks: {words}; {alikes or 'all of them differ'}"
    return _draw_axis(label, rows, ticks, scale)


def _draw_stretch(kind: str, low: float, high: float, colour: str) -> str:
    return div(kind, style=f"left:{low:.2f}%;width:{high - low:.2f}%;background:{colour}")


def _draw_dot(percent: float) -> str:
    return div("dot", style=f"left:{percent:.2f}%;background:{OTHERS}")


def _draw_axis(
    label: str, rows: Sequence[tuple[str, str, str]], ticks: Sequence[float], scale: Scale
) -> str:
    """Draw rows of a name, marks and a figure over an axis with its numbers."""
    positions = {tick: f"left:{scale(tick):.2f}%" for tick in ticks}
    lines = "".join(div("tick", style=position) for position in positions.values())
    numbers = (span("number", f"{tick:g}", style=position) for tick, position in positions.items())
    drawn = (
        div("", span("", escape(name)), div("track", lines, marks), span("", figure))
        for name, marks, figure in rows
    )
    axis = div("", span(), div("track", *numbers), span())
    return div("axis", *drawn, axis, role="img", aria_label=label)
