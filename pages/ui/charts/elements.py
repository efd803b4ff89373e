"""Write HTML elements, whose classes ``charts.css`` styles."""

from functools import partial
from html import escape


def element(tag: str, names: str = "", *children: str, **attributes: str) -> str:
    """Write one element of some classes; children are HTML already, attributes are escaped here."""
    classes = " ".join(f"cam-{name}" for name in names.split())
    written = "".join(
        f' {name.replace("_", "-")}="{escape(text)}"'
        for name, text in (attributes | {"class": classes}).items()
        if text
    )
    return f"<{tag}{written}>{''.join(children)}</{tag}>"


def write_image(source: str, alt: str, name: str) -> str:
    """Write an image of a class; nothing is said of one with an empty text."""
    return f'<img src="{source}" alt="{escape(alt)}" class="cam-{name}">'


div = partial(element, "div")
span = partial(element, "span")
bold = partial(element, "b")
