"""Write sentences, headings, small print, pictures and errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import streamlit as st

import cam


def write_small(line: str) -> None:
    """Write a line under a picture, in ink that can be read, as a caption's can not."""
    st.markdown(f":small[{line}]")


def write_heading(line: str) -> None:
    """Write a small heading."""
    st.html(f'<div style="font-weight:600;opacity:.75">{escape(line)}</div>')


def write_facts(*lines: str) -> None:
    """Write a list of the lines that are not empty."""
    st.markdown("\n".join(f"- {line}" for line in lines if line))


def write_notes(attribution: cam.Attribution) -> None:
    """Write what is to be said of a map, as warnings."""
    for _, note in attribution.notes():
        st.warning(as_sentence(note))


def show_png(content: bytes, alt: str) -> None:
    """Show a picture as it is: without the format, Streamlit sends a JPEG of it."""
    st.image(content, width="stretch", output_format="PNG", alt=alt)


def as_sentence(message: cam.CamError | str) -> str:
    """Write an error's message, or a note, with a capital and a full stop."""
    text = str(message)
    return text[0].upper() + text[1:].rstrip(".") + "."


def escape_markdown(name: str) -> str:
    """Write a stranger's name without the marks of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:])", r"\\\1", name)


@contextmanager
def report_errors(title: str = "", advice: str = "") -> Iterator[None]:
    """Show the library's errors as one sentence where they arise, and go on behind the block.

    Args:
        title: What did not work, before the sentence.
        advice: What the visitor can do, below it.
    """
    try:
        yield
    except cam.CamError as error:
        st.error(f"{title}: {as_sentence(error)}" if title else as_sentence(error))
        if advice:
            st.info(advice)
