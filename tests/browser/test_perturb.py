"""Perturb and see, with the mouse in a real Chromium."""

import re
import time

from playwright.sync_api import Page, expect

from tests.support.browser_steps import read_address, wait_for, wait_until_drawn

LINK = "explore?image=coffee&methods=gradcam&perturb=true"


def draw_box(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    """Draw a box on the image, between shares of its sides."""
    page.get_by_role("button", name="Select a box").first.click()
    stage = page.get_by_role("application", name="Image").first
    stage.scroll_into_view_if_needed()
    area = stage.bounding_box()
    page.mouse.move(area["x"] + left * area["width"], area["y"] + top * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + right * area["width"], area["y"] + bottom * area["height"], steps=6)
    page.mouse.up()


def read_chances(page: Page) -> list[str]:
    return page.locator(".st-key-prediction button").all_inner_texts()


def test_a_box_is_blurred_and_brought_back(page, site, record_property):
    page.goto(f"{site}/{LINK}")
    blur = page.get_by_role("button", name="Blur", exact=True)
    expect(blur).to_be_disabled()
    wait_until_drawn(page)
    wait_for(lambda: any("espresso" in chance for chance in read_chances(page)), True)
    before, entries = read_chances(page), page.evaluate("history.length")
    draw_box(page, 0.2, 0.3, 0.7, 0.8)
    expect(blur).to_be_enabled()
    # A selection alone changes nothing.
    assert "edit" not in read_address(page) and read_chances(page) == before
    blur.click()
    start = time.perf_counter()
    page.wait_for_function(
        """before => {
          const all = [...document.querySelectorAll('.st-key-prediction button')];
          return all.length > 0 && all.map((one) => one.innerText).join() !== before.join();
        }""",
        arg=before,
        polling=20,
    )
    milliseconds = round(1000 * (time.perf_counter() - start))
    # Of two quiet cores 200 is the goal; another's load is not this test's to judge.
    record_property("milliseconds_from_click_to_prediction", milliseconds)
    [edit] = read_address(page)["edit"]
    sides = [
        int(side) for side in re.fullmatch(r"blur\.box-(\d+)-(\d+)-(\d+)-(\d+)", edit).groups()
    ]
    for side, drawn in zip(sides, (200, 300, 700, 800), strict=True):
        assert abs(side - drawn) <= 10
    wait_for(lambda: page.evaluate("history.length"), entries + 1)
    expect(page.get_by_text("What each change does")).to_be_visible()
    expect(page.get_by_text("Probability of espresso")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    wait_for(lambda: read_chances(page), before)
    assert "edit" not in read_address(page)
    # Back is what was before the last click.
    page.go_back()
    wait_for(lambda: read_address(page).get("edit"), [edit])
    expect(page.get_by_text("What each change does")).to_be_visible()


def test_a_link_shows_the_edit_to_another(page, site):
    page.goto(f"{site}/{LINK}&edit=erase.box-200-300-700-800&target=espresso")
    expect(page.get_by_text("1. Erase a box")).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("button", name="Edited image").click()
    assert download.value.suggested_filename == "coffee.edited.png"
