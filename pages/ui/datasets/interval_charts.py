"""Draw a run's intervals and ranks as HTML.

A report has the same as SVG (``report_charts``), which Streamlit takes out of a page.
"""

from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from cam._runs.results.report_charts import choose_ticks, group_alike
from cam.pages.ui.widgets.charts import CHOSEN, OTHERS
from cam.pages.ui.widgets.html_charts import shown

Place = Callable[[float], float]
"""From a value to its place on the axis, in percent."""

_ROW = (
    '<div style="display:grid;grid-template-columns:minmax(6rem,30%) 1fr 3.5rem;gap:.75rem;'
    'align-items:center;min-height:1.75rem">'
)
_TRACK = '<div style="position:relative;height:1.5rem;margin:0 .5rem;'
_LINE = "background:rgba(128,128,128,.25)"


def intervals(names: Sequence[str], means: np.ndarray, lows: np.ndarray, highs: np.ndarray) -> str:
    """A dot for each mean and a line for its interval, on one axis."""
    lows, highs = np.where(np.isnan(lows), means, lows), np.where(np.isnan(highs), means, highs)
    # Few: on a phone their numbers would stand in one another.
    ticks = np.array(choose_ticks(float(lows.min()), float(highs.max()), parts=3))

    def at(value: float) -> float:
        return float(100 * (value - ticks[0]) / (ticks[-1] - ticks[0]))

    rows = []
    for name, mean, low, high in zip(names, means, lows, highs, strict=True):
        line = (
            f'<div style="position:absolute;top:.65rem;height:.2rem;left:{at(low):.2f}%;'
            f'width:{at(high) - at(low):.2f}%;background:{OTHERS}"></div>'
        )
        rows.append(_row(name, line + _dot(at(mean), OTHERS), shown(float(mean)), ticks, at))
    told = "; ".join(
        f"{name} {shown(float(mean))}, from {shown(float(low))} to {shown(float(high))}"
        for name, mean, low, high in zip(names, means, lows, highs, strict=True)
    )
    return _chart(f"Means with 95 % intervals: {told}", [*rows, _axis(ticks, at)])


def ranks(found: dict[str, float], critical: float) -> str:
    """A critical-difference diagram: average ranks, and bars over those that may be alike."""
    ordered = sorted(found.items(), key=lambda one: one[1])
    top = max(len(ordered), 2)
    ticks = np.arange(1, top + 1)

    def at(rank: float) -> float:
        return 100 * (rank - 1) / (top - 1)

    rows = [_row(name, _dot(at(rank), OTHERS), f"{rank:.2f}", ticks, at) for name, rank in ordered]
    joined = group_alike([rank for _, rank in ordered], critical)
    for first, last in joined:
        low, high = at(ordered[first][1]), at(ordered[last][1])
        bar = (
            f'<div style="position:absolute;top:.6rem;height:.3rem;border-radius:.15rem;'
            f"left:calc({low:.2f}% - .3rem);width:calc({high - low:.2f}% + .6rem);"
            f'background:{CHOSEN}"></div>'
        )
        rows.append(_row("may be alike", bar, "", ticks, at))
    told = ", ".join(f"{name} {rank:.2f}" for name, rank in ordered)
    may = "; ".join(
        "may be alike: " + ", ".join(name for name, _ in ordered[a : b + 1]) for a, b in joined
    )
    label = f"Average ranks: {told}; {may or 'all of them differ'}"
    return _chart(label, [*rows, _axis(ticks, at)])


def _chart(label: str, rows: list[str]) -> str:
    return (
        f'<div role="img" aria-label="{escape(label)}" style="font-size:.875rem;'
        f'line-height:1.2">{"".join(rows)}</div>'
    )


def _dot(place: float, colour: str) -> str:
    return (
        f'<div style="position:absolute;top:.375rem;width:.75rem;height:.75rem;'
        f'border-radius:50%;left:calc({place:.2f}% - .375rem);background:{colour}"></div>'
    )


def _row(name: str, marks: str, figure: str, ticks: np.ndarray, at: Place) -> str:
    lines = "".join(
        f'<div style="position:absolute;top:-.25rem;bottom:-.25rem;width:1px;'
        f'left:{at(float(tick)):.2f}%;{_LINE}"></div>'
        for tick in ticks
    )
    return (
        f'{_ROW}<span style="text-align:right;overflow-wrap:anywhere">{escape(name)}</span>'
        f'{_TRACK}">{lines}{marks}</div><span>{figure}</span></div>'
    )


def _axis(ticks: np.ndarray, at: Place) -> str:
    labels = "".join(
        f'<span style="position:absolute;left:{at(float(tick)):.2f}%;transform:translateX(-50%)">'
        f"{tick:g}</span>"
        for tick in ticks
    )
    return f'{_ROW}<span></span>{_TRACK}font-size:.75rem">{labels}</div><span></span></div>'
