"""Draw small charts as HTML: maps by cell, bars, histograms.

They are part of the page itself, so they appear with the text, wrap on a phone, and take the
page's own ink in light and dark.
"""

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image

from cam._output.explanation_files import data_uri
from cam.kernels.blending.colormaps import colormap_table
from cam.pages.ui.widgets.charts import CHOSEN, OTHERS

# Red for and blue against: told apart with any colour vision, and white is nothing.
SIGNED = "RdBu_r"
PLAIN = "inferno"
FOR, AGAINST = "#D6604D", "#4393C3"
# Numbers are legible in cells of a grid of up to so many.
LEGIBLE = 8
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_PICTURE = "width:100%;display:block;border-radius:.25rem;image-rendering:"


def shown(value: float) -> str:
    """A number in three digits, with a true minus, and powers of ten as people write them."""
    if value == 0 or not np.isfinite(value):
        return "0" if value == 0 else str(float(value))
    size = abs(value)
    text = f"{size:,.0f}" if size >= 1000 else f"{size:#.3g}".rstrip(".")
    if "e" in text:
        digits, power = text.split("e")
        text = f"{digits} × 10{str(int(power)).translate(_RAISED)}"
    return f"−{text}" if value < 0 else text


def colours(values: np.ndarray, end: float, signed: bool) -> np.ndarray:
    """The colours of values, (h, w, 3) uint8.

    Args:
        values: (h, w).
        end: What takes the last colour; the first is its negative where ``signed``, else 0.
        signed: Whether the values have two signs.
    """
    place = values / (end or 1)
    place = (place + 1) / 2 if signed else place
    index = np.nan_to_num(place.clip(0, 1) * 255).round().astype(np.uint8)
    table: np.ndarray = colormap_table(SIGNED if signed else PLAIN).numpy()
    inks: np.ndarray = table[index]
    return inks


def tile(values: np.ndarray, end: float, alt: str, signed: bool = True) -> str:
    """A map with one square a value."""
    picture = Image.fromarray(colours(values, end, signed))
    return image(picture, alt, smooth=False)


def image(picture: Image.Image, alt: str, smooth: bool = True) -> str:
    """A picture as wide as there is room."""
    rendering = "auto" if smooth else "pixelated"
    return f'<img src="{data_uri(picture)}" alt="{escape(alt)}" style="{_PICTURE}{rendering}">'


def value_grid(values: np.ndarray, end: float, alt: str, signed: bool = True) -> str:
    """A map with its values written into its cells, where there is room for them."""
    rows, columns = values.shape
    if max(rows, columns) > LEGIBLE:
        return tile(values, end, alt, signed)
    cells = []
    for ink, value in zip(
        colours(values, end, signed).reshape(-1, 3).tolist(), values.flat, strict=True
    ):
        cells.append(
            '<div style="aspect-ratio:1;display:flex;align-items:center;justify-content:center;'
            f'{on_ground(ink)}">{short(float(value))}</div>'
        )
    return (
        f'<div role="img" aria-label="{escape(alt)}" style="display:grid;overflow:hidden;'
        f"border-radius:.25rem;font-size:.75rem;grid-template-columns:repeat({columns},1fr)"
        f'">{"".join(cells)}</div>'
    )


def on_ground(ink: Sequence[int]) -> str:
    """A ground of that colour, and text on it in black or white, whichever is read better."""
    red, green, blue = ink
    text = "#000" if _luminance(ink) > 0.179 else "#FFF"
    return f"background:rgb({red},{green},{blue});color:{text}"


