"""What people do on the page Performance, in a real Chromium."""

import io
import re

from PIL import Image
from playwright.sync_api import expect

from tests.browser.test_explore import assert_no_error


def test_bars_grow_after_a_click_and_not_before(page, site):
    page.goto(f"{site}/performance?part=Batch+size")
    start = page.get_by_role("button", name="Measure", exact=True)
    expect(start).to_be_visible()
    bars = page.get_by_role("group", name="Images a second by batch size")
    expect(bars).to_have_count(0)
    start.click()
    expect(page.get_by_role("button", name="Measure again")).to_be_visible(timeout=200_000)
    expect(bars).to_contain_text("16 at once: Grad-CAM")
    assert len(re.findall(r"[\d.]+ images/s", bars.inner_text())) == 10
    expect(page.get_by_text("Medians of 5 interleaved rounds")).to_be_visible()
    assert_no_error(page)


def test_the_demonstration_clip_is_explained_and_downloaded(page, site):
    page.goto(f"{site}/performance?part=Clip&sample=Coffee")
    page.get_by_role("button", name="Explain the clip").click()
    expect(page.get_by_alt_text("The clip with its heatmap, 24 frames")).to_be_visible(
        timeout=200_000
    )
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download WEBP").click()
    with open(waiting.value.path(), "rb") as file:  # noqa: PTH123
        assert Image.open(io.BytesIO(file.read())).n_frames == 24
    assert_no_error(page)


def test_a_phones_width(chromium, site):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{site}/performance?part=Memory+traffic")
    expect(page.get_by_text("fewer bytes moved")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    context.close()
