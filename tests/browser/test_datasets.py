"""Test the page Datasets in a real Chromium: start, watch, read runs."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import cam
from tests.browser.conftest import _Servers
from tests.support.browser_steps import expect_accessible, wait_for, wait_until_drawn

VIEWS = (
    *("Leaderboard", "Gallery", "Embedding", "Confusion+matrix"),
    *("Attribution+patterns", "Compare+runs", "Export"),
)
METHODS = "run_methods=gradcam&run_methods=saliency"
LOCATED = "run_metrics=grid_pointing_game&run_metrics=sparseness"
QUICK = f"datasets?start=true&size=12&{METHODS}&{LOCATED}"
# With a metric that runs the model: long enough to look and to cancel.
SLOW = f"datasets?start=true&size=12&{METHODS}&centre=false&run_metrics=deletion"

# Milliseconds; a run takes seconds on a quiet machine, and minutes on one that others use too.
LONG = 200_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the server writes runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """Start a server for this file, with an empty folder of runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAM_RUNS", str(folder))
        patch.setenv("CAM_DATA_ROOTS", "")
        with _Servers(tmp_path_factory.mktemp("server")) as start:
            yield start()


def begin(page: Page, address: str, name: str) -> None:
    page.goto(address)
    box = page.get_by_role("textbox", name="Name of the run")
    box.fill(name)
    box.press("Enter")
    # As people do who are not sure that they hit it: one run is started.
    page.get_by_role("button", name="Start the run").dblclick()


def row(page: Page, name: str):
    """What the list says of a run."""
    return page.locator(".stHtml").filter(has=page.locator("b", has_text=re.compile(f"^{name}$")))


def line(page: Page, name: str):
    """What the table says of a run."""
    button = page.get_by_role("button", name=name, exact=True)
    return page.locator("table.cam-runs tr").filter(has=button)


