"""Draw the two charts of a report as SVG text."""

import html
from collections.abc import Sequence

import numpy as np

WIDTH, LEFT, RIGHT, ROW = 760, 220, 40, 24
# In the ink of the page that they stand on, light or dark.
INK = "stroke='currentColor'"
GRID = f"{INK} stroke-opacity='.15'"
FAINT = f"{INK} stroke-opacity='.4'"
PALE = "fill-opacity='.75'"


def draw_intervals(
    names: Sequence[str], means: np.ndarray, lows: np.ndarray, highs: np.ndarray
) -> str:
    """Draw a dot for each mean, a line for its interval."""
    lows, highs = np.where(np.isnan(lows), means, lows), np.where(np.isnan(highs), means, highs)
    ticks = choose_ticks(float(lows.min()), float(highs.max()))
    first, last = ticks[0], ticks[-1]

    def at(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - first) / (last - first)

    height = ROW * len(names) + 34
    parts = [_open(height, "means with 95 % intervals")]
    for value in ticks:
        x = at(value)
        parts.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='4' y2='{height - 24}' {GRID}/>")
        parts.append(
            f"<text x='{x:.1f}' y='{height - 8}' text-anchor='middle' {PALE}>{value:.6g}</text>"
        )
    for row, (name, mean, low, high) in enumerate(zip(names, means, lows, highs, strict=True)):
        y = 16 + ROW * row
        parts.append(
            f"<text x='{LEFT - 12}' y='{y + 4}' text-anchor='end'>{html.escape(name)}</text>"
            f"<line x1='{at(low):.1f}' x2='{at(high):.1f}' y1='{y}' y2='{y}' stroke='#2f6fb0' "
            f"stroke-width='3'/><circle cx='{at(mean):.1f}' cy='{y}' r='5' fill='#2f6fb0'/>"
        )
    return "".join([*parts, "</svg>"])


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


def draw_ranks(ranks: dict[str, float], critical: float) -> str:
    """Draw a critical-difference diagram of average ranks."""
    ordered = sorted(ranks.items(), key=lambda entry: entry[1])
    top = max(len(ordered), 2)

    def at(rank: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (rank - 1) / (top - 1)

    bars = group_alike([rank for _, rank in ordered], critical)
    start = 40 + 8 * len(bars)
    height = start + ROW * len(ordered) + 8
    parts = [_open(height, "average ranks with the critical difference")]
    parts.append(f"<line x1='{at(1):.1f}' x2='{at(top):.1f}' y1='24' y2='24' {INK}/>")
    for number in range(1, top + 1):
        parts.append(
            f"<line x1='{at(number):.1f}' x2='{at(number):.1f}' y1='19' y2='24' {INK}/>"
            f"<text x='{at(number):.1f}' y='14' text-anchor='middle' {PALE}>{number}</text>"
        )
    for number, (first, last) in enumerate(bars):
        y = 34 + 8 * number
        parts.append(
            f"<line x1='{at(ordered[first][1]) - 4:.1f}' x2='{at(ordered[last][1]) + 4:.1f}' "
            f"y1='{y}' y2='{y}' stroke='#c2571a' stroke-width='4' stroke-linecap='round'/>"
        )
    for row, (name, rank) in enumerate(ordered):
        x, y = at(rank), start + ROW * row + 8
        parts.append(
            f"<path d='M{x:.1f} 24 V{y} H{LEFT - 6}' fill='none' {FAINT}/>"
            f"<text x='{LEFT - 12}' y='{y + 4}' text-anchor='end'>{html.escape(name)} "
            f"{rank:.2f}</text>"
        )
    return "".join([*parts, "</svg>"])


def group_alike(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Find the longest stretches of ranks within the critical difference."""
    stretches: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(index for index, other in enumerate(ranks) if other - rank < critical)
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return stretches


def _open(height: int, title: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' "
        f"viewBox='0 0 {WIDTH} {height}' role='img' font-size='13' "
        f"fill='currentColor'><title>{title}</title>"
    )
