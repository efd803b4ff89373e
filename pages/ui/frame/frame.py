"""Watch the connection, take shortcuts, and speak to screen readers."""

import uuid
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_SCRIPT = Path(__file__).with_name("frame.js")
# Of this process: a tab that finds another one behind its address begins anew.
_BOOT = uuid.uuid4().hex


def mount_frame(theme: str) -> None:
    """Mount what is around every page, in its theme: "light" or "dark"."""
    _component()(key="frame", data={"boot": _BOOT, "theme": theme}, height="content")


def announce(message: str) -> None:
    """Say to screen readers what has changed; the same again is not said twice."""
    _component()(key="announcement", data={"boot": _BOOT, "message": message}, height="content")


@cache
def _component() -> Any:
    return st.components.v2.component("cam.frame", js=_SCRIPT.read_text(encoding="utf-8"))
