"""Test the frame of every page: connection, shortcuts, looks, screen readers."""

import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import environment
from tests.support.browser_steps import expect_accessible, read_address, wait_for, wait_until_drawn
from tests.support.checkout import ROOT

LINK = "explore?image=coffee&methods=gradcam"
OPEN = "perturb=true&channels=true&details=true&through=true&edit=blur.box-200-300-600-700"


class Restarting:
    """A server that a test ends, and starts again at the same address."""

    def __init__(self, folder) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://localhost:{self.port}"
        self.log = folder / "server.log"

    def start(self) -> None:
        command = [sys.executable, "-m", "streamlit", "run", "dashboard.py"]
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [*command, f"--server.port={self.port}"],
                cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment(),
            )  # fmt: skip
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.address}/_stcore/health", timeout=1).close()
            except (urllib.error.URLError, OSError):
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
            else:
                return
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


@pytest.fixture
def server(tmp_path) -> Iterator[Restarting]:
    restarting = Restarting(tmp_path)
    restarting.start()
    yield restarting
    restarting.kill()


def open_explore(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(".cam-viewer[data-ready]").first.wait_for()
    wait_until_drawn(page)
    page.wait_for_function("window.camFrame?.boot")


def test_a_restarted_server_is_said_and_the_first_click_works(page, server):
    open_explore(page, f"{server.address}/{LINK}&target=cup")
    banner = page.get_by_role("alert").filter(has_text="The connection to the server is lost")
    expect(banner).to_have_count(0)
    page.evaluate("window.before = true")
    server.kill()
    expect(banner).to_be_visible(timeout=15_000)
    assert not Axe().run(page, context=".cam-frame-banner").response["violations"]
    server.start()
    # Without a click the page begins anew: the server knows what the address says.
    page.wait_for_function("!window.before && window.camFrame?.boot")
    expect(banner).to_be_hidden()
    page.locator(".cam-viewer[data-ready]").first.wait_for()
    wait_until_drawn(page)
    viewer = page.get_by_role("region", name="Maps for cup")
    expect(viewer.get_by_role("application", name="Grad-CAM")).to_be_visible()
    page.get_by_role("button", name="LayerCAM", exact=True).click()
    wait_for(lambda: read_address(page)["methods"], ["gradcam", "layercam"])
    expect(viewer.get_by_role("application", name="LayerCAM")).to_be_visible()
    assert read_address(page)["target"] == ["cup"]


def test_the_sheet_of_shortcuts_opens_and_closes(page, site):
    open_explore(page, f"{site}/{LINK}")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(sheet).to_be_visible()
    expect(sheet.get_by_role("button", name="Close")).to_be_focused()
    # Behind it nothing is pressed.
    page.keyboard.press("1")
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()
    assert read_address(page)["methods"] == ["gradcam"]
    page.keyboard.press("?")
    page.keyboard.press("Enter")
    expect(sheet).to_be_hidden()


def test_shortcuts(page, site):
    open_explore(page, f"{site}/{LINK}")
    page.locator("h1").click()
    # The click tells the server how maps are drawn, and may draw the page anew.
    page.wait_for_timeout(1000)
    wait_until_drawn(page)
    page.keyboard.press("3")
    wait_for(lambda: len(read_address(page)["methods"]), 2)
    wait_until_drawn(page)
    page.keyboard.press("3")
    wait_for(lambda: read_address(page)["methods"], ["gradcam"])
    wait_until_drawn(page)
    page.keyboard.press("]")
    wait_for(lambda: read_address(page)["image"], ["rocket"])
    wait_until_drawn(page)
    page.keyboard.press("[")
    wait_for(lambda: read_address(page)["image"], ["coffee"])
    wait_until_drawn(page)
    for title in ("Anatomy", "Compare", "Datasets", "Performance", "Explore"):
        page.keyboard.press("g")
        page.keyboard.press(title[0].lower())
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
        wait_until_drawn(page)
    assert read_address(page)["image"] == ["coffee"]


def test_what_is_typed_is_no_shortcut(page, site):
    open_explore(page, f"{site}/{LINK}")
    box = page.get_by_role("combobox", name="Class to explain")
    box.click()
    box.press_sequentially("g a 1 ?")
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert read_address(page) == {"image": ["coffee"], "methods": ["gradcam"]}
    expect(page.get_by_role("heading", name="Explore", exact=True)).to_be_visible()


def test_a_dragged_opacity_runs_nothing_and_is_in_the_address(page, site):
    frames: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: frames.append("")))
    open_explore(page, f"{site}/{LINK}&code=true")
    page.wait_for_timeout(2000)
    sent, entries = len(frames), page.evaluate("history.length")
    slider = page.get_by_role("slider", name="Opacity").first
    slider.scroll_into_view_if_needed()
    area = slider.bounding_box()
    page.mouse.move(area["x"] + area["width"] * 0.85, area["y"] + area["height"] / 2)
    page.mouse.down()
    for step in range(20):
        x = area["x"] + area["width"] * (0.8 - 0.025 * step)
        page.mouse.move(x, area["y"] + area["height"] / 2)
    page.mouse.up()
    wait_for(lambda: "opacity" in read_address(page), True)
    page.wait_for_timeout(1500)
    assert len(frames) == sent
    [opacity] = read_address(page)["opacity"]
    assert 0.2 < float(opacity) < 0.5
    wait_for(lambda: page.evaluate("history.length"), entries + 1)
    # The server hears of it before the next click elsewhere.
    page.locator("h1").click()
    code = page.get_by_test_id("stCode")
    expect(code).to_contain_text(f"colours, {opacity}, percentile")
    page.reload()
    page.locator(".cam-viewer[data-ready]").first.wait_for()
    assert read_address(page)["opacity"] == [opacity]
    expect(page.get_by_role("slider", name="Opacity").first).to_have_value(
        f"{100 * float(opacity):.0f}"
    )
    expect(code).to_contain_text(f"colours, {opacity}, percentile")


def test_screen_readers_hear_what_changed(page, site):
    open_explore(page, f"{site}/{LINK}")
    live = page.locator(".cam-frame-live")
    expect(live).to_have_text("Grad-CAM for espresso of coffee.")
    page.get_by_role("radio", name="Rocket").click()
    expect(live).to_have_text(re.compile("for missile of rocket"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_sheet_and_behind_it(site, page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    open_explore(page, f"{site}/explore?{OPEN}")
    expect_accessible(page)
    page.locator("h1").click()
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_be_visible()
    expect_accessible(page)
    # In the page's theme.
    lightness = sheet.evaluate(
        "sheet => getComputedStyle(sheet).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert (max(lightness) < 90) == (scheme == "dark")
