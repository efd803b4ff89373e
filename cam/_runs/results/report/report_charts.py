"""Draw the two charts of a report as SVG text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TEMPLATE = Path(__file__).with_name("report_charts.svg.jinja")
WIDTH, LEFT, RIGHT, ROW = 460, 162, 18, 24


def draw_intervals(
    names: Sequence[str],
    means: np.ndarray,
    lows: np.ndarray,
    highs: np.ndarray,
    highlighted: str = "",
) -> str:
    """Draw a dot for each mean, a line for its interval."""
    lows, highs = np.where(np.isnan(lows), means, lows), np.where(np.isnan(highs), means, highs)
    ticks = choose_ticks(float(lows.min()), float(highs.max()))
    at = _scale(ticks[0], ticks[-1])
    rows = zip(names, at(means), at(lows), at(highs), strict=True)
    return _render([(tick, at(tick)) for tick in ticks], list(rows), highlighted)


def draw_ranks(ranks: dict[str, float], critical: float, highlighted: str = "") -> str:
    """Draw a critical-difference diagram of average ranks."""
    ordered = sorted(ranks.items(), key=lambda entry: entry[1])
    top = max(len(ordered), 2)
    at = _scale(1, top)
    rows = [(name, rank, at(rank)) for name, rank in ordered]
    stretches = group_alike([rank for _, rank in ordered], critical)
    bars = [(rows[first][2], rows[last][2]) for first, last in stretches]
    return _render([(number, at(number)) for number in range(1, top + 1)], rows, highlighted, bars)


def choose_ticks(low: float, high: float, parts: int = 5) -> list[float]:
    """Choose round numbers, evenly spaced, whose first and last enclose both.

    Args:
        low: The least value.
        high: The largest.
        parts: How many lie between, or one more.
    """
    # Here: it takes longer to import than the rest of the command line.
    from matplotlib.ticker import MaxNLocator

    if low == high:
        low, high = (low - abs(low) / 2, high + abs(high) / 2) if low else (0.0, 1.0)
    ticks = MaxNLocator(parts, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(f"{tick:.9g}") for tick in ticks]


def group_alike(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Find the longest stretches of ranks within the critical difference."""
    stretches: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(index for index, other in enumerate(ranks) if other - rank < critical)
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return stretches


def _scale(first: float, last: float) -> Callable[[Any], Any]:
    return lambda value: LEFT + (WIDTH - LEFT - RIGHT) * (value - first) / (last - first)


def _render(
    ticks: list[tuple[float, float]],
    rows: Sequence[tuple[Any, ...]],
    highlighted: str,
    bars: list[tuple[float, float]] | None = None,
) -> str:
    text: str = load_template(TEMPLATE).render(
        width=WIDTH, left=LEFT, row=ROW, ticks=ticks, rows=rows, bars=bars, highlighted=highlighted
    )
    return text


def load_template(path: Path, **filters: Callable[..., Any]) -> Any:
    """Load a Jinja template, which escapes what it is given, with filters of its caller."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    return environment.from_string(path.read_text(encoding="utf-8"))
