"""Write HTML elements with their styles."""

from functools import partial
from html import escape


def element(tag: str, style: str = "", *children: str, **attributes: str) -> str:
    """Write one element; children are HTML already, attributes are escaped here."""
    names = {name.replace("_", "-"): text for name, text in attributes.items()}
    names |= {"style": style} if style else {}
    written = "".join(f' {name}="{escape(text)}"' for name, text in names.items())
    return f"<{tag}{written}>{''.join(children)}</{tag}>"


def write_image(source: str, alt: str, style: str) -> str:
    """Write a picture; nothing is said of one with an empty text."""
    return f'<img src="{source}" alt="{escape(alt)}" style="{style}">'


def spread(*children: str, style: str = "") -> str:
    """Write a row whose children are spread over its width."""
    return div(f"display:flex;justify-content:space-between{style}", *children)


div = partial(element, "div")
span = partial(element, "span")
bold = partial(element, "b")
