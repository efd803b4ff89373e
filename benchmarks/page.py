"""Measure how long the dashboard's visitors wait, in a real Chromium.

``python -m benchmarks.page http://localhost:8501`` against a running dashboard. Medians of 7
rounds: from opening an empty page of Streamlit to its text, which no page of ours can beat, from
opening the page to the first maps (a new visitor each round, on a warm server, in turns), from a
click in the menu to the other page, from an edit of the image to the new prediction, and from a
change of opacity to the browser's next frame, which takes no run of the server.
"""

import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

ROUNDS = 7
# Seconds.
GOALS = {"first maps": 1.5, "other page": 0.5, "edited image": 0.2, "opacity": 0.016}
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
EMPTY = "Nothing but this line."
READY = ".cam-viewer[data-ready=true]"
SIZE = ViewportSize(width=1440, height=1000)
FRAME = """slider => new Promise(resolve => {
  slider.value = Number(slider.value) > 0.5 ? 0.4 : 0.9;
  const start = performance.now();
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => setTimeout(() => resolve((performance.now() - start) / 1000)));
})"""


@contextmanager
def serve_empty_page() -> Iterator[str]:
    """Serve a page of Streamlit with a line of text, and nothing of ours."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "empty.py"
        script.write_text(f"import streamlit as st\n\nst.write({EMPTY!r})\n")
        words = [sys.executable, "-m", "streamlit", "run", str(script), "--server.headless=true"]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*words, f"--server.port={port}"], cwd=folder, **quiet) as process:
            try:
                address = f"http://localhost:{port}"
                wait_until_healthy(address)
                yield address
            finally:
                process.terminate()


def wait_until_healthy(address: str) -> None:
    """Wait until a server answers."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing answers at {address}")


def time_first_visit(browser: Browser, address: str, drawn: str = READY) -> float:
    """Time a new visitor's first request until what they came for is drawn."""
    context = browser.new_context(viewport=SIZE)
    page = context.new_page()
    try:
        start = time.perf_counter()
        page.goto(address)
        page.wait_for_selector(drawn)
        return time.perf_counter() - start
    finally:
        context.close()


def time_other_page(page: Page, title: str) -> float:
    """Time a click in the menu until the other page's title is there."""
    page.wait_for_timeout(1000)
    start = time.perf_counter()
    page.locator(".st-key-menu a", has_text=title).click()
    page.get_by_role("heading", name=title, exact=True).wait_for()
    return time.perf_counter() - start


def time_edit(page: Page, number: int) -> float:
    """Time an edit of the image until the prediction has moved."""
    page.wait_for_timeout(1000)
    prediction = page.locator(".st-key-prediction [role=radio]").first
    before = prediction.text_content() or ""
    name = "Undo" if number % 2 else "Erase a random 20%"
    button = page.get_by_role("button", name=name)
    expect(button).to_be_enabled(timeout=60_000)
    start = time.perf_counter()
    button.click()
    expect(prediction).not_to_have_text(before, timeout=60_000)
    return time.perf_counter() - start


def main() -> None:
    """Print medians beside their goals."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501"
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        seconds: dict[str, list[float]] = {name: [] for name in GOALS}
        seconds["first maps"], empty = [], []
        with serve_empty_page() as floor:
            for _ in range(ROUNDS):
                empty.append(time_first_visit(browser, floor, f"text={EMPTY}"))
                seconds["first maps"].append(time_first_visit(browser, address))
        sys.stdout.write(f"empty page: {statistics.median(empty):.3f} s\n")
        page = browser.new_page(viewport=SIZE)
        page.goto(f"{address}/?perturb=true")
        page.wait_for_selector(READY)
        slider = page.locator(".cam-viewer").first.get_by_role("slider", name="Opacity")
        seconds["opacity"] = [float(slider.evaluate(FRAME)) for _ in range(ROUNDS)]
        seconds["edited image"] = [time_edit(page, number) for number in range(ROUNDS)]
        for number in range(ROUNDS):
            title = "Explore" if number % 2 else "Anatomy"
            seconds["other page"].append(time_other_page(page, title))
        browser.close()
    for name, goal in GOALS.items():
        median = statistics.median(seconds[name])
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        verdict = "within" if median <= goal else "missed"
        sys.stdout.write(f"{name}: {median:.3f} s ({spread}), goal {goal} s: {verdict}\n")


if __name__ == "__main__":
    main()