def _luminance(ink: Sequence[int]) -> float:
    """WCAG 2's relative luminance; above 0.179, black is read better than white."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in ink)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def short(value: float) -> str:
    """A number for a small cell: two digits behind the point, and .12 for 0.12."""
    if abs(value) >= 100:
        return f"{value:.0f}".replace("-", "−")
    text = f"{value:.2f}"
    if float(text) == 0:
        return "0"
    return text.replace("-", "−").replace("0.", ".", 1) if abs(value) < 1 else text


def side_by_side(pieces: Iterable[tuple[str, str]], least: int = 130) -> str:
    """Drawings with a line under each, as many in a row as there is room for.

    Args:
        pieces: (drawing, line) as HTML.
        least: Width in pixels below which a drawing moves to the next row.
    """
    cells = "".join(
        f'<figure style="margin:0">{drawing}<figcaption style="padding-top:.25rem">{line}'
        "</figcaption></figure>"
        for drawing, line in pieces
    )
    return (
        '<div style="display:grid;gap:.75rem;font-size:.875rem;line-height:1.35;'
        f'grid-template-columns:repeat(auto-fill,minmax({least}px,1fr))">{cells}</div>'
    )


def product(factor: str, left: str, right: str) -> str:
    """One drawing times a number gives another."""
    return (
        '<div style="display:flex;align-items:center;gap:.25rem">'
        f'<div style="flex:1">{left}</div><span style="width:5.1rem;text-align:center">'
        f"× {factor} =</span>"
        f'<div style="flex:1">{right}</div></div>'
    )


def signed_bars(bars: Sequence[tuple[str, float]]) -> str:
    """One bar a number, to the right of the middle in red or to the left of it in blue."""
    longest = max((abs(value) for _, value in bars), default=0) or 1
    lines = []
    for name, value in bars:
        side = "left" if value >= 0 else "right"
        colour = FOR if value >= 0 else AGAINST
        lines.append(
            f'<span style="white-space:nowrap">{escape(name)}</span>'
            '<div style="position:relative;height:1rem;'
            'background:linear-gradient(currentColor,currentColor) center/1px 100% no-repeat">'
            f'<div style="position:absolute;{side}:50%;height:100%;border-radius:.2rem;'
            f'background:{colour};width:max(2px,{50 * abs(value) / longest:.2f}%)"></div></div>'
            f'<span style="text-align:right;white-space:nowrap">{shown(value)}</span>'
        )
    return (
        '<div style="display:grid;grid-template-columns:auto 1fr auto;gap:.25rem .75rem;'
        f'align-items:center;font-size:.875rem">{"".join(lines)}</div>'
    )


def score_table(rows: Sequence[tuple[str, float, float, bool]]) -> str:
    """Classes with their raw score, and their probability as a bar.

    Args:
        rows: (label, score, probability, whether it is the one that is explained).
    """
    lines = [
        '<span></span><span style="text-align:right">score</span>'
        '<span style="grid-column:span 2">probability</span>'
    ]
    for label, score, probability, chosen in rows:
        weight = "font-weight:600" if chosen else ""
        lines.append(
            f'<span style="{weight}">{escape(label)}</span>'
            f'<span style="text-align:right;{weight}">{shown(score)}</span>'
            f'<div style="height:1rem"><div style="height:100%;border-radius:.2rem;'
            f"background:{CHOSEN if chosen else OTHERS};width:max(2px,{100 * probability:.2f}%)"
            '"></div></div>'
            f'<span style="text-align:right">{probability:.1%}</span>'
        )
    return (
        '<div style="display:grid;grid-template-columns:fit-content(45%) auto 1fr auto;'
        f'gap:.5rem .75rem;align-items:center;font-size:.875rem">{"".join(lines)}</div>'
    )


def histogram(values: np.ndarray, marked: float, label: str, alt: str, bins: int = 48) -> str:
    """How all values are spread, and where one of them is."""
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    counts, _ = np.histogram(values, bins, (low, low + span))
    # The root: with a thousand classes, a bar of one would not be seen beside one of ninety.
    tall = 100 * np.sqrt(counts / counts.max())
    own = min(int((marked - low) / span * bins), bins - 1)
    bars = "".join(
        f'<div style="flex:1;border-radius:.1rem .1rem 0 0;height:{size:.1f}%;'
        f'background:{CHOSEN if place == own else OTHERS}"></div>'
        for place, size in enumerate(tall.tolist())
    )
    side = "right" if own >= bins / 2 else "left"
    from_side = 100 * (1 - (own + 1) / bins) if side == "right" else 100 * own / bins
    return (
        f'<div role="img" aria-label="{escape(alt)}" style="font-size:.875rem">'
        '<div style="position:relative;height:1.75rem"><span style="position:absolute;'
        f'white-space:nowrap;{side}:{from_side:.1f}%"><b>{escape(label)}</b> '
        f"{'↴' if side == 'right' else ''}</span></div>"
        f'<div style="display:flex;align-items:flex-end;gap:1px;height:9rem">{bars}</div>'
        '<div style="display:flex;justify-content:space-between;border-top:1px solid;'
        f'padding-top:.25rem"><span>{shown(low)}</span><span>{shown(high)}</span></div></div>'
    )


def legend(end: float, signed: bool = True, unit: str = "") -> str:
    """The colours and where they end."""
    table = colormap_table(SIGNED if signed else PLAIN)[::15].tolist()
    stops = ", ".join(f"rgb({red},{green},{blue})" for red, green, blue in table)
    low, high = (shown(-end), f"+{shown(end)}") if signed and end else ("0", shown(end))
    of = f'<span style="width:6.5rem">{escape(unit)}</span>' if unit else ""
    return (
        f'<div style="display:flex;gap:.6rem;align-items:center;font-size:.8rem">{of}'
        f'<span>{low}</span><div style="flex:1;height:.6rem;border-radius:.3rem;'
        f'background:linear-gradient(to right,{stops})"></div><span>{high}</span></div>'
    )
