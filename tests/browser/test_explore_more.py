"""Look closer on the page Explore, in a real Chromium."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

import cam
from tests.browser.test_explore import assert_no_error, map_of


def test_a_box_is_drawn_and_its_link_shows_it_to_another(page, chromium, site):
    page.goto(f"{site}/explore?sample=Coffee&methods=Grad-CAM")
    page.get_by_text("Inspect values").click()
    plot = page.locator(".stPlotlyChart .nsewdrag")
    expect(plot).to_be_visible()
    plot.scroll_into_view_if_needed()
    area = plot.bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return area["x"] + x * area["width"], area["y"] + y * area["height"]

    page.mouse.move(*at(0.25, 0.25))
    page.mouse.down()
    page.mouse.move(*at(0.5, 0.4), steps=4)
    page.mouse.move(*at(0.75, 0.5), steps=4)
    page.mouse.up()
    share = page.get_by_text("of the evidence is in this box")
    expect(share).to_be_visible()
    expect(page).to_have_url(re.compile("inspect=true.*box_columns=.*box_rows="))
    query = parse_qs(urlsplit(page.url).query)
    left, right, top, bottom = map(int, query["box_columns"] + query["box_rows"])
    assert (
        abs(left - 56) < 4 and abs(right - 168) < 4 and abs(top - 56) < 4 and abs(bottom - 112) < 4
    )
    model = cam.load_model("efficientnet_lite0")
    heatmap = cam.attribute(model, model.prepare(cam.sample("coffee")), "gradcam")[
        "gradcam"
    ].heatmap
    expected = float(heatmap[0, top : bottom + 1, left : right + 1].sum() / heatmap.sum())
    sentence = share.inner_text()
    assert abs(int(sentence.split("%")[0]) - 100 * expected) < 1
    visitor = chromium.new_context().new_page()
    visitor.goto(page.url)
    expect(visitor.get_by_text("of the evidence is in this box")).to_have_text(sentence)
    visitor.context.close()


def test_a_layer_found_in_the_depth_is_explained(page, site):
    page.goto(f"{site}/explore?methods=Grad-CAM&through=true&through_layer=blocks.4")
    page.get_by_role("button", name="Explain at this layer").click()
    expect(page.get_by_text("Layer blocks.4, 14 × 14 positions")).to_be_visible()
    expect(page).to_have_url(re.compile(r"&layer=blocks\.4"))
    expect(page.get_by_role("button", name="Explain at this layer")).to_be_disabled()


def test_a_slow_method_is_cancelled_while_the_page_stays_alive(page, site):
    page.goto(f"{site}/explore?more=RISE+(perturbation)&rise.masks=20000")
    expect(page.get_by_text(re.compile(r"RISE: \d+% · [\d,]+ of 20,000 pictures"))).to_be_visible()
    page.get_by_role("button", name="tabby").click()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("RISE: cancelled.")).to_be_visible()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()
    assert_no_error(page)


EVERYTHING = (
    "sample=Coffee&against=cup&signs=for+and+against&threshold=0.2&methods=Grad-CAM&methods=LayerCAM"
    "&methods=Saliency+map&inspect=true&box_columns=20&box_columns=90&through=true&code=true"
)


@pytest.mark.parametrize("query", ["", EVERYTHING], ids=["as it opens", "everything open"])
def test_a_phones_width(chromium, site, query):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto(f"{site}/explore?{query}")
    picture = map_of(page, "Grad-CAM", "espresso, not cup" if query else "Egyptian cat")
    expect(picture).to_be_visible()
    if query:
        expect(page.get_by_text("cam.overlay")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out"
    right = page.locator("[data-testid=stMain] *").evaluate_all(
        # A slider's input lies unseen over its end.
        "all => Math.max(...all.filter(e => e.tagName != 'INPUT')"
        ".map(e => e.getBoundingClientRect().right))"
    )
    assert right <= 390, "nothing is cut off"
    assert picture.bounding_box()["width"] > 300
    texts = page.locator("[data-testid=stMain] img").evaluate_all("all => all.map(e => e.alt)")
    assert all(texts) and len(set(texts)) == len(texts)
    context.close()
