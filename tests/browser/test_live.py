"""Play clips and the camera, and present, in a real Chromium."""

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import cam
from cam._media.video import write_video
from tests.browser.conftest import ARGUMENTS, CHROMIUM
from tests.browser.test_explore import assert_no_error

FRAMES = 12
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


def play(page, least: int) -> None:
    """Play until the browser has drawn enough frames; their rate is written, not tested."""
    start = page.locator(".player .play")
    start.click()
    page.wait_for_function(
        "least => [...document.querySelectorAll('*')].flatMap(node => node.shadowRoot ? "
        "[node.shadowRoot.querySelector('.player')] : []).some(player => player && "
        "Number(player.dataset.drawn) >= least)",
        arg=least,
        timeout=200_000,
    )
    start.click()
    rate = page.locator(".player").get_attribute("data-rate")
    sys.stdout.write(f"frames/s on the screen: {rate}\n")


def read_canvas(page, selector: str) -> np.ndarray:
    """Read a canvas as (H, W, 3) uint8."""
    text = page.locator(selector).evaluate("canvas => canvas.toDataURL('image/png')")
    image = Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))
    return np.asarray(image.convert("RGB"))


def make_film() -> tuple[bytes, Image.Image]:
    """Make a clip that shows the rocket and does not move."""
    photo = cam.sample("rocket").resize((320, 240))
    return write_video([photo] * FRAMES, [80] * FRAMES), photo


def test_a_clip_is_explained_live_with_the_right_class_and_map(page, site, bundled):
    page.goto(f"{site}/performance?live_method=gradcam")
    content, photo = make_film()
    page.get_by_test_id("stMain").locator("input[type=file]").set_input_files(
        {"name": "film.mp4", "mimeType": "video/mp4", "buffer": content}
    )
    expect(page.get_by_role("button", name="Remove film.mp4")).to_be_visible()
    page.wait_for_timeout(2000)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")
    play(page, 2 * FRAMES)
    truth = cam.attribute(bundled, bundled.prepare(photo), "gradcam")["gradcam"]
    label = bundled.label(int(truth.targets[0]))
    expect(page.locator(".player .said b")).to_have_text(label)
    crop = bundled.crop(photo)
    blended = cam.overlay(crop, truth.heatmap[0], "inferno", 0.85, fade=True)
    drawn = read_canvas(page, ".player canvas")
    assert drawn.shape == np.asarray(blended).shape
    # H.264, JPEG and 8 bits lose a little; without the map it would be much more.
    assert np.abs(drawn.astype(int) - np.asarray(blended)).mean() < 6
    assert np.abs(np.asarray(crop, int) - np.asarray(blended)).mean() > 12
    # Opacity is the browser's: the frame without the map, and no run of the server.
    slider = page.get_by_role("slider", name="Opacity")
    slider.focus()
    slider.press("Home")
    assert np.abs(read_canvas(page, ".player canvas").astype(int) - crop).mean() < 6
    assert_no_error(page)


def test_words_that_are_called_a_film_get_a_sentence(page, site):
    page.goto(f"{site}/performance")
    page.get_by_test_id("stMain").locator("input[type=file]").set_input_files(
        {"name": "holiday.mp4", "mimeType": "video/mp4", "buffer": b"these are words\n" * 99}
    )
    alert = page.get_by_test_id("stAlert").filter(has_text="oliday.mp4")
    expect(alert).to_contain_text("is neither a video nor")
    assert_no_error(page)


@pytest.fixture
def camera(chromium):
    """A visitor whose browser has a camera that shows a test image."""
    launched = chromium.browser_type.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *CAMERA])
    context = launched.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    yield context.new_page()
    launched.close()


def test_the_camera_is_explained_frame_by_frame(camera, site):
    camera.goto(f"{site}/performance?live_source=Camera")
    play(camera, 5)
    # It beeps and turns: what it shows, nobody knows, but not nothing.
    expect(camera.locator(".player .said b")).not_to_be_empty()
    assert read_canvas(camera, ".player canvas").std() > 5
    assert_no_error(camera)


def test_without_a_camera_the_player_says_so(page, site):
    page.goto(f"{site}/performance?live_source=Camera")
    page.locator(".player .play").click()
    expect(page.locator(".player .problem")).to_contain_text("camera")


def test_a_presentation_by_keyboard(page, site, bundled):
    page.goto(f"{site}/performance?present=true&methods=gradcam&methods=saliency")
    stage = page.get_by_role("dialog", name="Presentation")
    expect(stage.get_by_role("heading", name="Egyptian cat")).to_be_visible()
    photo = cam.sample("chelsea")
    truth = cam.attribute(bundled, bundled.prepare(photo), "gradcam")["gradcam"]
    blended = np.asarray(
        cam.overlay(bundled.crop(photo), truth.heatmap[0], "inferno", 0.85, fade=True), int
    )
    drawn = read_canvas(page, "dialog canvas >> nth=0")
    assert drawn.shape == blended.shape and np.abs(drawn - blended).mean() < 3
    width = stage.evaluate("dialog => dialog.getBoundingClientRect().width")
    assert width == page.viewport_size["width"], "it covers the window"
    page.keyboard.press("ArrowRight")
    expect(stage.get_by_role("heading", name="espresso")).to_be_visible()
    expect(page).to_have_url(re.compile("image=coffee"))
    page.keyboard.press("ArrowLeft")
    expect(stage.get_by_role("heading", name="Egyptian cat")).to_be_visible()
    page.keyboard.press("Escape")
    expect(stage).to_have_count(0)
    expect(page.get_by_role("heading", name="Performance", exact=True)).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?methods=gradcam&methods=saliency$"))
    page.go_back()
    expect(stage).to_be_visible()
    assert_no_error(page)


@pytest.mark.parametrize("width", [390, 1440])
def test_a_contrast_and_a_signed_map_are_presented_as_such(chromium, site, width):
    context = chromium.new_context(viewport={"width": width, "height": 844})
    page = context.new_page()
    query = "present=true&methods=input_x_gradient&against=tabby&image=chelsea"
    page.goto(f"{site}/performance?{query}")
    stage = page.get_by_role("dialog", name="Presentation")
    expect(stage.get_by_role("heading", name="Egyptian cat, not tabby")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    leave = stage.get_by_role("button", name="Leave")
    expect(leave).to_be_in_viewport(ratio=1)
    leave.click()
    expect(stage).to_have_count(0)
    context.close()
