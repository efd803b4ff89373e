"""Open a run's report in a browser: offline, in light and dark."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import cam
from cam._runs.results.report.report import write_report
from tests.support.stand_in import Drop, Inside, network


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A report over 16 images, three methods and a baseline, by three metrics."""
    folder = tmp_path_factory.mktemp("report")
    run = cam.evaluate(
        network(),
        cam.dataset("photo-grid", size=16),
        ["gradcam", "layercam", "saliency"],
        [Inside(), Drop(), cam.metric("deletion", steps=4)],
        folder / "run",
        baselines="centre",
    )
    return write_report(run, folder / "report.html").as_uri()


@pytest.fixture
def browser(chromium) -> Browser:
    return chromium


def open_report(browser: Browser, address: str, width: int, scheme: str) -> tuple[Page, list[str]]:
    """Open it with every request to another address refused; return those too."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page, others = context.new_page(), []

    def refuse(route) -> None:
        if route.request.url == address:
            route.continue_()
        else:
            others.append(route.request.url)
            route.abort()

    page.route("**/*", refuse)
    page.goto(address)
    return page, others


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_fits_the_screen_and_asks_nobody(browser, address, width, scheme):
    page, others = open_report(browser, address, width, scheme)
    sizes = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert sizes[0] <= sizes[1]
    broken = "[...document.images].filter(image => !image.naturalWidth).length"
    assert page.evaluate(broken) == 0 and others == []
    if width == 1440:
        assert page.evaluate("document.documentElement.scrollHeight") <= 4000


def test_the_result_stands_on_the_first_screen(browser, address):
    """Sentence, chart, and three best and three worst images, without a scroll."""
    page, _ = open_report(browser, address, 1440, "light")
    result = page.locator("#result")
    for part in (result.locator(".claim"), result.locator("svg").first, page.locator("nav")):
        box = part.bounding_box()
        assert box["y"] + box["height"] <= 900
    boxes = [image.bounding_box() for image in result.locator("img").all()]
    assert len(boxes) == 6 and all(box["y"] + box["height"] <= 900 for box in boxes)
    # Three columns.
    lefts = {round(column.bounding_box()["x"]) for column in result.locator("> div").all()}
    assert len(lefts) == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_is_the_systems_until_another_is_chosen(browser, address, scheme):
    page, _ = open_report(browser, address, 1440, scheme)
    read = "getComputedStyle(document.documentElement).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 24, 29)"
    assert page.evaluate(read) == (dark if scheme == "dark" else light)
    page.get_by_text("Dark", exact=True).click()
    assert page.evaluate(read) == dark
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(read) == light


def test_every_entry_of_the_contents_leads_somewhere(browser, address):
    page, _ = open_report(browser, address, 390, "light")
    entries = page.locator("nav a").all()
    assert len(entries) >= 4
    for entry in entries:
        assert page.locator(entry.get_attribute("href")).count() == 1


def test_an_image_opens_in_the_viewer_with_the_maps_that_the_run_kept(browser, address):
    page, others = open_report(browser, address, 1440, "light")
    figure = page.locator("#images figure[data-method=saliency]").first
    name = figure.locator("img").get_attribute("alt").removeprefix("Saliency map of ")
    figure.get_by_role("button").click()
    dialog = page.get_by_role("dialog", name=f"Saliency map of {name}")
    expect(dialog.locator(".cam-viewer[data-ready]")).to_be_visible()
    titles = dialog.locator(".heading strong").all_text_contents()
    assert titles == ["Model input", "Saliency map", "Grad-CAM", "LayerCAM", "Centre (baseline)"]
    # The value under the pointer is the one that the run kept.
    stored = cam.Run.open(Path(address.removeprefix("file://")).with_name("run"))
    items = stored.items()
    heatmap = stored.image(int(items["item"][items["id"] == name].iloc[0])).heatmaps["gradcam"]
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    box = dialog.get_by_role("application", name="Grad-CAM").bounding_box()
    page.mouse.move(
        box["x"] + box["width"] * (column + 0.5) / heatmap.shape[1],
        box["y"] + box["height"] * (row + 0.5) / heatmap.shape[0],
    )
    reading = dialog.locator(".cell", has_text="Grad-CAM").locator(".reading")
    expect(reading).to_have_text(f"{heatmap.max():.3f}")
    dialog.get_by_role("button", name="Next image").click()
    expect(dialog).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert others == []


def test_it_is_small_enough_for_a_mail(address):
    """16 images, four maps each, and the viewer."""
    assert Path(address.removeprefix("file://")).stat().st_size <= 1_500_000
