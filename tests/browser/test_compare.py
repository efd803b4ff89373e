"""What people do on the page Compare, in a real Chromium."""

import re

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import cam
from tests.browser.conftest import PATIENCE
from tests.browser.test_anatomy import pixels
from tests.browser.test_explore import (
    OPACITY,
    a_photo,
    assert_drawn,
    assert_no_error,
    choose,
    map_of,
    pixels_of,
    upload,
)
from tests.support.browser_steps import wait_for

EACH = "the compared maps"
MAPS = ".cam-viewer canvas[role=img][aria-label]"


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def settled(page: Page) -> None:
    """Nothing is being computed any more."""
    expect(page.get_by_text("Copy as Python")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@pytest.mark.parametrize(
    "path",
    ["compare", "compare?image=coffee&compare=Classes&one_range=true&measure=Properties"],
)
def test_cold_links(page, serve, path):
    """The first request that a server ever gets is a link into the middle."""
    site = serve()
    page.goto(f"{site}/{path}")
    expect(page).to_have_title("Compare · cam")
    if "image" in path:
        heading(page, "Properties")
        settled(page)
        expect(page.get_by_role("img", name=re.compile("^espresso .* heatmap"))).to_be_visible()
        expect(page.get_by_role("rowheader", name=re.compile("^espresso"))).to_be_visible()
        expect(page).to_have_url(re.compile("compare=Classes&one_range=true"))
    else:
        heading(page, "Agreement")
        expect(map_of(page, "Grad-CAM", EACH)).to_be_visible()
    expect(page.get_by_test_id("stMain").get_by_role("link", name="Explore")).to_be_visible()
    assert_no_error(page)


def test_the_maps_are_the_librarys(page, site, bundled):
    page.goto(f"{site}/compare?image=coffee&methods=gradcam&methods=saliency")
    photo = cam.sample("coffee")
    maps = cam.attribute(bundled, bundled.prepare(photo), ["gradcam", "saliency"])
    crop = bundled.crop(photo)
    for name, title in (("gradcam", "Grad-CAM"), ("saliency", "Saliency map")):
        percentile = cam.methods()[name].percentile
        heatmap = maps[name].heatmap[0]
        expected = cam.overlay(crop, heatmap, "inferno", OPACITY, percentile, fade=True)
        assert_drawn(pixels_of(map_of(page, title, EACH)), np.asarray(expected).astype(int))


def test_from_mode_to_mode(page, site):
    page.goto(f"{site}/compare")
    heading(page, "Agreement")
    page.get_by_role("radio", name="Layers").click()
    early = map_of(page, "blocks.1 (56 × 56)", EACH)
    unscaled = pixels_of(early)
    page.get_by_text("Shared colour scale").click()
    expect(page.get_by_text("One range for all: the raw maps")).to_be_visible()
    settled(page)
    wait_for(lambda: bool(np.abs(pixels_of(early) - unscaled).max() > 10), True)
    page.get_by_role("radio", name="Classes").click()
    expect(page.get_by_role("img", name=re.compile("^tiger cat"))).to_be_visible()
    page.get_by_role("radio", name="Two models").click()
    # The second bundled one, without a choice.
    expect(map_of(page, "Grad-CAM, efficientnet_lite2", EACH)).to_be_visible()
    choose(page, "Second model", "torchvision/resnet18")
    expect(page).to_have_url(re.compile("second=torchvision%2Fresnet18"))
    assert_no_error(page)


def test_curves_are_drawn(page, site):
    page.goto(f"{site}/compare?measure=Deletion+and+insertion&methods=gradcam")
    chart = page.get_by_alt_text(re.compile("^Grad-CAM: area under deletion"))
    expect(chart).to_be_visible()
    # Streamlit takes SVG out of HTML: the picture must have arrived, and hold its colours.
    page.wait_for_function("e => e.complete && e.naturalWidth", arg=chart.element_handle())
    size = chart.evaluate("e => [e.complete, e.naturalWidth, e.clientWidth, e.clientHeight]")
    assert size[0] and size[1] > 0 and size[2] > 200 and size[3] > 100
    assert_no_error(page)


def test_the_random_network_by_keyboard(page, site):
    page.goto(
        f"{site}/compare?measure=Sanity+check:+parameter+randomisation&methods=gradcam&methods=saliency"
    )
    slider = page.get_by_role("slider", name="How much of the network is random")
    expect(page.get_by_alt_text("Saliency map at depth 1")).to_be_visible()
    before = pixels(page, "Grad-CAM at depth 1")
    slider.focus()
    slider.press("ArrowRight")
    expect(page.get_by_alt_text("Saliency map at depth 2")).to_be_visible()
    assert np.abs(pixels(page, "Grad-CAM at depth 2") - before).max() > 10
    expect(page).to_have_url(re.compile("depth=2"))
    assert_no_error(page)


def test_long_work_is_cancelled_and_started_again(page, site):
    page.goto(f"{site}/compare?methods=gradcam&methods=rise")
    page.get_by_role("button", name="Cancel").first.click()
    again = page.get_by_role("button", name="Start again")
    expect(again).to_be_visible()
    expect(page.get_by_text("RISE: cancelled.")).to_be_visible()
    # The rest of the page is alive meanwhile.
    expect(map_of(page, "Grad-CAM", EACH)).to_be_visible()
    again.click()
    expect(page.get_by_role("button", name="Cancel").first).to_be_visible()
    page.get_by_role("radio", name="Rocket").click()
    # Another picture is other work, and the cat's is no longer waited for.
    expect(page).to_have_url(re.compile("image=rocket"))
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_text("RISE: cancelled.")).to_be_visible()
    assert_no_error(page)


def test_ones_own_picture(page, site):
    page.goto(f"{site}/compare?compare=Classes")
    heading(page, "Agreement")
    upload(page, "my bike.jpg", a_photo())
    expect(page.get_by_role("img", name=re.compile("^moped"))).to_be_visible()
    assert_no_error(page)


@pytest.mark.parametrize(
    "measure",
    ["Agreement", "Deletion and insertion", "Properties", "Sanity check: parameter randomisation"],
)
def test_a_phones_width(chromium, site, measure):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{site}/compare?measure={measure}&methods=gradcam&methods=saliency")
    heading(page, measure)
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    right = page.locator("[data-testid=stMain] *").evaluate_all(
        "all => Math.max(...all.filter(e => !e.closest('[role=region]') && !e.querySelector"
        "('[role=region]')).map(e => e.getBoundingClientRect().right))"
    )
    assert right <= 390, "nothing is cut off, but for the table, which can be slid sideways"
    assert_no_error(page)
    context.close()


def test_every_picture_has_a_text(page, site):
    page.goto(
        f"{site}/compare?measure=Sanity+check:+parameter+randomisation&methods=gradcam&methods=saliency"
    )
    expect(page.get_by_alt_text("Saliency map at depth 1")).to_be_visible()
    # The samples of the lines in a legend say nothing alone.
    named, maps = page.locator("[data-testid=stMain] img:not([alt=''])"), page.locator(MAPS)
    expect(named).to_have_count(3)
    expect(maps).to_have_count(3)
    assert len(set(named.evaluate_all("all => all.map(e => e.alt)"))) == 3
    texts = maps.evaluate_all("all => all.map(e => e.ariaLabel)")
    assert len(set(texts)) == 3 and all(texts)
