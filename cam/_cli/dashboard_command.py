"""Serve the dashboard: ``python -m cam dashboard``."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from cam._cli.shared_options import LibraryCommand
from cam._extras import require


@click.command(cls=LibraryCommand)
@click.option("--port", type=click.IntRange(1, 65535), default=8501)
def dashboard(port: int) -> None:
    """Serve the pages on this machine until Ctrl+C.

    Streamlit's settings can be changed by its environment variables, such as
    STREAMLIT_SERVER_ADDRESS.
    """
    require("dashboard", "the dashboard")
    pages = find_spec("cam.pages")
    assert pages is not None and pages.origin is not None
    script = Path(pages.origin).parent / "ui" / "server" / "start.py"
    words = ["-m", "streamlit", "run", str(script), "--server.port", str(port)]
    # In place of this process, so that signals reach the server itself.
    os.execv(sys.executable, [sys.executable, *words])
