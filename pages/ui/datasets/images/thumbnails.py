"""Draw many images of a run as small overlays in one grid."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

import cam
from cam._runs.results.titles import title_method
from cam.pages.ui.charts.elements import div, element, span
from cam.pages.ui.charts.tiles import encode_webp
from cam.pages.ui.datasets.opened_run import blend
from cam.pages.ui.server.resources import share
from cam.pages.ui.state import address
from cam.pages.ui.widgets.clickable import show_clickable

SIDE = 112
# Images that are read at once.
BLOCK = 100


class Cell(NamedTuple):
    """A thumbnail's item, and the lines under it."""

    item: int
    figure: str
    line: str
    wrong: bool = False


@share(max_entries=64, show_spinner="Drawing the images …")
def draw_thumbnails(
    run: cam.Run, method: str, items: tuple[int, ...], side: int = SIDE
) -> dict[int, tuple[str, str]]:
    """Draw several images; item → its id and its overlay, or the image alone where there is no map.

    Items without an image are left out.
    """
    drawn = {}
    for start in range(0, len(items), BLOCK):
        for item, image in run.pictures(list(items[start : start + BLOCK])).items():
            if image.picture is None:
                continue
            overlay = blend(image, method, side)
            if overlay is None:
                overlay = image.picture.convert("RGB").resize((side, side))
            drawn[item] = (str(image.facts["id"]), encode_webp(overlay))
    return drawn


def show_gallery(
    run: cam.Run, method: str, cells: Iterable[Cell], key: str, few: bool = False
) -> None:
    """Show thumbnails with their lines; a click opens the image."""
    cells = list(cells)
    items = tuple(cell.item for cell in cells)
    # Three across a half of the page are larger.
    drawn = draw_thumbnails(run, method, items, 2 * SIDE if few else SIDE)
    title = title_method(method)
    buttons = [_draw_cell(cell, drawn, title) for cell in cells if cell.item in drawn]
    html = div("gallery few" if few else "gallery", *buttons)
    show_clickable(html, key, open_image)


def _draw_cell(cell: Cell, drawn: Mapping[int, tuple[str, str]], title: str) -> str:
    name, source = drawn[cell.item]
    alt = f"{title} of {name}"
    image = f'<img src="{source}" alt="{escape(alt)}" loading="lazy" decoding="async">'
    lines = (
        span("figure", escape(cell.figure)) if cell.figure else "",
        span("wrong" if cell.wrong else "", escape(cell.line)),
    )
    tip = f"{name}: {cell.line}"
    return element("button", "", image, *lines, type="button", data_pick=str(cell.item), title=tip)


def open_image(item: str) -> None:
    """Open an image large."""
    address.write({"view": ["Gallery"], "item": [item]})
