"""Markdown of pages as HTML."""

from html import escape

import pytest

from cam.pages.ui.widgets.markdown_html import write_html
from cam.pages.ui.widgets.prose import escape_markdown


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("plain < text", "<p>plain &lt; text</p>"),
        ("**s** and `a < b**c**`", "<p><strong>s</strong> and <code>a &lt; b**c**</code></p>"),
        ("first\n\nsecond", "<p>first</p>\n<p>second</p>"),
        ("- one\n- **two**", "<ul><li>one</li><li><strong>two</strong></li></ul>"),
        ("#### A *head*", "<h5>A *head*</h5>"),
        ("see [docs](docs/a.md)", '<p>see <a href="docs/a.md">docs</a></p>'),
        (":material/add: line  \nnext", "<p>line<br>next</p>"),
        (":small[of **5** (`x`)]", "<p>of <strong>5</strong> (<code>x</code>)</p>"),
    ],
)  # fmt: skip
def test_marks_are_written(markdown, html):
    assert write_html(markdown) == html


NAMES = ("**a**", "`b`", "[c](javascript:d)", "<img src=x>", "e_f*g*", ":small[h]", "\\`i`")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_was_escaped_is_only_text(name):
    written = write_html(f"of **{escape_markdown(name)}**")
    assert written == f"<p>of <strong>{escape(name)}</strong></p>"
