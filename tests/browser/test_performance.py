"""What people do on the page Performance, in a real Chromium."""

import io
import re

import av
import numpy as np
from PIL import Image
from playwright.sync_api import expect

import cam
from cam._media.video import write_video
from cam._performance import peers
from tests.browser.test_explore import assert_no_error

FRAMES = 10


def test_bars_grow_after_a_click_and_not_before(page, site):
    page.goto(f"{site}/performance?part=Speed")
    start = page.get_by_role("button", name="Measure", exact=True)
    expect(start).to_be_visible()
    bars = page.get_by_role("group", name="Grad-CAM, images a second", exact=True)
    expect(bars).to_have_count(0)
    start.click()
    expect(page.get_by_role("button", name="Measure again")).to_be_visible(timeout=200_000)
    speeds = [
        float(figure) for figure in re.findall(r"^\d+\.\d\d$", bars.inner_text(), re.MULTILINE)
    ]
    assert len(speeds) == 2 + len(peers.installed()) and min(speeds) > 0
    expect(page.get_by_text("Medians of 5 interleaved rounds")).to_be_visible()
    assert_no_error(page)


def film() -> bytes:
    """A window that moves across the cat, as MP4."""
    photo = cam.sample("chelsea")
    frames = [photo.crop((8 * number, 0, 8 * number + 300, 300)) for number in range(FRAMES)]
    return write_video(frames, [100] * FRAMES)


def frames_of(file) -> list[Image.Image]:
    with av.open(file) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def explain(page, name: str, content: bytes) -> None:
    """Upload a file and ask for its clip.

    The page hears of the file a moment after its name is shown; a click before is about the
    demonstration.
    """
    page.get_by_test_id("stMain").locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "video/mp4", "buffer": content}
    )
    expect(page.get_by_role("button", name=f"Remove {name}")).to_be_visible()
    page.wait_for_timeout(1500)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    page.get_by_role("button", name="Explain the clip").click()


def test_a_film_is_explained_plays_and_is_downloaded(page, site):
    page.goto(f"{site}/performance?part=Clip&clip_method=LayerCAM")
    content = film()
    explain(page, "film.mp4", content)
    expect(page.get_by_test_id("stProgress")).to_be_visible()
    player = page.locator("video")
    expect(player).to_be_visible(timeout=200_000)
    page.wait_for_function("document.querySelector('video').currentTime > 0.3")
    expect(page.get_by_text("frames a second, end to end")).to_be_visible()
    figures = page.get_by_text(re.compile(r"^\d+\.\d$")).all_inner_texts()
    assert (
        len(figures) == 3 and all(float(figure) > 0 for figure in figures) and figures[2] == "10.0"
    )
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download MP4").click()
    frames = frames_of(str(waiting.value.path()))
    assert len(frames) == FRAMES
    model = cam.load_model("efficientnet_lite0")
    last = frames_of(io.BytesIO(content))[-1]
    heatmap = cam.attribute(model, model.prepare(last), "layercam")["layercam"].heatmap[0]
    truth = cam.overlay(model.crop(last), heatmap, "inferno", 0.5).crop((0, 0, *frames[-1].size))
    # H.264 loses a little.
    assert np.abs(np.subtract(frames[-1], truth, dtype=int)).mean() < 4
    assert_no_error(page)


def test_words_that_are_called_a_film_get_one_sentence(page, site):
    page.goto(f"{site}/performance?part=Clip")
    explain(page, "holiday.mp4", b"these are words\n" * 99)
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_have_text(re.compile(r"^Holiday.mp4 is neither a video nor a picture[^.]*\.$"))
    expect(page.get_by_role("button", name="Explain the clip")).to_be_visible()
    assert_no_error(page)


def test_two_visitors_wait_for_one_measurement_and_leave_one_by_one(page, chromium, site):
    address = f"{site}/performance?part=Methods+in+one+pass&batch=16"
    other = chromium.new_context().new_page()
    page.goto(address)
    page.get_by_role("button", name="Measure", exact=True).click()
    cancel, started = page.get_by_role("button", name="Cancel"), other.get_by_test_id("stProgress")
    expect(cancel).to_be_visible()
    other.goto(address)
    expect(started).to_contain_text("Measuring")
    cancel.click()
    expect(page.get_by_text("Measuring: cancelled.")).to_be_visible(timeout=10_000)
    expect(started).to_be_visible()
    # Behind theirs, another kind of measurement waits, and is left as quickly.
    page.goto(f"{site}/performance?part=Precision")
    page.get_by_role("button", name="Measure", exact=True).click()
    expect(page.get_by_text("waiting for other work on this server")).to_be_visible()
    cancel.click()
    expect(page.get_by_text("Measuring: cancelled.")).to_be_visible(timeout=10_000)
    other.get_by_role("button", name="Cancel").click()
    expect(other.get_by_text("Measuring: cancelled.")).to_be_visible()
    assert_no_error(other)
    other.context.close()


def test_a_phones_width(chromium, site):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{site}/performance?part=Memory+traffic")
    expect(page.get_by_text("fewer bytes moved")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    context.close()
