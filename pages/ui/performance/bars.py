"""Draw large figures, and bars that grow during a measurement."""

from collections.abc import Sequence
from html import escape

from cam.pages.ui.widgets.charts import CHOSEN, OTHERS

PLAIN = "#8A8F98"
Bar = tuple[str, float, str, str]
"""What it is, how long, what stands behind it, its colour."""


def bars(rows: Sequence[Bar], alt: str, together: int = 1) -> str:
    """One bar a row, the longest as long as there is room; so many rows make a group."""
    longest = max((length for _, length, _, _ in rows), default=0) or 1
    lines = "".join(
        f'<div style="margin-bottom:{0.6 if together == 1 or place % together else 1.4}rem">'
        '<div style="display:flex;justify-content:space-between;gap:1rem"><span>'
        f'{escape(name)}</span><b style="white-space:nowrap">{escape(told)}</b>'
        f'</div><div style="height:1.1rem"><div style="height:100%;border-radius:.25rem;'
        f"background:{colour};transition:width .4s;width:max(2px,{100 * length / longest:.2f}%)"
        '"></div></div></div>'
        for place, (name, length, told, colour) in enumerate(rows, start=1)
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


READ, WRITTEN = OTHERS, "#D55E00"
Part = tuple[float, float, str]
"""One launch: bytes read, bytes written, and what it is."""
Lane = tuple[str, str, Sequence[Part]]
"""What it is, what stands at its end, and its launches."""


def lanes(rows: Sequence[Lane], alt: str, longest: float) -> str:
    """One lane a row, to scale: of each launch what it reads, then what it writes."""
    lines = "".join(
        f'<div style="margin-bottom:.5rem"><div style="display:flex;flex-wrap:wrap;'
        f'justify-content:space-between;column-gap:1rem"><span>{escape(name)}</span>'
        f"<span>{escape(told)}</span></div>"
        '<div style="display:flex;height:1.1rem;border-radius:.15rem;overflow:hidden;'
        f'width:max(2px,{100 * length(parts) / longest:.2f}%)">'
        + "".join(
            f'<div title="{escape(what)}" style="display:flex;flex:{reads + writes} 1 0;'
            f'box-shadow:inset -1px 0 #0006"><div style="flex:{reads} 1 0;background:{READ}">'
            f'</div><div style="flex:{writes} 1 0;background:{WRITTEN}"></div></div>'
            for reads, writes, what in parts
        )
        + "</div></div>"
        for name, told, parts in rows
    )
    return f'<div role="group" aria-label="{escape(alt)}" style="font-size:.9rem">{lines}</div>'


def length(parts: Sequence[Part]) -> float:
    """How many bytes a lane has."""
    return sum(reads + writes for reads, writes, _ in parts)


def legend(colours: Sequence[tuple[str, str]]) -> str:
    """What each colour stands for."""
    cells = "".join(
        f'<span style="display:inline-flex;align-items:center;gap:.4rem"><span style="width:.9rem;'
        f'height:.9rem;border-radius:.15rem;background:{colour}"></span>{escape(what)}</span>'
        for what, colour in colours
    )
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;font-size:.875rem">'
        f"{cells}</div>"
    )
