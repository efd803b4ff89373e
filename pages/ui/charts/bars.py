"""Draw bars of probabilities, speeds and bytes, and large figures."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from cam._formatting import size
from cam.kernels.inspection.traffic import Step
from cam.pages.ui.charts.colours import AGAINST, FOR, HIGHLIGHT, OTHERS, READ, WRITTEN
from cam.pages.ui.charts.elements import bold, div, span
from cam.pages.ui.charts.numbers import format_value


class Bar(NamedTuple):
    """One bar: what it is, how long, what stands behind it, its colour and its interval."""

    name: str
    length: float
    figure: str
    colour: str
    interval: tuple[float, float] | None = None


class Lane(NamedTuple):
    """Launches in a row: what they are, what stands at their end, and each of them."""

    name: str
    figure: str
    launches: Sequence[Step]

    @property
    def bytes(self) -> float:
        """All that is read and written."""
        return sum(launch.bytes for launch in self.launches)


def draw_meter(share: float, colour: str, kind: str = "") -> str:
    """Draw one bar as long as a share of the room, at least two pixels; it grows smoothly."""
    bar = div(style=f"background:{colour};width:max(2px,{100 * share:.2f}%)")
    return div(f"meter {kind}", bar)


def draw_signed_bars(bars: Sequence[tuple[str, float]]) -> str:
    """Draw one bar a number, right of the middle in red or left of it in blue."""
    longest = max((abs(value) for _, value in bars), default=0) or 1
    cells = []
    for name, value in bars:
        side, colour = ("left", FOR) if value >= 0 else ("right", AGAINST)
        width = f"max(2px,{50 * abs(value) / longest:.2f}%)"
        bar = div(style=f"{side}:50%;background:{colour};width:{width}")
        cells += [span("", escape(name)), div("middle", bar), span("figure", format_value(value))]
    return div("signed", *cells)


def draw_scores(rows: Sequence[tuple[str, float, float, bool]]) -> str:
    """Draw classes with their raw score, and their probability as a bar.

    Args:
        rows: (label, score, probability, whether it is the class that is explained).
    """
    cells = [span(), span("figure", "score"), span("two-columns", "probability")]
    for label, score, probability, highlighted in rows:
        weight = "explained" * highlighted
        cells += [
            span(weight, escape(label)),
            span(f"figure {weight}", format_value(score)),
            draw_meter(probability, HIGHLIGHT if highlighted else OTHERS),
            span("figure", f"{probability:.1%}"),
        ]
    return div("scores", *cells)


def draw_histogram(values: np.ndarray, marked: float, label: str, alt: str) -> str:
    """Draw how all values are spread, and where a marked one of them is."""
    low, high = float(values.min()), float(values.max())
    span_of_values = (high - low) or 1.0
    bins = 48
    counts, _ = np.histogram(values, bins, (low, low + span_of_values))
    # The root: with a thousand classes, a bar of one would not be seen beside one of ninety.
    heights = 100 * np.sqrt(counts / counts.max())
    marked_bin = min(int((marked - low) / span_of_values * bins), bins - 1)
    inks = [HIGHLIGHT if index == marked_bin else OTHERS for index in range(bins)]
    bars = (
        div(style=f"height:{height:.1f}%;background:{ink}")
        for height, ink in zip(heights.tolist(), inks, strict=True)
    )
    right = marked_bin >= bins / 2
    side, arrow = ("right", "↴") if right else ("left", "")
    from_side = 100 * (1 - (marked_bin + 1) / bins) if right else 100 * marked_bin / bins
    note = span("", bold("", escape(label)), f" {arrow}", style=f"{side}:{from_side:.1f}%")
    ends = div("spread", span("", format_value(low)), span("", format_value(high)))
    row = div("columns", *bars)
    return div("histogram", div("label", note), row, ends, role="img", aria_label=alt)


def draw_bars(rows: Sequence[Bar], alt: str, together: int = 1) -> str:
    """Draw one bar a row, the longest as wide as there is room; ``together`` rows make a group."""
    ends = [max(row.length, row.interval[1] if row.interval else 0) for row in rows]
    longest = max(ends, default=0) or 1
    lines = []
    for number, row in enumerate(rows, start=1):
        meter = draw_meter(row.length / longest, row.colour)
        if row.interval is not None:
            low, high = (100 * end / longest for end in row.interval)
            whisker = div("whisker", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
            meter = div("with-interval", meter, whisker)
        last = together > 1 and number % together == 0
        lines.append(div("bar" + " last" * last, draw_figure(row.name, row.figure), meter))
    return div("bars", *lines, role="group", aria_label=alt)


def draw_figure(name: str, figure: str) -> str:
    """Draw a name, and its figure at the other end of the row."""
    return div("figure-row", span("", escape(name)), bold("", escape(figure)))


def draw_figures(figures: Sequence[tuple[str, str]]) -> str:
    """Draw large numbers, each with what it is."""
    return div("figures", *(div("", *(div("", escape(text)) for text in pair)) for pair in figures))


def draw_lanes(rows: Sequence[Lane], alt: str, longest: float) -> str:
    """Draw one lane a row, to scale: of each launch what it reads, then what it writes."""
    lines = []
    for lane in rows:
        ends = (span("", escape(text)) for text in (lane.name, lane.figure))
        width = f"width:max(2px,{100 * lane.bytes / longest:.2f}%)"
        launches = div("launches", *map(_draw_launch, lane.launches), style=width)
        lines.append(div("lane", div("spread", *ends), launches))
    return div("lanes", *lines, role="group", aria_label=alt)


def _draw_launch(launch: Step) -> str:
    reads = div(style=f"flex:{launch.reads} 1 0;background:{READ}")
    writes = div(style=f"flex:{launch.writes} 1 0;background:{WRITTEN}")
    title = f"{launch.name}: {describe_step(launch)}"
    return div("", reads, writes, style=f"flex:{launch.bytes} 1 0", title=title)


def describe_step(step: Step) -> str:
    """Describe what a launch moves."""
    return f"{size(step.reads)} read, {size(step.writes)} written"
