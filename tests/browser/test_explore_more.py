"""Look closer on the page Explore, in a real Chromium."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PATIENCE
from tests.browser.test_explore import assert_no_error, map_of
from tests.support.browser_steps import wait_until_drawn


def test_a_layer_of_the_sweep_is_explained(page, site):
    page.goto(f"{site}/explore?methods=gradcam&through=true&through_layer=blocks.4&details=true")
    page.get_by_role("button", name="Explain at this layer").click()
    expect(page.get_by_text("Layer blocks.4: a 14 × 14 feature grid")).to_be_visible()
    expect(page).to_have_url(re.compile(r"&layer=blocks\.4"))
    expect(page.get_by_role("button", name="Explain at this layer")).to_be_disabled()


def test_a_slow_method_is_cancelled_while_the_page_stays_alive(page, site):
    page.goto(f"{site}/explore?methods=gradcam&methods=rise&rise.masks=20000")
    expect(page.get_by_text(re.compile(r"RISE: \d+% · [\d,]+ of 20,000 images"))).to_be_visible()
    page.get_by_role("radio", name=re.compile("^tabby")).click()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("RISE: cancelled.")).to_be_visible()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()
    assert_no_error(page)


EVERYTHING = (
    "image=coffee&against=cup&signs=both&threshold=0.2&methods=gradcam&methods=layercam"
    "&methods=saliency&perturb=true&edit=blur.box-250-250-750-500&channels=true&details=true"
    "&through=true&live=true&code=true"
)


@pytest.mark.parametrize("query", ["", EVERYTHING], ids=["as it opens", "everything open"])
def test_a_phones_width(chromium, site, query):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{site}/explore?{query}")
    drawn = map_of(page, "Grad-CAM", "espresso, not cup" if query else "Egyptian cat")
    expect(drawn).to_be_visible()
    if query:
        expect(page.get_by_text("cam.overlay")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    right = page.locator("[data-testid=stMain] *").evaluate_all(
        # A slider's input lies unseen over its end; menu and wide tables are slid sideways; the
        # frame's components show nothing.
        "all => { const apart = '[role=region], .st-key-menu, .st-key-frame, .st-key-announcement';"
        " const inside = e => e?.closest(apart) || (e && inside(e.getRootNode().host));"
        " return Math.max(...all.filter(e => e.tagName != 'INPUT' && !inside(e) && "
        "!e.querySelector(apart)).map(e => e.getBoundingClientRect().right)); }"
    )
    assert right <= 390, "nothing is cut off"
    assert drawn.bounding_box()["width"] > 300
    wait_until_drawn(page)
    texts = page.locator("[data-testid=stMain] img").evaluate_all("all => all.map(e => e.alt)")
    assert all(texts)
    maps = page.locator(".cam-viewer").first.locator("canvas[role=img]")
    texts = maps.evaluate_all("all => all.map(e => e.ariaLabel)")
    assert all(texts) and len(set(texts)) == len(texts)
    context.close()
