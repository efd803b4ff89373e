"""Detectors and segmenters in Explore: what is clicked is explained."""

import re

import pytest
from playwright.sync_api import expect

from tests.support.browser_steps import (
    expect_accessible,
    read_address,
    wait_until_drawn,
)

# Of Planted's boxes, as shares of the image: its surest detection is the one below on the left.
ABOVE, BELOW = (0.69, 0.31), (0.25, 0.75)


@pytest.fixture(scope="module")
def small_models(tmp_path_factory):
    from tests.browser.conftest import _Servers

    with _Servers(tmp_path_factory.mktemp("places")) as start:
        yield start("tests/support/places_page.py")


def image_of(page):
    return page.get_by_role("application", name=re.compile("^Image"))


def click_at(page, point) -> None:
    stage = image_of(page)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    stage.click(position={"x": point[0] * box["width"], "y": point[1] * box["height"]})


def draw_box(page, start, end) -> None:
    page.get_by_role("button", name="Select a box").click()
    stage = image_of(page)
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + start[0] * box["width"], box["y"] + start[1] * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * box["width"], box["y"] + end[1] * box["height"], steps=4)
    page.mouse.up()


def explained(page, label):
    return page.get_by_role("img", name=f"Saliency map heatmap for {label}")


FIRST = "cat detected in 4, 36, 28, 60"
SECOND = "cat detected in 32, 8, 56, 32"


@pytest.mark.parametrize("width", [1440, 390])
def test_a_click_on_a_box_explains_it(page, small_models, width):
    page.set_viewport_size({"width": width, "height": 1200})
    page.goto(f"{small_models}/explore?model=queries")
    expect(explained(page, FIRST)).to_be_visible()
    wait_until_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    click_at(page, ABOVE)
    expect(explained(page, SECOND)).to_be_visible()
    assert read_address(page)["target"] == ["detection 2"]
    page.reload()
    expect(explained(page, SECOND)).to_be_visible()
    click_at(page, BELOW)
    expect(explained(page, FIRST)).to_be_visible()
    assert "target" not in read_address(page)
    page.go_back()
    expect(explained(page, SECOND)).to_be_visible()


def test_with_the_keyboard(page, small_models):
    page.goto(f"{small_models}/explore?model=queries")
    expect(explained(page, FIRST)).to_be_visible()
    wait_until_drawn(page)
    second = page.get_by_role("radio", name=re.compile("^2: cat"))
    second = second.or_(page.get_by_role("button", name=re.compile("^2: cat")))
    second.focus()
    page.keyboard.press("Enter")
    expect(explained(page, SECOND)).to_be_visible()
    image_of(page).focus()
    # From the middle to the left and down, into the first box.
    for key in ["ArrowLeft"] * 9 + ["ArrowDown"] * 9 + ["Enter"]:
        page.keyboard.press(key)
    expect(explained(page, FIRST)).to_be_visible()


def test_a_missed_object(page, small_models):
    """A box around cells that the detector gives low scores is asked about."""
    page.goto(f"{small_models}/explore?model=grid&least=0.95")
    expect(page.get_by_text("The model detects nothing here with such a score")).to_be_visible()
    expect(page.get_by_text("To ask about an object that is missed, draw a box")).to_be_visible()
    draw_box(page, (0.52, 0.13), (0.86, 0.49))
    page.get_by_role("combobox", name="Class that should be there").click()
    page.get_by_role("option", name="cat").click()
    page.get_by_role("button", name="Why is it missed?").click()
    label = re.compile("Saliency map heatmap for cat missed in")
    expect(page.get_by_role("img", name=label)).to_be_visible()
    [target] = read_address(page)["target"]
    assert re.fullmatch(r"missed:1@[\d.]+,[\d.]+,[\d.]+,[\d.]+", target)
    sides = [float(side) for side in target.split("@")[1].split(",")]
    assert all(abs(side - other) < 4 for side, other in zip(sides, (33, 8, 55, 31), strict=True))


@pytest.mark.parametrize("width", [1440, 390])
def test_a_click_on_a_segment_asks_for_its_class_there(page, small_models, width):
    page.set_viewport_size({"width": width, "height": 1200})
    page.goto(f"{small_models}/explore?model=segments&click=pixel")
    expect(explained(page, "the pixels of bright")).to_be_visible()
    wait_until_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.get_by_role("listitem").filter(has_text=re.compile("^dark 2"))).to_be_visible()
    click_at(page, (0.75, 0.5))
    label = re.compile("Saliency map heatmap for (dark|bright) at 4[78], 3")
    expect(page.get_by_role("img", name=label)).to_be_visible()
    [target] = read_address(page)["target"]
    assert re.fullmatch(r"segment:[01]@4[78],3[12]", target)
    page.goto(f"{small_models}/explore?model=segments&target=region:1@40,60")
    expect(explained(page, "bright around 40, 60")).to_be_visible()


def test_a_class_in_a_box(page, small_models):
    page.goto(f"{small_models}/explore?model=segments")
    expect(explained(page, "the pixels of bright")).to_be_visible()
    wait_until_drawn(page)
    draw_box(page, (0.55, 0.6), (0.95, 0.9))
    page.get_by_role("button", name="Explain it in the box").click()
    label = re.compile("Saliency map heatmap for bright in 35, 3")
    expect(page.get_by_role("img", name=label)).to_be_visible()


def test_what_is_not_there_is_a_sentence(page, small_models):
    page.goto(f"{small_models}/explore?model=queries&target=detection+9")
    expect(page.get_by_text("The link asks for detection 9, which is not here")).to_be_visible()
    expect(explained(page, FIRST)).to_be_visible()


@pytest.mark.parametrize("model", ["queries", "segments"])
def test_accessible(page, small_models, model):
    page.goto(f"{small_models}/explore?model={model}")
    expect(page.get_by_role("img", name=re.compile("^Saliency map heatmap"))).to_be_visible()
    wait_until_drawn(page)
    expect_accessible(page, impacts={"serious", "critical"})
