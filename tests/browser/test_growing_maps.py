"""Slow maps grow on the page, and never hide the image."""

import hashlib
import itertools
import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.test_explore import assert_no_error

LATEST = 2000  # looks, each a fifth of a second


def picture_of(cell: Locator) -> str:
    """Name what a cell's canvas shows."""
    pixels = cell.locator("canvas.top").evaluate("canvas => canvas.toDataURL()")
    return hashlib.sha256(pixels.encode()).hexdigest()


@pytest.mark.parametrize(
    "link", ["explore?methods=rise&rise.masks=200&rise.steady=1", "compare?methods=scorecam"]
)
def test_a_slow_map_grows_and_the_image_is_there_all_the_time(page, site, link):
    page.goto(f"{site}/{link}")
    viewer = page.locator("section.cam-viewer[data-ready]")
    expect(viewer).to_have_count(1)
    viewer.evaluate("node => { node.first = true; }")
    image, map_ = viewer.locator("figure.cell").nth(0), viewer.locator("figure.cell").nth(1)
    whole = picture_of(image)
    expect(page.get_by_role("button", name="Cancel").first).to_be_visible()
    expect(map_.get_by_role("button", name=re.compile("Download"))).to_be_hidden()
    pictures = []
    for _ in range(LATEST):
        assert image.is_visible() and map_.is_visible()
        assert picture_of(image) == whole
        pictures.append(picture_of(map_))
        if map_.get_attribute("aria-busy") == "false":
            break
        page.wait_for_timeout(200)
    changes = sum(before != after for before, after in itertools.pairwise(pictures))
    assert changes >= 4, "three times before it is done, and then"
    assert viewer.evaluate("node => node.first"), "the viewer that was there first"
    expect(map_.get_by_role("button", name=re.compile("Download"))).to_be_visible()
    expect(map_.get_by_text("So far")).to_have_count(0)
    assert_no_error(page)


def test_a_selection_on_a_growing_map_comes_to_the_page_when_it_is_done(page, site):
    page.goto(f"{site}/explore?methods=rise&rise.masks=60&rise.steady=1")
    map_ = page.locator("section.cam-viewer[data-ready] figure.cell").nth(1)
    expect(map_.get_by_text("So far").first).to_be_visible()
    page.get_by_role("button", name="Box").first.click()
    area = map_.locator(".stage").bounding_box()
    page.mouse.move(area["x"] + 0.3 * area["width"], area["y"] + 0.3 * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + 0.7 * area["width"], area["y"] + 0.7 * area["height"], steps=5)
    page.mouse.up()
    expect(map_.get_by_text(re.compile("Selection: .* of the evidence"))).to_be_visible()
    expect(map_).to_have_attribute("aria-busy", "false", timeout=300_000)
    expect(map_.get_by_text(re.compile("Selection: .* of the evidence"))).to_be_visible()
    page.get_by_text("Perturb and see").click()
    expect(page.get_by_role("button", name=re.compile("Erase|Blur")).first).to_be_visible()
    assert_no_error(page)
