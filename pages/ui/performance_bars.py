"""Figures for everybody to see: large numbers, and bars that grow while they are measured."""

from collections.abc import Sequence
from html import escape

from pages.ui.charts import CHOSEN, OTHERS

PLAIN = "#8A8F98"
Bar = tuple[str, float, str, str]
"""What it is, how long, what stands behind it, its colour."""


def bars(rows: Sequence[Bar], alt: str) -> str:
    """One bar a row, the longest as long as there is room."""
    longest = max((length for _, length, _, _ in rows), default=0) or 1
    lines = "".join(
        f'<div style="margin-bottom:.6rem"><div style="display:flex;justify-content:space-between;'
        f'gap:1rem"><span>{escape(name)}</span><b style="white-space:nowrap">{escape(told)}</b>'
        f'</div><div style="height:1.1rem"><div style="height:100%;border-radius:.25rem;'
        f"background:{colour};transition:width .4s;width:max(2px,{100 * length / longest:.2f}%)"
        '"></div></div></div>'
        for name, length, told, colour in rows
    )
    return f'<div role="group" aria-label="{escape(alt)}" style="font-size:.9rem">{lines}</div>'


def headline(figures: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    cells = "".join(
        f'<div><div style="font-size:2.2rem;font-weight:650;line-height:1.15">{escape(number)}'
        f'</div><div style="font-size:.9rem">{escape(what)}</div></div>'
        for number, what in figures
    )
    return (
        '<div style="display:grid;gap:1rem 1.5rem;margin-bottom:.75rem;'
        f'grid-template-columns:repeat(auto-fit,minmax(170px,1fr))">{cells}</div>'
    )


def colour_of(name: str, ours: str, plain: str) -> str:
    """This library's own in one colour, plain inference in grey, the others in another."""
    return {ours: CHOSEN, plain: PLAIN}.get(name, OTHERS)
