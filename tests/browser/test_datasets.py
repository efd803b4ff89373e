"""Test the page Datasets in a real Chromium: start, watch, read runs."""

import io
import re
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import cam
from tests.browser.conftest import _Servers

METHODS = "run_methods=Grad-CAM&run_methods=Saliency+map"
LOCATED = "run_metrics=Grid+pointing+game&run_metrics=Sparseness+%28Gini+index%29"
QUICK = f"datasets?start=true&size=12&{METHODS}&{LOCATED}"
# With a metric that runs the model: long enough to look and to cancel.
SLOW = f"datasets?start=true&size=12&{METHODS}&centre=false&run_metrics=Deletion"

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


def assert_no_error(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_start_watch_and_read(page, server, folder):
    page.goto(f"{server}/datasets")
    expect(page.get_by_role("button", name="Start the run")).to_be_visible()
    begin(page, f"{server}/{QUICK}", "first")
    expect(row(page, "first")).to_contain_text("finished", timeout=LONG)
    expect(row(page, "first")).to_contain_text("12 of 12 images")
    assert [path.name for path in folder.glob("[!.]*")] == ["first"]
    page.goto(f"{server}/datasets?run=first&metric=Grid+pointing+game")
    chart = page.get_by_role("img", name=re.compile("Means with 95 % intervals"))
    expect(chart).to_be_visible()
    board = cam.Run.open(folder / "first").leaderboard()
    mine = board[(board["method"] == "gradcam") & (board["metric"] == "grid_pointing_game")]
    assert f"Grad-CAM {mine['mean'].iloc[0]:.3g}" in chart.get_attribute("aria-label")
    assert_no_error(page)


def test_cancel_and_resume(page, server, folder):
    begin(page, f"{server}/{SLOW}", "second")
    expect(row(page, "second")).to_contain_text("images/s", timeout=LONG)
    expect(row(page, "second")).to_contain_text("left")
    page.get_by_role("button", name="Cancel").click()
    # Within the images that are measured, and not after them.
    expect(row(page, "second")).to_contain_text("stopped; it goes on where it was", timeout=LONG)
    done = cam.Run.open(folder / "second").done
    assert 0 < done < 12
    page.get_by_role("button", name="Resume").click()
    expect(row(page, "second")).to_contain_text("finished", timeout=LONG)
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
    page.goto(f"{server}/datasets?run={ready}&view=Images&method=Saliency+map")
    run = cam.Run.open(folder / ready)
    worst = run.values("grid_pointing_game")["saliency"].idxmin()
    page.get_by_role("button", name=re.compile("^grid-")).first.click()
    name = f"grid-{worst:05d}"
    expect(page.get_by_alt_text(f"Saliency map of {name}")).to_be_visible()
    expect(page).to_have_url(re.compile(f"item={worst}"))
    page.get_by_text("Open in Explore").click()
    label = run.image(worst).facts["label"]
    expect(page.get_by_alt_text(f"Grad-CAM heatmap for {label}", exact=True)).to_be_visible()
    crop = page.get_by_alt_text(re.compile("The part of .* that it is shown"))
    response = page.request.get(page.evaluate("e => e.src", crop.element_handle()))
    pixels = np.asarray(Image.open(io.BytesIO(response.body())).convert("RGB"))
    model = cam.load_model("efficientnet_lite0")
    truth = np.asarray(model.crop(cam.dataset("photo-grid", size=12)[worst].image))
    assert np.array_equal(pixels, truth)
    # The address alone shows the same.
    page.reload()
    expect(page.get_by_alt_text(f"Grad-CAM heatmap for {label}", exact=True)).to_be_visible()
    assert_no_error(page)


def test_downloads(page, server, folder, ready, tmp_path):
    page.goto(f"{server}/datasets?run={ready}&view=Take+it+home")
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
    for view in ("Leaderboard", "Images", "Where+it+looks", "Against+another+run", "Take+it+home"):
        page.goto(f"{server}/datasets?run={ready}&view={view}")
        expect(page.get_by_role("radio", name=view.replace("+", " "))).to_be_visible()
        expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
        assert_no_error(page)
    context.close()
