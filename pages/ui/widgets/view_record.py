"""Draw on the page, and record it for a file.

What a page draws through this module while :func:`record_view` runs is in the file too; widgets are
not. Elsewhere these functions only draw.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from pathlib import Path
from typing import Any

import pandas
import streamlit as st

from cam._output.viewer.standalone import read_styles, read_viewer, write_data
from cam.pages.ui.charts.tables import draw_table
from cam.pages.ui.widgets.markdown_html import write_html

# A file that people send; images that have no room are left out, and the file says so.
MOST_BYTES = 950_000
MOST_ROWS = 200

_STYLES = Path(__file__).with_suffix(".css")
_CHARTS = Path(__file__).parents[1] / "charts" / "charts.css"
_IMAGE = re.compile(r'<img [^>]*?src="(data:[^"]+)"[^>]*>')
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
{css}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{choices}
{body}
</main>
{script}
</body>
</html>
"""
_MOUNT = """
const payloads = readPayloads();
for (const [at, node] of document.querySelectorAll("[data-viewer]").entries()) {
  new Viewer(node, payloads[at]);
}
"""


class ViewRecord:
    """What a page drew: pieces of HTML, viewers, and what its visitor chose."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.payloads: list[Mapping[str, Any]] = []
        self.choices: dict[str, str] = {}
        self.styles: list[str] = []
        self.tables = 0

    def write(self, title: str) -> str:
        """Write it as one page that opens without a network, below 1 MB."""
        script = ""
        if self.payloads:
            # It is no part of a string, so nothing in it ends the script.
            script = f'{write_data(self.payloads)}\n<script type="module">\n{read_viewer()}{_MOUNT}'
            script += "</script>"
        css = [path.read_text(encoding="utf-8") for path in (_CHARTS, _STYLES)]
        css += [*dict.fromkeys(self.styles)]
        css += [read_styles()] * bool(self.payloads)
        choices = " · ".join(
            f"{escape(name)}: <b>{escape(text)}</b>" for name, text in self.choices.items()
        )
        body = _drop_empty_sections(self.pieces)
        parts = {
            "title": escape(title),
            "choices": f'<p class="choices">{choices}</p>' if choices else "",
            "css": "\n".join(css),
            "script": script,
        }
        rest = MOST_BYTES - len(_PAGE.format(body="", **parts).encode())
        return _PAGE.format(body=limit_images(body, rest), **parts)


_record: ContextVar[ViewRecord | None] = ContextVar("view_record", default=None)


@contextmanager
def record_view() -> Iterator[ViewRecord]:
    """Record what is drawn by this module until the block ends."""
    record = ViewRecord()
    token = _record.set(record)
    try:
        yield record
    finally:
        _record.reset(token)


@contextmanager
def pause_record() -> Iterator[None]:
    """Draw without recording until the block ends: what is of no use in a file."""
    token = _record.set(None)
    try:
        yield
    finally:
        _record.reset(token)


@contextmanager
def title_part(heading: str) -> Iterator[None]:
    """Record a heading before what the block records, if it records anything."""
    record = _record.get()
    start = 0 if record is None else len(record.pieces)
    yield
    if record is not None and len(record.pieces) > start:
        record.pieces.insert(start, write_part_title(heading))


def write_part_title(heading: str) -> str:
    """Write the title of a part of a section."""
    return f'<h2 class="part">{escape(heading)}</h2>'


def note_choice(label: str, text: str) -> None:
    """Record what a widget is set to."""
    if (record := _record.get()) is not None:
        record.choices[label] = text


def record_html(piece: str, styles: str = "") -> None:
    """Record HTML that something else draws, and the styles that it needs."""
    if (record := _record.get()) is not None:
        record.pieces.append(piece)
        record.styles += [styles] if styles else []


def record_viewer(payload: Mapping[str, Any]) -> None:
    """Record a viewer that something else draws."""
    if (record := _record.get()) is not None:
        record.payloads.append(payload)
        record.pieces.append("<div data-viewer></div>")


def header(text: str, **options: Any) -> None:
    """Write the header of a section."""
    st.header(text, **options)
    record_html(f"<h2>{escape(text)}</h2>")


def subheader(text: str, **options: Any) -> None:
    """Write the header of a part."""
    st.subheader(text, **options)
    record_html(f"<h2>{escape(text)}</h2>")


def markdown(text: str) -> None:
    """Write Markdown."""
    st.markdown(text)
    record_html(write_html(text))


def small(text: str) -> None:
    """Write small print, in Markdown."""
    st.markdown(f":small[{text}]")
    record_html(write_html(text).replace("<p>", '<p class="small">'))


def info(text: str) -> None:
    """Write what a visitor should know."""
    st.info(text)
    _record_alert(text)


def success(text: str) -> None:
    """Write what has come out well."""
    st.success(text)
    _record_alert(text)


def warning(text: str) -> None:
    """Write what a visitor should beware of."""
    st.warning(text)
    _record_alert(text)


def _record_alert(text: str) -> None:
    record_html(f'<div class="alert">{write_html(text)}</div>')


def html(piece: str) -> None:
    """Write HTML whose texts are escaped already."""
    st.html(piece)
    record_html(piece)


def image(content: bytes, alt: str) -> None:
    """Show a PNG as it is: without the format, Streamlit sends a JPEG of it."""
    st.image(content, width="stretch", output_format="PNG", alt=alt)
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    record_html(f'<p><img src="{source}" alt="{escape(alt)}" style="max-width:224px"></p>')


def dataframe(
    table: pandas.DataFrame, titles: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Show a table as wide as the page.

    Args:
        table: Without its index.
        titles: Of the columns, where ``options`` give them others than their names.
        options: Of Streamlit's widget.
    """
    st.dataframe(table, hide_index=True, width="stretch", **options)
    record = _record.get()
    if record is None:
        return
    heads = [(titles or {}).get(str(name), str(name)) for name in table]
    rows = [
        [_write_cell(value) for value in row]
        for row in table.head(MOST_ROWS).itertuples(index=False)
    ]
    record.tables += 1
    record_html(draw_table(heads, rows, f"Table {record.tables}"))
    if len(table) > MOST_ROWS:
        record_html(f'<p class="small">The first {MOST_ROWS} of {len(table):,} rows.</p>')


def _write_cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _drop_empty_sections(pieces: Sequence[str]) -> str:
    """Join pieces without the headers that nothing follows: their sections hold widgets only."""

    def ends(at: int) -> bool:
        return at == len(pieces) or pieces[at].startswith("<h2>")

    return "\n".join(
        piece for at, piece in enumerate(pieces) if not (piece.startswith("<h2>") and ends(at + 1))
    )


def limit_images(body: str, most: int) -> str:
    """Leave out images that have no room, the last ones first, and say how many.

    Args:
        body: HTML.
        most: Bytes.
    """
    sizes = [len(match[0]) for match in _IMAGE.finditer(body)]
    room = most - (len(body.encode()) - sum(sizes)) - 200
    count = 0
    for size in sizes:
        if size > room:
            break
        room -= size
        count += 1
    if count == len(sizes):
        return body
    numbers = iter(range(len(sizes)))
    left = _IMAGE.sub(lambda match: match[0] if next(numbers) < count else "", body)
    note = (
        f"{len(sizes) - count:,} images are left out: with them the file would be larger than 1 MB."
    )
    return f'{left}\n<p class="small">{note}</p>'
