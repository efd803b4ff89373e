"""Write images and their maps as one file for any browser."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).with_name("browser")
# Each needs only those before it.
_MODULES = (
    *("shared", "raster", "region", "selection", "elements", "looks", "toolbar", "gestures"),
    *("marks", "cell", "viewer"),
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; max-width: 1400px; padding: 20px; background: light-dark(#fff, #0e1117);
       color: light-dark(#1b2430, #eef1f5); font-family: system-ui, sans-serif; }}
h1 {{ font-size: 22px; margin: 0 0 14px; }}
.cam-viewer + .cam-viewer {{ margin-top: 32px; }}
.note {{ font-size: 14px; color: light-dark(#525c69, #a8b0bb); }}
{css}
</style>
</head>
<body>
<main>
{head}
<div id="viewers"></div>
{notes}
</main>
{data}
<script type="module">
{js}
const parent = document.getElementById("viewers");
const viewers = readPayloads().map((data) => new Viewer(parent, data));
window.camViewer = viewers[0];
{more}
</script>
</body>
</html>
"""
_READER = """
function readPayloads() {
  const { shared, each } = JSON.parse(document.getElementById("payloads").textContent);
  return each.map((rest) => ({ ...shared, ...rest }));
}
"""


@cache
def read_script() -> str:
    """Join the viewer's modules to one, whose default export mounts a component."""
    parts = [(_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in _MODULES]
    text = "\n".join(parts)
    text = re.sub(r"^import .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


@cache
def read_styles() -> str:
    """Read the viewer's styles."""
    return (_FOLDER / "viewer.css").read_text(encoding="utf-8")


def write_page(
    payloads: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    title: str,
    notes: Sequence[str] = (),
    heading: bool = True,
    script: str = "",
) -> str:
    """Write one HTML file that holds viewers and their data, and asks nobody for anything.

    Args:
        payloads: Of :func:`cam._output.viewer.payload.pack`: one, or several below each other.
        title: What the page is called.
        notes: Sentences below the viewers.
        heading: Whether the title stands above them.
        script: JavaScript that runs at the end.
    """
    several = [payloads] if isinstance(payloads, Mapping) else payloads
    return _PAGE.format(
        title=escape(title),
        head=f"<h1>{escape(title)}</h1>" if heading else "",
        notes="\n".join(f'<p class="note">{escape(note)}</p>' for note in notes),
        css=read_styles(),
        data=write_data(several),
        js=read_viewer(),
        more=script,
    )


def read_viewer() -> str:
    """Read what a page's module needs: ``Viewer``, and ``readPayloads`` for :func:`write_data`."""
    return f"{read_script().replace('export default ', '')}\n{_READER}"


def write_data(payloads: Sequence[Mapping[str, Any]]) -> str:
    """Write payloads as an element of a page; what they share, such as colours, is there once."""
    first, *others = payloads
    shared = {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in others)
    }
    rest = [
        {name: value for name, value in payload.items() if name not in shared}
        for payload in payloads
    ]
    data = json.dumps({"shared": shared, "each": rest}, ensure_ascii=True)
    # A closing tag within a string would end the script.
    data = data.replace("<", "\\u003c")
    return f'<script type="application/json" id="payloads">{data}</script>'
