"""What people do on the page Performance, in a real Chromium."""

import io
import re

import av
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import cam
from cam._media.video import write_video
from cam._performance import peers
from tests.browser.test_explore import assert_no_error
from tests.support.browser_steps import expect_accessible, wait_until_drawn

FRAMES = 10


def test_recorded_bars_are_there_and_measured_ones_grow_beside_them(page, site):
    page.goto(f"{site}/performance?batch=1")
    bars = page.get_by_role("group", name="Grad-CAM, images/s", exact=True)
    expect(bars.first).to_be_visible()
    recorded = bars.count()
    start = page.get_by_role("button", name="Measure speed", exact=True)
    start.click()
    again = page.get_by_role("button", name="Measure speed again")
    expect(again).to_be_visible(timeout=300_000)
    expect(bars).to_have_count(recorded + 1)
    # Each figure with its interval, "24.1 (22.8–25.0)"; behind most the share of plain inference.
    lines = re.findall(r"[\d.,]+ \([\d.,]+–[\d.,]+\)", bars.last.inner_text())
    assert len(lines) == 3 + len(peers.installed())
    shares = re.findall(r"[\d.,]+ % \([\d.,]+–[\d.,]+\)", bars.last.inner_text())
    assert len(shares) == len(lines) - 1
    expect(page.get_by_text("Medians of 9 interleaved rounds with 95 % intervals")).to_be_visible()
    assert_no_error(page)


def make_film() -> bytes:
    """Make a clip of a window that moves across the cat, as MP4."""
    photo = cam.sample("chelsea")
    frames = [photo.crop((8 * number, 0, 8 * number + 300, 300)) for number in range(FRAMES)]
    return write_video(frames, [100] * FRAMES)


def read_frames(file) -> list[Image.Image]:
    with av.open(file) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def test_an_explained_clip_is_encoded_on_request(page, site, bundled):
    page.goto(f"{site}/performance?live_method=layercam&clip_file=true")
    content = make_film()
    page.get_by_test_id("stMain").locator("input[type=file]").set_input_files(
        {"name": "film.mp4", "mimeType": "video/mp4", "buffer": content}
    )
    expect(page.get_by_role("button", name="Remove film.mp4")).to_be_visible()
    # The page hears of the file a moment after its name is shown.
    page.wait_for_timeout(2000)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.get_by_role("button", name="Prepare the file").click()
    offer = page.get_by_role("button", name="Download MP4")
    expect(offer).to_be_visible(timeout=200_000)
    with page.expect_download() as waiting:
        offer.click()
    frames = read_frames(str(waiting.value.path()))
    assert len(frames) == FRAMES
    last = read_frames(io.BytesIO(content))[-1]
    heatmap = cam.attribute(bundled, bundled.prepare(last), "layercam")["layercam"].heatmap[0]
    truth = cam.overlay(bundled.crop(last), heatmap, "inferno", 0.85, fade=True)
    # H.264 loses a little.
    difference = np.subtract(frames[-1], truth.crop((0, 0, *frames[-1].size)), dtype=int)
    assert np.abs(difference).mean() < 4
    assert_no_error(page)


def test_two_visitors_wait_for_one_measurement_and_leave_one_by_one(page, chromium, site):
    address = f"{site}/performance?batch=8"
    other = chromium.new_context().new_page()
    page.goto(address)
    page.get_by_role("button", name="Measure speed", exact=True).click()
    cancel, started = page.get_by_role("button", name="Cancel"), other.get_by_test_id("stProgress")
    expect(cancel).to_be_visible()
    other.goto(address)
    expect(started).to_contain_text("Measuring")
    # Behind it, another kind of measurement waits, and is left as quickly.
    page.get_by_role("button", name="Measure precisions", exact=True).click()
    expect(page.get_by_text("waiting for other work on this server")).to_be_visible()
    cancel.last.click()
    expect(page.get_by_text("Measuring: cancelled.")).to_be_visible(timeout=10_000)
    cancel.click()
    expect(page.get_by_text("Measuring: cancelled.")).to_have_count(2, timeout=10_000)
    expect(started).to_be_visible()
    other.get_by_role("button", name="Cancel").click()
    expect(other.get_by_text("Measuring: cancelled.")).to_be_visible()
    assert_no_error(other)
    other.context.close()


@pytest.mark.parametrize("present", ["true", "false"])
def test_a_phones_width(chromium, site, present):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{site}/performance?present={present}")
    ready = page.get_by_text("images/s with Grad-CAM").first
    expect(ready).to_be_visible(timeout=60_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_error_of_accessibility_in_a_presentation(page, site, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/performance?present=true")
    dialog = page.get_by_role("dialog", name="Presentation")
    expect(dialog.get_by_role("heading", name="Egyptian cat")).to_be_visible()
    wait_until_drawn(page)
    expect_accessible(page)
