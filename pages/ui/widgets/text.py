"""Write headings and small print."""

from html import escape

import streamlit as st


def small(line: str) -> None:
    """Write a line under a picture, in ink that can be read, as a caption's can not."""
    st.markdown(f":small[{line}]")


def heading(line: str) -> None:
    """Write a small heading."""
    st.html(f'<div style="font-weight:600;opacity:.75">{escape(line)}</div>')
