"""Draw maps as tiles, and arrange drawings side by side.

They are part of the page itself, so they appear with the text, wrap on a phone, and take the
page's own ink in light and dark.
"""

import io
from base64 import b64encode
from collections.abc import Iterable

import numpy as np
from PIL import Image

from cam._output.explanation_files import data_uri
from cam.pages.ui.charts.colours import colour_values, style_ground
from cam.pages.ui.charts.elements import div, element, span, write_image
from cam.pages.ui.charts.numbers import format_cell

# Numbers are legible in the cells of a grid of at most this side.
LEGIBLE = 8
# Of a WebP.
QUALITY = 68


def draw_tile(values: np.ndarray, end: float, alt: str, signed: bool = True) -> str:
    """Draw a map with one square a value."""
    return draw_picture(Image.fromarray(colour_values(values, end, signed)), alt, smooth=False)


def draw_picture(picture: Image.Image, alt: str, smooth: bool = True) -> str:
    """Draw an image as wide as there is room."""
    return write_image(data_uri(picture), alt, "picture" if smooth else "pixels")


def draw_value_grid(values: np.ndarray, end: float, alt: str) -> str:
    """Draw a map with its values written into its cells, where there is room for them."""
    rows, columns = values.shape
    if max(rows, columns) > LEGIBLE:
        return draw_tile(values, end, alt)
    inks = colour_values(values, end, signed=True).reshape(-1, 3).tolist()
    cells = (
        div("", format_cell(float(value)), style=style_ground(ink))
        for ink, value in zip(inks, values.flat, strict=True)
    )
    style = f"grid-template-columns:repeat({columns},1fr)"
    return div("values", *cells, style=style, role="img", aria_label=alt)


def arrange(drawings: Iterable[tuple[str, str]], least: int = 130) -> str:
    """Arrange drawings with a line under each, as many in a row as there is room for.

    Args:
        drawings: (drawing, caption) as HTML.
        least: Width in pixels below which a drawing moves to the next row.
    """
    figures = (
        element("figure", "", drawing, element("figcaption", "", line))
        for drawing, line in drawings
    )
    style = f"grid-template-columns:repeat(auto-fill,minmax({least}px,1fr))"
    return div("tiles", *figures, style=style)


def draw_product(factor: str, left: str, right: str) -> str:
    """Draw one drawing times a number, which gives another."""
    return div("product", div("", left), span("", f"× {factor} ="), div("", right))


def encode_webp(picture: Image.Image) -> str:
    """Encode as the address of a small WebP."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"
