"""Colour values, and draw what the colours stand for."""

from collections.abc import Sequence
from html import escape

import numpy as np

from cam.kernels.blending.colormaps import colormap_table
from cam.pages.ui.charts.elements import div, span
from cam.pages.ui.charts.numbers import format_value
from cam.polarity import DIVERGING

# From Okabe and Ito's palette, which readers with any colour vision tell apart.
HIGHLIGHT, OTHERS = "#E69F00", "#56B4E9"
NEUTRAL = "#8A8F98"
READ, WRITTEN = OTHERS, "#D55E00"
# In the order in which they differ most; each line has its own dashes too.
LINES = [HIGHLIGHT, OTHERS, "#009E73", "#CC79A7", WRITTEN, "#0072B2", "#999999", "#F0E442"]
DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 4", "6 2 1 2 1 2"]
PLAIN = "inferno"
FOR, AGAINST = "#D6604D", "#4393C3"


def colour_values(values: np.ndarray, end: float, signed: bool) -> np.ndarray:
    """Colour (h, w) values; returns (h, w, 3) uint8.

    Args:
        values: (h, w).
        end: What takes the last colour; the first is its negative where ``signed``, else 0.
        signed: Whether the values have two signs.
    """
    share = values / (end or 1)
    share = (share + 1) / 2 if signed else share
    index = np.nan_to_num(share.clip(0, 1) * 255).round().astype(np.uint8)
    table: np.ndarray = colormap_table(DIVERGING if signed else PLAIN).numpy()
    inks: np.ndarray = table[index]
    return inks


def style_ground(ink: Sequence[int]) -> str:
    """Style a ground of that colour with text in black or white, whichever is read better."""
    red, green, blue = ink
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in ink)
    ]
    # WCAG 2's relative luminance: above 0.179, black is read better than white.
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    text = "#000" if luminance > 0.179 else "#FFF"
    return f"background:rgb({red},{green},{blue});color:{text}"


def _draw_scale(colormap: str, low: str, high: str, kind: str, unit: str = "") -> str:
    stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in colormap_table(colormap)[::15].tolist())
    gradient = div(style=f"background:linear-gradient(to right, {stops})")
    title = span("unit", escape(unit)) if unit else ""
    return div(kind, title, span("", low), gradient, span("", high))


def draw_legend(end: float, signed: bool = True, unit: str = "") -> str:
    """Draw the colours of tiles and the values at which they end."""
    last = format_value(end)
    low, high = (format_value(-end), f"+{last}") if signed and end else ("0", last)
    return _draw_scale(DIVERGING if signed else PLAIN, low, high, "legend", unit)


def draw_keys(colours: Sequence[tuple[str, str]]) -> str:
    """Draw a square of each colour beside what it stands for."""
    keys = (span("", span(style=f"background:{ink}"), escape(meaning)) for meaning, ink in colours)
    return div("keys", *keys)
