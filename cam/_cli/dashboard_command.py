"""Serve the dashboard: ``python -m cam dashboard``."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from cam._cli.shared_options import LibraryCommand
from cam._extras import require
from cam._project import read_project


@click.command(cls=LibraryCommand)
@click.argument("project", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), default=8501)
def dashboard(project: Path | None, port: int) -> None:
    """Serve the pages on this machine until Ctrl+C.

    PROJECT is a file such as cam.toml, which lists a team's models and data sets.

    Streamlit's settings can be changed by its environment variables, such as
    STREAMLIT_SERVER_ADDRESS.
    """
    require("dashboard", "the dashboard")
    environment = dict(os.environ)
    if project is not None:
        # What is wrong with it is said here, and not in the log of a server.
        read_project(project)
        environment["CAM_PROJECT"] = str(project.absolute())
    pages = find_spec("cam.pages")
    assert pages is not None and pages.origin is not None
    script = Path(pages.origin).parent / "ui" / "server" / "start.py"
    words = ["-m", "cam.pages.ui.server.serve", str(script), "--server.port", str(port)]
    # In place of this process, so that signals reach the server itself.
    os.execve(sys.executable, [sys.executable, *words], environment)
