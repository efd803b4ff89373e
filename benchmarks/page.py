"""Measure how long the dashboard's visitors wait, in a real Chromium.

``python -m benchmarks.page http://localhost:8501`` against a running dashboard: the time from
opening the page to the first heatmap (a new visitor each round, on a warm server), and from a
change of opacity or colour map to the new picture. Medians of 7 rounds.
"""

import re
import shutil
import statistics
import sys
import time

from playwright.sync_api import Browser, Page, expect, sync_playwright

ROUNDS = 7
FIRST_GOAL_SECONDS = 3.0
CHANGE_GOAL_SECONDS = 0.3
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]


def first_visit(browser: Browser, address: str) -> float:
    """Time a new visitor's first request until a heatmap is painted."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    page = context.new_page()
    try:
        start = time.perf_counter()
        page.goto(address)
        wait_until_painted(page)
        return time.perf_counter() - start
    finally:
        context.close()


def wait_until_painted(page: Page) -> str:
    """Wait until both heatmaps are on screen; return the address of the first."""
    maps = page.get_by_alt_text(re.compile("heatmap for"))
    expect(maps).to_have_count(2, timeout=60_000)
    for heatmap in maps.all():
        heatmap.evaluate("image => image.decode()")
    return maps.first.get_attribute("src") or ""


def time_changes(browser: Browser, address: str) -> dict[str, list[float]]:
    """Time a key press or a click until another heatmap is there, for two controls."""
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(address)
    seconds: dict[str, list[float]] = {"opacity": [], "colour map": []}
    for turn in range(ROUNDS):
        before = settle(page)
        slider = page.get_by_role("slider", name="Opacity of the heatmap")
        slider.focus()
        start = time.perf_counter()
        slider.press("ArrowRight")
        wait_for_change(page, before)
        seconds["opacity"].append(time.perf_counter() - start)
        before = settle(page)
        box = page.get_by_role("combobox", name=re.compile("Colour map"))
        box.click()
        option = page.get_by_role("option", name=("viridis", "magma")[turn % 2], exact=True)
        option.wait_for()
        start = time.perf_counter()
        option.click()
        wait_for_change(page, before)
        seconds["colour map"].append(time.perf_counter() - start)
    page.close()
    return seconds


def settle(page: Page) -> str:
    """Wait as a visitor who looks at the picture; return the first heatmap's address."""
    page.wait_for_timeout(1000)
    return wait_until_painted(page)


def wait_for_change(page: Page, before: str) -> None:
    """Wait until the first heatmap is another one than ``before``, and decoded."""
    page.wait_for_function(
        """before => {
            const image = document.querySelector('img[alt*="heatmap for"]');
            return image && image.getAttribute("src") !== before && image.complete;
        }""",
        arg=before,
        polling="raf",
    )


def main(address: str) -> None:
    """Print each median beside its goal."""
    executable = shutil.which("chromium")
    if executable is None:
        sys.exit("Chromium is not here; get it with: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        first_visit(browser, address)  # warms the server
        first = [first_visit(browser, address) for _ in range(ROUNDS)]
        rows = {"first explanation": (first, FIRST_GOAL_SECONDS)}
        for control, times in time_changes(browser, address).items():
            rows[f"change of {control}"] = (times, CHANGE_GOAL_SECONDS)
        browser.close()
    for name, (times, goal) in rows.items():
        median = statistics.median(times)
        verdict = "met" if median <= goal else "missed"
        figures = f"median {median:5.2f} s, slowest {max(times):5.2f} s"
        print(f"{name:24} {figures}, goal {goal} s: {verdict}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501")
