"""What people do on the page Anatomy, in a real Chromium."""

import base64
import io
import re
from urllib.parse import urljoin

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import cam
from tests.browser.conftest import PATIENCE
from tests.browser.test_explore import a_photo, assert_no_error, choose, map_of, upload
from tests.support.browser_steps import SECONDS_UNTIL_CLEAR, wait_for, wait_until_drawn

LAYER = "blocks.4"


def at_step(page: Page, number: int) -> None:
    heading = page.get_by_role("heading", name=re.compile(f"^{number} of 7 · "))
    expect(heading).to_be_visible()


def pixels(page: Page, alt: str) -> np.ndarray:
    """A picture on the page as the browser has it, from its own address or from the server's."""
    # A channel may be drawn in two lists, both times the same.
    picture = page.get_by_alt_text(alt, exact=True).first
    expect(picture).to_be_visible()
    source = picture.get_attribute("src")
    if source.startswith("data:"):
        content = base64.b64decode(source.split(",")[1])
    else:
        content = page.request.get(urljoin(page.url, source)).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def coffee(bundled) -> cam.Anatomy:
    # The page opens at a layer where gradients differ between positions.
    return cam.anatomy(bundled, bundled.prepare(cam.sample("coffee")), layer=LAYER)


@pytest.mark.parametrize("path", ["anatomy", "anatomy?image=coffee&target=cup&step=Maps"])
def test_cold_links(page, serve, path):
    """The first request that a server ever gets is a link into the middle."""
    site = serve()
    page.goto(f"{site}/{path}")
    expect(page).to_have_title("Anatomy · cam")
    at_step(page, 5 if "step" in path else 1)
    expect(page.get_by_test_id("stMain").get_by_role("link", name="Explore")).to_be_visible()
    assert_no_error(page)
    if "step" in path:
        expect(page).to_have_url(re.compile("target=cup&step=Maps"))
    page.reload()
    at_step(page, 5 if "step" in path else 1)
    assert_no_error(page)


def test_the_slider_by_keyboard_and_the_buttons(page, site):
    page.goto(f"{site}/anatomy")
    at_step(page, 1)
    slider = page.get_by_role("slider", name="Step")
    slider.focus()
    for number, step in enumerate(["Target", "Gradients", "Weights"], start=2):
        slider.press("ArrowRight")
        at_step(page, number)
        expect(page).to_have_url(re.compile(f"step={step}"))
    page.get_by_role("button", name="Next").click()
    at_step(page, 5)
    expect(slider).to_have_attribute("aria-valuetext", "Maps")
    slider.press("End")
    at_step(page, 7)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    assert_no_error(page)


def test_the_last_step_is_the_librarys_picture(page, site, bundled, coffee):
    page.goto(f"{site}/anatomy?image=coffee&step=Overlay")
    crop = bundled.crop(cam.sample("coffee"))
    for alt, heatmap, percentile in (
        ("Grad-CAM heatmap for espresso", coffee.heatmap[0], 100),
        ("Saliency map heatmap for espresso", coffee.saliency[0], 99),
    ):
        expected = cam.overlay(crop, heatmap, "inferno", 0.5, percentile)
        # A network rounds otherwise with another number of threads; a JPEG is off by ten.
        assert np.abs(pixels(page, alt) - np.asarray(expected).astype(int)).max() <= 3


def test_the_sum_has_its_numbers_in_its_cells(page, site, bundled):
    # A finer grid has no room for numbers.
    anatomy = cam.anatomy(bundled, bundled.prepare(cam.sample("coffee")), layer="blocks.6")
    page.goto(f"{site}/anatomy?image=coffee&step=Sum&layer=blocks.6")
    grid = page.get_by_role("img", name="The sum before the ReLU")
    expect(grid).to_be_visible()
    cells = [float(text.replace("−", "-")) for text in grid.locator("div").all_inner_texts()]
    assert len(cells) == 49
    assert np.abs(np.array(cells) - anatomy.summed[0].flatten().numpy()).max() <= 0.0051


def test_the_strongest_channels_are_drawn(page, site, coffee):
    page.goto(f"{site}/anatomy?image=coffee&step=Maps")
    [channel], _ = coffee.strongest(0, 1, by="sum")
    drawn = pixels(page, f"Weighted map of channel {channel}")
    weighted = coffee.weighted[0, channel].numpy()
    assert drawn.shape == (*weighted.shape, 3)
    # The more it adds, the redder: less green and blue. What adds nothing is white.
    strongest, nothing = weighted.argmax(), np.abs(weighted).argmin()
    green = drawn[..., 1].flatten()
    assert green[strongest] == green.min() and green[nothing] == green.max()


def test_choices_stay_from_page_to_page(page, site):
    page.goto(site)
    menu = page.get_by_test_id("stMain")
    page.get_by_role("radio", name="Rocket").click()
    expect(map_of(page, "Grad-CAM", "missile")).to_be_visible()
    menu.get_by_role("link", name="Anatomy").click()
    at_step(page, 1)
    expect(page.get_by_text("missile").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"anatomy\?image=rocket"))
    choose(page, "Layer for Grad-CAM", "blocks.4")
    for number in (2, 3):
        page.get_by_role("button", name="Next").click()
        at_step(page, number)
    expect(page.get_by_text("112 × 14 × 14 activations")).to_be_visible()
    menu.get_by_role("link", name="Explore").click()
    expect(map_of(page, "Grad-CAM", "missile")).to_be_visible()
    page.get_by_text("Details", exact=True).click()
    expect(page.get_by_text("a 14 × 14 feature grid")).to_be_visible()
    assert_no_error(page)


def test_ones_own_picture_shaken(page, site):
    page.goto(f"{site}/anatomy?step=Overlay")
    at_step(page, 7)
    upload(page, "my bike.jpg", a_photo())
    expect(page.get_by_alt_text("Grad-CAM heatmap for moped")).to_be_visible()
    page.get_by_text("Robustness to noise", exact=True).click()
    expect(page.get_by_alt_text("Saliency map of the image with noise 3")).to_be_visible()
    assert_no_error(page)
    upload(page, "notes.png", b"these are words")
    expect(page.get_by_text("that can be read here")).to_be_visible()
    assert_no_error(page)


@pytest.mark.parametrize(
    "step", ["Scores", "Target", "Gradients", "Weights", "Maps", "Sum", "Overlay"]
)
def test_a_phones_width(chromium, site, step):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{site}/anatomy?step={step}")
    expect(page.get_by_role("heading", name="Why one is coarse")).to_be_visible()
    expect(page.get_by_text("Copy as Python")).to_be_visible()
    wait_until_drawn(page)

    def list_cut_off() -> list[str]:
        return page.locator("[data-testid=stMain] *").evaluate_all(
            "all => all.filter(e => !e.closest('.katex-mathml, .katex')"
            " && e.getBoundingClientRect().right > 390).map(e => e.outerHTML.slice(0, 200))"
        )

    # The slider moves its label back inside only after it is drawn.
    wait_for(list_cut_off, [], SECONDS_UNTIL_CLEAR)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    context.close()


def test_every_picture_has_a_text(page, site):
    for step in ("Scores", "Gradients", "Maps", "Overlay"):
        page.goto(f"{site}/anatomy?step={step}")
        expect(page.get_by_role("heading", name="Why one is coarse")).to_be_visible()
        expect(page.locator("[data-testid=stMain] img").first).to_be_visible()
        texts = page.locator("[data-testid=stMain] img").evaluate_all("all => all.map(e => e.alt)")
        assert texts and all(texts) and len(set(texts)) >= len(texts) / 2
