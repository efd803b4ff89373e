"""A real server and a real Chromium for the browser tests."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import browser_steps
from tests.support.checkout import ROOT

PATIENCE = 1000 * browser_steps.PATIENCE
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    here = [item for item in items if Path(__file__).parent in Path(item.path).parents]
    for item in here:
        item.add_marker(pytest.mark.browser)
        # The first picture on a busy machine may take long; no single step may.
        item.add_marker(pytest.mark.timeout(1200))
        if CHROMIUM is None:
            reason = "Chromium is not here; get it with: sudo apt-get install chromium"
            item.add_marker(pytest.mark.skip(reason=reason))


def environment() -> dict[str, str]:
    """Return the variables of a user's process: without Triton's interpreter."""
    return {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"}


@pytest.fixture
def run_as_the_server():
    """Run Python in a process that computes as the server's does, with as many threads."""

    def run(*arguments: str, folder: Path = ROOT) -> None:
        variables = environment() | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *arguments], cwd=folder, env=variables, check=True)

    return run


@pytest.fixture
def serve(tmp_path) -> Iterator:
    """Start the dashboard, or a script, on a free port; what a test started ends with it."""
    with _Servers(tmp_path) as start:
        yield start


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Iterator[str]:
    """One warm server for all tests that do not need a cold one."""
    with _Servers(tmp_path_factory.mktemp("site")) as start:
        yield start()


class _Servers:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen] = []

    def __enter__(self):
        return self.start

    def start(self, script: str = "dashboard.py") -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = self.folder / f"server-{port}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streamlit", "run", script),
                    f"--server.port={port}",
                ],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
            )
        self.running.append(process)
        address = f"http://localhost:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            else:
                return address
        raise AssertionError(f"the server did not start: {log.read_text()}")

    def __exit__(self, *_):
        for process in self.running:
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                # A busy machine gives it no time to end; nothing of it is needed any more.
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    from playwright.sync_api import expect, sync_playwright

    # On a busy machine the first picture may take long; that it comes is what is tested here.
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium) -> Iterator:
    """Open a context for one visitor: no cookies, no cache, downloads allowed."""
    context = chromium.new_context(viewport={"width": 1280, "height": 1400}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()
