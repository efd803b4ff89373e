"""Draw bars of probabilities, speeds and bytes, and large figures."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from cam.pages.ui.charts.colours import AGAINST, FOR, HIGHLIGHT, OTHERS, READ, WRITTEN
from cam.pages.ui.charts.elements import bold, div, span, spread
from cam.pages.ui.charts.numbers import format_value


class Bar(NamedTuple):
    """One bar: what it is, how long, what stands behind it, its colour."""

    name: str
    length: float
    figure: str
    colour: str


class Launch(NamedTuple):
    """One launch of a kernel: bytes read, bytes written, and what it is."""

    reads: float
    writes: float
    name: str


class Lane(NamedTuple):
    """Launches in a row: what they are, what stands at their end, and each of them."""

    name: str
    figure: str
    launches: Sequence[Launch]

    @property
    def bytes(self) -> float:
        """All that is read and written."""
        return sum(launch.reads + launch.writes for launch in self.launches)


def draw_meter(
    share: float, colour: str, height: str, radius: str = ".2rem", ground: str = ""
) -> str:
    """Draw one bar as long as a share of the room, at least two pixels; it grows smoothly."""
    track = f"height:{height}" + (f";border-radius:{radius};background:{ground}" if ground else "")
    width = f"transition:width .4s;width:max(2px,{100 * share:.2f}%)"
    return div(track, div(f"height:100%;border-radius:{radius};background:{colour};{width}"))


def draw_probability(probability: float, highlighted: bool) -> str:
    """Draw one bar with its figure; the chosen class in another colour."""
    meter = draw_meter(probability, HIGHLIGHT if highlighted else OTHERS, "1.25rem", ".25rem")
    return div(
        "display:flex;align-items:center;gap:.5rem;height:2.5rem;font-size:.875rem",
        div("flex:1;min-width:3rem", meter),
        span("width:3.5rem;text-align:right", f"{probability:.1%}"),
    )


def draw_signed_bars(bars: Sequence[tuple[str, float]]) -> str:
    """Draw one bar a number, right of the middle in red or left of it in blue."""
    longest = max((abs(value) for _, value in bars), default=0) or 1
    middle = "position:relative;height:1rem;"
    middle += "background:linear-gradient(currentColor,currentColor) center/1px 100% no-repeat"
    cells = []
    for name, value in bars:
        side, colour = ("left", FOR) if value >= 0 else ("right", AGAINST)
        width = f"max(2px,{50 * abs(value) / longest:.2f}%)"
        bar = f"position:absolute;{side}:50%;height:100%;border-radius:.2rem;"
        cells += [
            span("white-space:nowrap", escape(name)),
            div(middle, div(f"{bar}background:{colour};width:{width}")),
            span("text-align:right;white-space:nowrap", format_value(value)),
        ]
    style = "display:grid;grid-template-columns:auto 1fr auto;gap:.25rem .75rem;"
    return div(f"{style}align-items:center;font-size:.875rem", *cells)


def draw_scores(rows: Sequence[tuple[str, float, float, bool]]) -> str:
    """Draw classes with their raw score, and their probability as a bar.

    Args:
        rows: (label, score, probability, whether it is the class that is explained).
    """
    cells = [span(), span("text-align:right", "score"), span("grid-column:span 2", "probability")]
    for label, score, probability, highlighted in rows:
        weight = "font-weight:600" if highlighted else ""
        cells += [
            span(weight, escape(label)),
            span(f"text-align:right;{weight}", format_value(score)),
            draw_meter(probability, HIGHLIGHT if highlighted else OTHERS, "1rem"),
            span("text-align:right", f"{probability:.1%}"),
        ]
    style = "display:grid;grid-template-columns:fit-content(45%) auto 1fr auto;"
    return div(f"{style}gap:.5rem .75rem;align-items:center;font-size:.875rem", *cells)


def draw_histogram(values: np.ndarray, marked: float, label: str, alt: str, bins: int = 48) -> str:
    """Draw how all values are spread, and where a marked one of them is."""
    low, high = float(values.min()), float(values.max())
    span_of_values = (high - low) or 1.0
    counts, _ = np.histogram(values, bins, (low, low + span_of_values))
    # The root: with a thousand classes, a bar of one would not be seen beside one of ninety.
    heights = 100 * np.sqrt(counts / counts.max())
    marked_bin = min(int((marked - low) / span_of_values * bins), bins - 1)
    bars = (
        div(
            f"flex:1;border-radius:.1rem .1rem 0 0;height:{height:.1f}%;"
            f"background:{HIGHLIGHT if index == marked_bin else OTHERS}"
        )
        for index, height in enumerate(heights.tolist())
    )
    right = marked_bin >= bins / 2
    side, arrow = ("right", "↴") if right else ("left", "")
    from_side = 100 * (1 - (marked_bin + 1) / bins) if right else 100 * marked_bin / bins
    text = f"{bold('', escape(label))} {arrow}"
    note = span(f"position:absolute;white-space:nowrap;{side}:{from_side:.1f}%", text)
    label_row = div("position:relative;height:1.75rem", note)
    bar_row = div("display:flex;align-items:flex-end;gap:1px;height:9rem", *bars)
    ends = (span("", format_value(low)), span("", format_value(high)))
    axis = spread(*ends, style=";border-top:1px solid;padding-top:.25rem")
    return div("font-size:.875rem", label_row, bar_row, axis, role="img", aria_label=alt)


def draw_bars(rows: Sequence[Bar], alt: str, together: int = 1) -> str:
    """Draw one bar a row, the longest as wide as there is room; ``together`` rows make a group."""
    longest = max((row.length for row in rows), default=0) or 1
    lines = []
    for number, row in enumerate(rows, start=1):
        margin = f"margin-bottom:{0.6 if together == 1 or number % together else 1.4}rem"
        meter = draw_meter(row.length / longest, row.colour, "1.1rem", ".25rem")
        lines.append(div(margin, draw_figure(row.name, row.figure), meter))
    return div("font-size:.9rem", *lines, role="group", aria_label=alt)


def draw_figure(name: str, figure: str) -> str:
    """Draw a name, and its figure at the other end of the row."""
    value = bold("white-space:nowrap", escape(figure))
    return spread(span("", escape(name)), value, style=";gap:1rem")


def draw_figures(figures: Sequence[tuple[str, str]]) -> str:
    """Draw large numbers, each with what it is."""
    large = "font-size:2.2rem;font-weight:650;line-height:1.15"
    cells = (
        div("", div(large, escape(number)), div("font-size:.9rem", escape(meaning)))
        for number, meaning in figures
    )
    style = "display:grid;gap:1rem 1.5rem;margin-bottom:.75rem;"
    return div(f"{style}grid-template-columns:repeat(auto-fit,minmax(170px,1fr))", *cells)


def draw_lanes(rows: Sequence[Lane], alt: str, longest: float) -> str:
    """Draw one lane a row, to scale: of each launch what it reads, then what it writes."""
    lines = []
    for lane in rows:
        ends = (span("", escape(lane.name)), span("", escape(lane.figure)))
        style = "display:flex;height:1.1rem;border-radius:.15rem;overflow:hidden;"
        style += f"width:max(2px,{100 * lane.bytes / longest:.2f}%)"
        launches = div(style, *map(_draw_launch, lane.launches))
        title = spread(*ends, style=";flex-wrap:wrap;column-gap:1rem")
        lines.append(div("margin-bottom:.5rem", title, launches))
    return div("font-size:.9rem", *lines, role="group", aria_label=alt)


def _draw_launch(launch: Launch) -> str:
    style = f"display:flex;flex:{launch.reads + launch.writes} 1 0;box-shadow:inset -1px 0 #0006"
    reads = div(f"flex:{launch.reads} 1 0;background:{READ}")
    writes = div(f"flex:{launch.writes} 1 0;background:{WRITTEN}")
    return div(style, reads, writes, title=launch.name)
