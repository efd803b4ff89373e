"""Serve the dashboard on the caller's models and data."""

import contextlib
import logging
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from torch import nn

import cam
from cam._data.dataset import Dataset
from cam._extras import require
from cam._models.own_code import names_code
from cam.pages.ui.server import served

if TYPE_CHECKING:
    import uvicorn

START = Path(__file__).with_name("start.py")
STARTING_SECONDS = 60
# A name is part of an address, of a list and of a run's file.
LONGEST_NAME = 80


class DashboardServer:
    """A running dashboard, in a thread of this process.

    Attributes:
        url: What to open.
    """

    def __init__(self, server: "uvicorn.Server", thread: threading.Thread, url: str) -> None:
        self._server, self._thread, self.url = server, thread, url

    def __repr__(self) -> str:
        state = "serves" if self._thread.is_alive() else "has stopped serving"
        return f"<The dashboard {state} {self.url}>"

    def wait(self) -> None:
        """Wait until it is stopped, or Ctrl+C stops it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            self.stop()

    def stop(self) -> None:
        """Stop it; pages that are open lose their connection."""
        self._server.should_exit = True
        self._thread.join(STARTING_SECONDS)


# At most one: Streamlit has one runtime a process, and caches results by a model's name.
_servers: list[DashboardServer] = []


def serve(
    models: Mapping[str, cam.Model | nn.Module] | None = None,
    data: Mapping[str, Any] | None = None,
    *,
    port: int = 8501,
    address: str = "localhost",
    open_browser: bool = False,
    block: bool | None = None,
) -> DashboardServer:
    """Serve the dashboard on models and data sets that are in memory.

    They stand near the top of the lists of the pages, behind the bundled one. A process serves
    once: what visitors were shown of a name must not become another model's.

    Args:
        models: Name → a :class:`cam.Model`, which knows how images are prepared and what the
            classes are called, or a network, which gets the usual preprocessing.
        data: Name → a :func:`cam.dataset`, or what that takes.
        port: Where to listen; 0 takes a free port.
        address: Whom to answer: this machine alone, or "0.0.0.0" for everybody.
        open_browser: Whether to open the page.
        block: Whether to wait until Ctrl+C. None: in a script, but not in a notebook or a shell.

    Returns:
        The server, which :meth:`~DashboardServer.stop` stops.

    Raises:
        InputError: A name is not to be used, what it names is no model, the port is taken, or this
            process has served before.
        DataError: What a name names is no data set.
        MissingExtraError: The extra "dashboard" is not installed.
    """
    require("dashboard", "cam.serve")
    models, data = dict(models or {}), dict(data or {})
    made = {name: _make_model(name, model) for name, model in models.items()}
    opened = {name: _open_data(name, source) for name, source in data.items()}
    if _servers:
        raise cam.InputError(
            f"this process has served {_servers[0].url} already; restart it, or its kernel, to "
            "serve other objects"
        )
    port = _find_port(address, port)
    served.models.fill({name: partial(_return, model) for name, model in made.items()})
    served.data.fill({name: partial(_return, each) for name, each in opened.items()})
    query = f"?{urlencode({'model': next(iter(made))})}" if made else ""
    host = "localhost" if address in ("0.0.0.0", "::") else address
    server = _start(address, port, f"http://{host}:{port}/{query}")
    _servers.append(server)
    if open_browser:
        webbrowser.open(server.url)
    interactive = hasattr(sys, "ps1") or "ipykernel" in sys.modules
    if block or (block is None and not interactive):
        print(f"The dashboard is at {server.url} (Ctrl+C stops it)")  # noqa: T201
        server.wait()
    return server


def _make_model(name: str, model: object) -> cam.Model:
    """Check a model and its name."""
    _check_name(name)
    if name in cam.model_names() or "/" in name or names_code(name):
        raise cam.InputError(
            f"the name {name!r} means another model already; take one that is not in "
            "cam.model_names(), without / and :"
        )
    if isinstance(model, nn.Module):
        return cam.Model(model, name=name)
    if not isinstance(model, cam.Model):
        raise cam.InputError(
            f"{name!r} is a {type(model).__name__}, and not a cam.Model or a torch.nn.Module"
        )
    return model


def _open_data(name: str, source: object) -> Dataset:
    _check_name(name)
    return cam.dataset(source)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise cam.InputError(
            f"a name is a text of up to {LONGEST_NAME} characters, and not {name!r}"
        )


def _return(value: Any) -> Any:
    return value


def _find_port(address: str, port: int) -> int:
    """Return a port that is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = error.strerror or str(error)
            raise cam.InputError(
                f"the dashboard cannot listen at {address}:{port}: {reason}; stop what does, or "
                "take another port"
            ) from None
        free: int = probe.getsockname()[1]
        return free


def _start(address: str, port: int, url: str) -> DashboardServer:
    """Start the server's thread, and wait until it answers."""
    import streamlit as st
    import uvicorn

    app = st.App(START)
    # By host and port, and not by a socket: asyncio then answers at once (see nagle.py).
    quiet: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
    server = uvicorn.Server(uvicorn.Config(app, host=address, port=port, **quiet))
    for name in ("uvicorn.error", "uvicorn.access"):
        # A caller's cell is not filled with each request; of the levels Streamlit sets its own.
        logging.getLogger(name).addFilter(lambda record: record.levelno >= logging.WARNING)
    thread = threading.Thread(target=server.run, name="cam-dashboard", daemon=True)
    thread.start()
    end = time.monotonic() + STARTING_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > end:
            raise cam.InputError("the dashboard does not start; its log says why")
        with contextlib.suppress(InterruptedError):
            time.sleep(0.02)
    return DashboardServer(server, thread, url)
