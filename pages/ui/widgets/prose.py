"""Write sentences, headings, small print, images and errors."""

import re
from dataclasses import dataclass
from html import escape
from types import TracebackType

import streamlit as st

import cam
from cam.pages.ui.widgets import view_record


def write_small(line: str) -> None:
    """Write a line under an image, in ink that can be read, as a caption's can not."""
    view_record.small(line)


def write_heading(line: str) -> None:
    """Write a small heading."""
    st.html(f'<div style="font-weight:600;opacity:.75">{escape(line)}</div>')
    view_record.record_html(view_record.write_part_title(line))


def write_facts(*lines: str) -> None:
    """Write a list of the lines that are not empty."""
    st.markdown("\n".join(f"- {line}" for line in lines if line))


def write_notes(attribution: cam.Attribution) -> None:
    """Write what is to be said of a map, as warnings."""
    for _, note in attribution.notes():
        st.warning(as_sentence(note))


def show_png(content: bytes, alt: str) -> None:
    """Show an image as it is."""
    view_record.image(content, alt)


def as_sentence(message: cam.CamError | str) -> str:
    """Write an error's message, or a note, with a capital and a full stop."""
    text = str(message).rstrip(".") + "."
    # A file's name is written as it is.
    return text if re.match(r"\S+[._]\w", text) else text[0].upper() + text[1:]


def escape_markdown(name: str) -> str:
    """Write a stranger's name without the marks of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:])", r"\\\1", name)


@dataclass(frozen=True)
class report_errors:
    """Show the library's errors as one sentence where they arise, and go on behind the block.

    Attributes:
        title: What did not work, before the sentence.
        advice: What the visitor can do, below it.
    """

    title: str = ""
    advice: str = ""

    def __enter__(self) -> None:
        """Begin to look for errors."""

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> bool:
        """Show an error of the library; others are not caught."""
        if not isinstance(error, cam.CamError):
            return False
        st.error(f"{self.title}: {as_sentence(error)}" if self.title else as_sentence(error))
        if self.advice:
            st.info(self.advice)
        return True