def assert_no_error(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_it_opens_on_a_result(chromium, server):
    """Advice, chart and three images stand on the first screen of a common notebook."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(f"{server}/datasets")
    advice = page.get_by_text("Use Integrated gradients: it has the best median rank")
    chart = page.get_by_role("img", name=re.compile("Means with 95 % intervals"))
    three = page.locator(".cam-few button")
    expect(three).to_have_count(3)
    for part in (advice, chart, three.last):
        expect(part).to_be_in_viewport(ratio=1)
    expect(line(page, "Example: known answers")).to_contain_text("Integrated gradients")
    assert_no_error(page)
    context.close()


def test_start_watch_and_read(page, server, folder):
    page.goto(f"{server}/datasets")
    page.get_by_role("button", name="Start a run").click()
    expect(page.get_by_role("button", name="Start the run")).to_be_visible()
    begin(page, f"{server}/{QUICK}", "first")
    expect(line(page, "first")).to_contain_text("Photo grid, 12 images", timeout=LONG)
    expect(line(page, "first")).not_to_contain_text("of 12")
    assert [path.name for path in folder.glob("[!.]*")] == ["first"]
    page.goto(f"{server}/datasets?run=first&metric=grid_pointing_game")
    chart = page.get_by_role("img", name=re.compile("Means with 95 % intervals"))
    expect(chart).to_be_visible()
    board = cam.Run.open(folder / "first").leaderboard()
    mine = board[(board["method"] == "gradcam") & (board["metric"] == "grid_pointing_game")]
    assert f"Grad-CAM {mine['mean'].iloc[0]:.3g}" in chart.get_attribute("aria-label")
    assert_no_error(page)


def test_cancel_and_resume(page, server, folder):
    begin(page, f"{server}/{SLOW}", "second")
    # The first images are stored: before, nothing could be resumed.
    expect(row(page, "second")).to_contain_text(re.compile(r"[1-9] of 12 images"), timeout=LONG)
    expect(row(page, "second")).to_contain_text("images/s")
    expect(row(page, "second")).to_contain_text("left")
    page.get_by_role("button", name="Cancel").click()
    # Within the images that are measured, and not after them.
    expect(row(page, "second")).to_contain_text("paused, can be resumed", timeout=LONG)
    done = cam.Run.open(folder / "second").done
    assert 0 < done < 12
    page.get_by_role("button", name="Resume").click()
    expect(row(page, "second")).to_have_count(0, timeout=LONG)
    expect(line(page, "second")).to_be_visible()
    text = (folder / "second" / "log.txt").read_text()
    assert "started with 0 of 12" in text and f"started with {done} of 12" in text
    assert_no_error(page)


@pytest.mark.slow
def test_a_run_goes_on_when_the_page_is_closed(chromium, server, folder):
    context = chromium.new_context()
    second_page = context.new_page()
    begin(second_page, f"{server}/{SLOW}", "third")
    expect(row(second_page, "third")).to_contain_text("running")
    context.close()
    until = time.monotonic() + 200
    while time.monotonic() < until:
        if (folder / "third" / "run.json").exists() and cam.Run.open(folder / "third").done == 12:
            break
        time.sleep(0.5)
    assert cam.Run.open(folder / "third").done == 12


@pytest.fixture(scope="module")
def ready(folder) -> str:
    """A run that is there already."""
    model = cam.load_model("efficientnet_lite0")
    cam.evaluate(
        model,
        cam.dataset("photo-grid", size=12),
        ["gradcam", "saliency"],
        ["grid_pointing_game", "sparseness"],
        folder / "ready",
        baselines="centre",
    )
    return "ready"


def test_drill_down_to_an_image_and_open_it_in_explore(page, server, folder, ready):
    page.goto(f"{server}/datasets?run={ready}&view=Gallery&method=saliency")
    run = cam.Run.open(folder / ready)
    worst = run.values("grid_pointing_game")["saliency"].idxmin()
    page.locator("button[data-pick]").filter(has=page.locator("img")).first.click()
    name = f"grid-{worst:05d}"
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page).to_have_url(re.compile(f"item={worst}"))
    page.get_by_text("Open in Explore").click()
    label = run.image(worst).facts["label"]
    heatmap = page.get_by_role("img", name=f"Grad-CAM heatmap for {label}", exact=True)
    expect(heatmap).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Image as PNG").click()
    pixels = np.asarray(Image.open(download.value.path()).convert("RGB"))
    model = cam.load_model("efficientnet_lite0")
    truth = np.asarray(model.crop(cam.dataset("photo-grid", size=12)[worst].image))
    assert np.array_equal(pixels, truth)
    # The address alone shows the same.
    page.reload()
    expect(heatmap).to_be_visible()
    assert_no_error(page)


def test_downloads(page, server, folder, ready, tmp_path):
    page.goto(f"{server}/datasets?run={ready}&view=Export")
    files = {}
    for label in ("Report", "Scores as CSV", "Scores as Parquet"):
        button = page.get_by_test_id("stDownloadButton").get_by_role("button", name=label)
        with page.expect_download() as download:
            button.click()
        files[download.value.suggested_filename] = download.value.path()
    assert sorted(files) == ["ready.csv", "ready.html", "ready.parquet"]
    every = cam.Run.open(folder / ready).scores()
    for table in (
        pandas.read_csv(files["ready.csv"]),
        pandas.read_parquet(files["ready.parquet"]),
    ):
        assert np.allclose(table["value"], every["value"], rtol=1e-6)
        assert table["id"].tolist() == every["id"].tolist()
    report = Path(files["ready.html"]).read_text()
    assert "<h2>Leaderboard</h2>" in report and "http://" not in report.replace(
        "http://www.w3.org", ""
    )


def test_a_phones_width_in_the_dark(chromium, server, ready):
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    for view in VIEWS:
        page.goto(f"{server}/datasets?run={ready}&view={view}")
        expect(page.get_by_role("radio", name=view.replace("+", " "))).to_be_visible()
        expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert_no_error(page)
    context.close()


def test_the_gallery_by_keyboard(page, server, folder, ready):
    page.goto(f"{server}/datasets?run={ready}&view=Gallery&sort=border&method=gradcam")
    table = cam.Run.open(folder / ready).image_measures("gradcam").sort_values("border")
    order = table["item"].tolist()[::-1]
    thumbnails = page.locator(".cam-gallery button")
    expect(thumbnails).to_have_count(12)
    picks = "all => all.map(e => Number(e.dataset.pick))"
    wait_for(lambda: thumbnails.evaluate_all(picks), order)
    # One stop for Tab, and arrows from there.
    assert page.locator(".cam-gallery button[tabindex='0']").count() == 1
    thumbnails.first.focus()
    page.keyboard.press("ArrowRight")
    expect(thumbnails.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(thumbnails.last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"item={order[1]}(&|$)"))
    expect(page.get_by_role("heading", name=f"grid-{order[1]:05d}")).to_be_visible()
    page.go_back()
    expect(thumbnails).to_have_count(12)
    assert_no_error(page)


def test_a_lasso_shows_the_images_inside(page, server, folder, ready):
    page.goto(f"{server}/datasets?run={ready}&view=Embedding&method=saliency")
    plot = page.locator(".js-plotly-plot .nsewdrag").first
    expect(plot).to_be_visible()
    page.wait_for_timeout(1000)
    box = plot.bounding_box()
    # Around everything left of the middle.
    left, right = box["x"] + 2, box["x"] + box["width"] / 2
    top, bottom = box["y"] + 2, box["y"] + box["height"] - 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom), (left, top)):
        page.mouse.move(x, y, steps=8)
    page.mouse.up()
    expect(page.get_by_role("heading", name=re.compile("selected image"))).to_be_visible()
    expect(page.locator(".cam-gallery button").first).to_be_visible()
    positions = cam.Run.open(folder / ready).placement("saliency").items
    picked = {int(each.get_attribute("data-pick")) for each in page.locator(
        ".cam-gallery button").all()}  # fmt: skip
    # The axes have a margin on either side, so the middle is the middle of the positions.
    middle = (positions["x"].min() + positions["x"].max()) / 2
    span = positions["x"].max() - positions["x"].min()
    certain = positions[(positions["x"] - middle).abs() > span * 0.05]
    assert {*certain[certain["x"] < middle]["item"]} <= picked
    assert not picked & {*certain[certain["x"] > middle]["item"]}
    expect(page).to_have_url(re.compile("selected="))
    # Its address alone shows the same, and the selection goes with a click.
    page.reload()
    expect(page.locator(".cam-gallery button")).to_have_count(len(picked))
    page.get_by_role("button", name="Clear the selection").click()
    expect(page.locator(".cam-gallery button")).to_have_count(0)
    assert_no_error(page)


def test_a_cell_of_the_matrix_opens_its_images(page, server, folder, ready):
    page.goto(f"{server}/datasets?run={ready}&view=Confusion+matrix")
    table = cam.Run.open(folder / ready).confusions()
    cell = page.locator(".cam-confusions button").first
    label, predicted = cell.get_attribute("data-pick").split(" → ")
    cell.click()
    expect(page.locator(".cam-gallery button")).to_have_count(int(table.loc[label, predicted]))
    expect(page.get_by_text(f"{label} predicted as {predicted}")).to_be_visible()
    assert_no_error(page)


def test_rename_compare_and_delete(page, server, folder, ready):
    shutil.copytree(folder / ready, folder / "copy")
    page.goto(f"{server}/datasets?run=copy")
    page.get_by_role("button", name="Edit").click()
    name = page.get_by_role("textbox", name="New name")
    name.fill("another")
    name.press("Enter")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(line(page, "another")).to_be_visible()
    assert (folder / "another").exists() and not (folder / "copy").exists()
    expect(page).to_have_url(re.compile("run=another"))
    page.goto(f"{server}/datasets?run=another&view=Compare+runs&before={ready}")
    expect(page.get_by_text("12 images are in both")).to_be_visible()
    page.get_by_role("button", name="Edit").click()
    delete = page.get_by_role("button", name="Delete", exact=True)
    expect(delete).to_be_disabled()
    page.get_by_text("Delete this run and its results for good").click()
    delete.click()
    expect(line(page, ready)).to_be_visible()
    expect(line(page, "another")).to_have_count(0)
    assert not (folder / "another").exists()
    assert_no_error(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_error_of_axe_in_any_view(page, server, ready, scheme):
    page.emulate_media(color_scheme=scheme)
    for view in ("Gallery", "Embedding&selected=0-5", "Confusion+matrix", "Gallery&item=3"):
        page.goto(f"{server}/datasets?run={ready}&view={view}")
        expect(line(page, ready)).to_be_visible()
        wait_until_drawn(page)
        expect_accessible(page, impacts=("serious", "critical"))
