"""Register the components that blend maps in the browser."""

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

BLEND = Path(__file__).with_name("blend.js")


@cache
def get_component(script: Path) -> Any:
    """Return the component of a script, and of the styles beside it."""
    styles = script.with_suffix(".css").read_text(encoding="utf-8")
    code = BLEND.read_text(encoding="utf-8") + script.read_text(encoding="utf-8")
    return st.components.v2.component(f"cam.{script.stem}", css=styles, js=code)
