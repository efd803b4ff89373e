"""Read what a page in Chromium shows, on a busy machine too."""

import time
from collections.abc import Callable, Container
from typing import Any
from urllib.parse import parse_qs

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

# Seconds: where ten others compute, a cold server's first page takes minutes.
PATIENCE = 180
# What has just been drawn is pale for a moment, and a busy machine's moment is long.
SECONDS_UNTIL_CLEAR = 30


def wait_for(read: Callable[[], Any], expected: Any, seconds: float = PATIENCE) -> None:
    """Read again and again until it is what is expected."""
    end = time.monotonic() + seconds
    while (value := read()) != expected:
        assert time.monotonic() < end, f"{value} instead of {expected}"
        time.sleep(0.1)


def wait_until_drawn(page: Page) -> None:
    """Wait until the server has drawn all of the page."""
    expect(page.locator("[data-test-script-state=notRunning]")).to_be_attached()


def read_address(page: Page) -> dict[str, list[str]]:
    """Ask the browser: what Playwright says of it may be of the moment before."""
    return parse_qs(page.evaluate("location.search").removeprefix("?"), keep_blank_values=True)


def expect_accessible(
    page: Page, apart: Container[str] = (), impacts: Container[str] | None = None
) -> None:
    """Expect no violation of axe; of some impacts only, and apart from some rules."""

    def list_violations() -> list[tuple[str, str, list[str]]]:
        return [
            (each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]])
            for each in Axe().run(page).response["violations"]
            if each["id"] not in apart and (impacts is None or each["impact"] in impacts)
        ]

    wait_for(list_violations, [], SECONDS_UNTIL_CLEAR)
