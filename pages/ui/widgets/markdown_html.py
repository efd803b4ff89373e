"""Turn the Markdown that pages write into HTML for a file."""

import re
from html import escape

# What is escaped or code is nothing else; whichever comes first.
_PLAIN = re.compile(r"\\([\\`*_{}\[\]()#+!|<>~$:.-])|`([^`]+)`")
_ICON = re.compile(r":material/\w+: ?")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_STRONG = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_HEADING = re.compile(r"(#{1,6}) (.+)")
# Stand for what is written already, until all marks are replaced.
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000(\\d+)\ue001")


def write_html(markdown: str) -> str:
    """Write paragraphs, lists, headings, code, strong words and links as HTML."""
    parts = []
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = block.splitlines()
        if match := _HEADING.fullmatch(lines[0].strip()):
            level = min(len(match[1]) + 1, 6)
            parts.append(f"<h{level}>{_write_words(match[2])}</h{level}>")
            lines = lines[1:]
        before = [line for line in lines if not line.startswith("- ")]
        if before:
            parts.append(f"<p>{_write_words(chr(10).join(before))}</p>")
        items = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        if items:
            parts.append(f"<ul>{''.join(f'<li>{_write_words(item)}</li>' for item in items)}</ul>")
    return "\n".join(parts)


def _write_words(text: str) -> str:
    """Write the marks within a line; a stranger's text stays text."""
    done: list[str] = []

    def keep(html: str) -> str:
        done.append(html)
        return _MARK.format(len(done) - 1)

    text = text.replace("\ue000", "").replace("\ue001", "")
    # A directive's brackets hold marks, so it is opened before the others are read.
    text = re.sub(r"^:small\[(.*)\]$", r"\1", text.strip(), flags=re.DOTALL)

    def hide(match: re.Match[str]) -> str:
        if match[1] is not None:
            return keep(escape(match[1]))
        return keep(f"<code>{escape(match[2])}</code>")

    text = escape(_ICON.sub("", _PLAIN.sub(hide, text)))
    text = _LINK.sub(r'<a href="\2">\1</a>', text)
    text = _STRONG.sub(r"<strong>\1</strong>", text)
    text = re.sub(r" {2,}\n", "<br>", text)
    return _MARKED.sub(lambda match: done[int(match[1])], text)
