"""The viewer in a real browser, as a file and on pages."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import cam
from cam._output.viewer.payload import ViewerOptions, pack
from cam._output.viewer.standalone import write_page
from cam.polarity import DIVERGING
from tests.support.browser_steps import expect_accessible
from tests.support.viewer_maps import SIZE, make_image, make_maps

READ = """name => {
  const cell = window.camViewer.cells.find((cell) => cell.name === name);
  const { width, height } = cell.top;
  const { data } = cell.top.getContext("2d").getImageData(0, 0, width, height);
  return [width, height, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
}"""
SET = """settings => {
  window.camViewer.set(settings);
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
FRAMES = """async () => {
  const viewer = window.camViewer;
  const times = [];
  for (let frame = 0; frame < 60; frame++) {
    viewer.set({ alpha: frame / 60 });
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    times.push(viewer.milliseconds);
  }
  times.sort((first, second) => first - second);
  return times[30];
}"""


@pytest.fixture
def open_file(page, tmp_path):
    """Open the viewer from a file, without a network."""

    def open_(image=None, maps=None, options=None, **context):
        payload = pack(
            make_image() if image is None else image,
            make_maps() if maps is None else maps,
            "tabby",
            options,
            "cat",
        )
        path = tmp_path / "viewer.html"
        path.write_text(write_page(payload, "Why tabby?"), encoding="utf-8")
        page.context.set_offline(True)
        page.goto(path.as_uri())
        page.locator(".cam-viewer[data-ready]").wait_for()
        return page

    return open_


def read_map(page, name: str) -> np.ndarray:
    """Read what a canvas shows, (H, W, 3) uint8."""
    width, height, text = page.evaluate(READ, name)
    pixels = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)
    assert (pixels[..., 3] == 255).all()
    return pixels[..., :3]


def draw(image: Image.Image, map_, values, signed: bool, **settings) -> np.ndarray:
    """Draw with the library what the browser is to draw, (H, W, 3) uint8."""
    colormap = DIVERGING if signed else settings.pop("colormap")
    settings.pop("colormap", None)
    drawn = cam.overlay(
        image, values, colormap, percentile=map_.percentile, signed=signed, **settings
    )
    return np.asarray(drawn)


def differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second.astype(int)).max(-1)


@pytest.mark.parametrize("side", [SIZE, 144], ids=["same size", "upsampled"])
def test_it_draws_what_the_library_draws(open_file, side):
    image = make_image(side)
    page = open_file(image)
    for fade, threshold, colormap in itertools.product(
        (True, False), (0.0, 0.25), ("inferno", "jet")
    ):
        look = {"alpha": 0.7, "fade": fade, "threshold": threshold, "colormap": colormap}
        page.evaluate(SET, look)
        for map_ in make_maps():
            signed = map_.signed is not None
            values = map_.signed if signed else map_.heatmap
            off = differ(read_map(page, map_.name), draw(image, map_, values, signed, **look))
            if side == SIZE:
                assert off.max() <= 1, (map_.name, look)
                continue
            # Between samples a value of 16 bits may fall on the other side of a colour's edge:
            # then it has the colour beside it, at most 8 of 255 away.
            assert (off > 1).mean() < 0.005, (map_.name, look, (off > 1).mean())
            edge = off if threshold == 0 else off[off < 40]
            assert edge.max() <= 8, (map_.name, look)


@pytest.mark.parametrize("signs", ["for", "both", "against"])
def test_signs_are_those_of_the_library(open_file, signs):
    image = make_image(SIZE)
    page = open_file(image, options=ViewerOptions(0.6, False, 0.0, "viridis", signs))
    for map_ in make_maps():
        drawn = read_map(page, map_.name)
        pixels = np.asarray(image)
        if map_.signed is None and signs == "against":
            expected = pixels
        elif map_.signed is None or signs == "for":
            look = {"alpha": 0.6, "colormap": "viridis"}
            expected = draw(image, map_, map_.heatmap, False, **look)
        else:
            expected = draw(image, map_, map_.signed, True, alpha=0.6)
            if signs == "against":
                expected = np.where((map_.signed < 0)[..., None], expected, pixels)
        assert differ(drawn, expected).max() <= 1, map_.name


def test_what_is_cold_stays_as_photographed(open_file):
    image = make_image(SIZE)
    page = open_file(image)
    [smooth, *_] = make_maps()
    cold = smooth.heatmap < 1e-3
    assert cold.any()
    assert (read_map(page, "smooth")[cold] == np.asarray(image)[cold]).all()


def test_a_frame_takes_less_than_16_ms(open_file):
    page = open_file(make_image(224), make_maps(224)[:1])
    medians = []
    for _ in range(5):  # a busy machine may be slow once
        medians.append(page.evaluate(FRAMES))
        if medians[-1] < 16:
            break
    assert min(medians) < 16, medians


def test_the_file_is_small_and_asks_nobody(open_file, page, tmp_path):
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    open_file(make_image(224), make_maps(224))
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert (tmp_path / "viewer.html").stat().st_size < 1_000_000


def test_png_has_the_size_of_the_crop(open_file):
    image = make_image(144)
    page = open_file(image)
    page.get_by_role("button", name="Zoom in").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Smooth as PNG").click(force=True)
    assert download.value.suggested_filename == "cat.smooth.png"
    saved = Image.open(io.BytesIO(download.value.path().read_bytes()))
    assert saved.size == (144, 144)
    assert (np.asarray(saved.convert("RGB")) == read_map(page, "smooth")).all()


def test_a_large_crop_is_saved_whole(open_file):
    image = make_image(1700)
    smooth, *_ = make_maps()
    page = open_file(image, [smooth])
    assert page.evaluate("window.camViewer.fine.width") == 1600
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Smooth as PNG").click(force=True)
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"))
    look = {"alpha": 0.85, "fade": True, "colormap": "inferno"}
    off = differ(saved, draw(image, smooth, smooth.heatmap, False, **look))
    assert saved.shape == (1700, 1700, 3) and (off > 1).mean() < 0.005 and off.max() <= 8


def stage(page, title: str):
    return page.get_by_role("application", name=title)


def reading(page, title: str):
    return page.locator("figure", has=page.get_by_text(title, exact=True)).locator(".reading")


def transforms(page) -> list[str]:
    return page.locator(".content").evaluate_all("all => all.map((one) => one.style.transform)")


def test_the_value_under_the_pointer(open_file, page):
    page = open_file()
    _, noisy, signed, holes = make_maps()
    box = stage(page, "Noisy").bounding_box()
    for column, row in ((20, 31), (55, 0)):
        page.mouse.move(
            box["x"] + box["width"] * (column + 0.5) / SIZE,
            box["y"] + box["height"] * (row + 0.5) / SIZE,
        )
        page.get_by_text(f"column {column}, row {row}", exact=True).wait_for()
        value = float(reading(page, "Noisy").text_content())
        assert value == pytest.approx(float(noisy.heatmap[row, column]), abs=0.001)
        value = float(reading(page, "Signed").text_content().replace("−", "-"))
        exact = float(signed.signed[row, column] * signed.unit)
        assert value == pytest.approx(exact, rel=0.006, abs=2e-4)
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    expect(reading(page, "Holes")).to_have_text("no value")
    assert np.isnan(holes.heatmap[SIZE // 2, 0])


def test_wheel_and_drag_move_all_maps(open_file):
    page = open_file()
    box = stage(page, "Smooth").bounding_box()
    x, y = box["x"] + box["width"] * 0.26, box["y"] + box["height"] * 0.26
    page.mouse.move(x, y)
    page.mouse.move(x + 1, y)
    before = page.get_by_text("column ").text_content()
    page.mouse.wheel(0, -300)
    page.wait_for_function("window.camViewer.group.state.view.zoom > 1.5")
    page.wait_for_timeout(100)
    # What lies under the pointer stays there.
    page.mouse.move(x + 0.5, y)
    page.wait_for_timeout(100)
    assert page.get_by_text("column ").text_content() == before
    assert len(set(transforms(page))) == 1 and "scale(1)" not in transforms(page)[0]
    zoomed = transforms(page)
    page.mouse.down()
    page.mouse.move(x - 60, y - 20, steps=4)
    page.mouse.up()
    page.wait_for_timeout(100)
    assert transforms(page) != zoomed and len(set(transforms(page))) == 1
    stage(page, "Smooth").focus()
    page.keyboard.press("r")
    page.wait_for_function("window.camViewer.group.state.view.zoom === 1")


def region(page) -> tuple[np.ndarray, list[int] | None]:
    flat, box = page.evaluate(
        "() => { const { mask, box } = window.camViewer.selection.region; return [[...mask], box] }"
    )
    return np.array(flat, bool).reshape(SIZE, SIZE), box


def test_a_box_by_mouse_and_its_share(open_file):
    page = open_file()
    smooth, *_ = make_maps()
    page.get_by_role("button", name="Select a box").click()
    box = stage(page, "Smooth").bounding_box()
    cell = box["width"] / SIZE
    page.mouse.move(box["x"] + 30.5 * cell, box["y"] + 10.5 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 49.5 * cell, box["y"] + 25.5 * cell, steps=5)
    share = page.locator("figure", has=page.get_by_text("Smooth", exact=True)).locator(".share")
    expect(share).to_contain_text("of the evidence")  # while it is drawn
    page.mouse.up()
    mask, sides = region(page)
    assert sides == [30, 10, 50, 26] and mask[10:26, 30:50].all() and mask.sum() == 16 * 20
    exact = smooth.heatmap[10:26, 30:50].sum() / smooth.heatmap.sum()
    expect(share).to_contain_text(f"Selection: {exact:.0%} of the evidence")
    page.get_by_role("button", name="Clear the selection").click()
    assert not region(page)[0].any()


def test_a_box_and_a_stroke_by_keyboard(open_file):
    page = open_file()
    stage(page, "Smooth").focus()
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")  # the cursor appears in the middle
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Enter")
    assert region(page)[1] == [SIZE // 2, SIZE // 2, SIZE // 2 + 4, SIZE // 2 + 2]
    heard = page.locator("[aria-live]")
    expect(heard).to_contain_text(re.compile(r"column 31, row 29\. Selection: .*% of the image"))
    page.keyboard.press("x")
    page.keyboard.press("p")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    mask, sides = region(page)
    assert sides is None and 9 < mask.sum() < 100 and mask[29, 30]
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    assert (region(page)[0] == mask).all()


def test_the_divider_by_mouse_and_keyboard(open_file):
    page = open_file()
    page.get_by_role("button", name="Before and after").click()
    handle = page.get_by_role("slider", name="Divider between image and Smooth")
    handle.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function("window.camViewer.group.state.divider.at === 0.1")
    expect(handle).to_have_attribute("aria-valuenow", "10")
    clips = page.locator("canvas.top").evaluate_all("all => all.map((one) => one.style.clipPath)")
    assert clips[1:] == ["inset(0px 0px 0px 10%)"] * 4
    box = stage(page, "Smooth").bounding_box()
    start = handle.bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, start["y"] + 30, steps=3)
    page.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", "50")


def test_full_screen_by_click_and_keys(open_file):
    page = open_file()
    stage(page, "Smooth").click()
    dialog = page.get_by_role("dialog", name="Enlarged map")
    dialog.get_by_role("application", name="Smooth").wait_for()
    page.keyboard.press("ArrowRight")
    dialog.get_by_role("application", name="Noisy").wait_for()
    page.keyboard.press("PageUp")
    dialog.get_by_role("application", name="Smooth").wait_for()
    assert dialog.get_by_role("slider", name="Opacity").is_visible()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.locator(".grid > figure").count() == 5
    titles = page.locator(".grid strong").all_text_contents()
    assert titles == ["Image", "Smooth", "Noisy", "Signed", "Holes"]


def test_pinch_zooms(chromium, open_file, tmp_path):
    open_file()
    context = chromium.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto((tmp_path / "viewer.html").as_uri())
    page.locator(".cam-viewer[data-ready]").wait_for()
    box = stage(page, "Image").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = context.new_cdp_session(page)

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        points = [] if kind == "touchEnd" else points
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 40)
    for apart in (50, 60, 80):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    page.wait_for_function("window.camViewer.group.state.view.zoom > 1.9")
    zoom = page.evaluate("window.camViewer.group.state.view.zoom")
    assert zoom == pytest.approx(2, rel=0.05)
    # A finger hits 44 pixels, and the page does not scroll sideways.
    sizes = page.locator("button:visible, select:visible").evaluate_all(
        "all => all.map((one) => [one.offsetWidth, one.offsetHeight])"
    )
    assert min(min(size) for size in sizes) >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_to_say(open_file, page, scheme):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    open_file()
    states = [
        lambda: None,
        lambda: page.get_by_role("button", name="Before and after").click(),
        lambda: stage(page, "Signed").press("Enter"),
        lambda: page.keyboard.press("?"),
    ]
    for enter in states:
        enter()
        expect_accessible(page)


def test_the_component_runs_nothing_until_a_selection_ends(serve, page):
    page.goto(serve("tests/support/viewer_page.py"))
    page.locator(".cam-viewer[data-ready]").nth(1).wait_for()
    page.get_by_text("Runs: 1", exact=True).wait_for()
    first = page.locator(".cam-viewer").first
    first.evaluate("one => { one.dataset.mark = 'same' }")
    opacity = first.get_by_role("slider", name="Opacity")
    opacity.focus()
    # Looks and zoom are the same in the second viewer, before the server hears of it.
    box = first.get_by_role("application", name="Smooth").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.move(box["x"] + 51, box["y"] + 50)
    page.mouse.wheel(0, -200)
    expect(page.locator(".zoom").first).not_to_have_text("100%")
    expect(page.locator(".zoom").nth(1)).to_have_text(page.locator(".zoom").first.text_content())
    page.get_by_text("Runs: 1", exact=True).wait_for()
    first.get_by_role("button", name="Reset").click()
    opacity.focus()
    page.keyboard.press("Home")
    page.get_by_text("Runs: 1", exact=True).wait_for()
    second = page.locator(".cam-viewer").nth(1).get_by_role("slider", name="Opacity")
    expect(second).to_have_value("0")
    first.get_by_role("application", name="Smooth").focus()
    for key in ("b", "ArrowRight", "Enter", "Shift+ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.get_by_text("Box: (28, 28, 30, 29), pixels: 2", exact=True).wait_for()
    # The run has neither drawn the viewer anew nor lost what was selected.
    assert page.locator(".cam-viewer[data-mark=same]").count() == 1
    expect(first.locator(".share").nth(1)).to_be_visible()
    # With the click comes what the server has not heard of yet: how the maps are drawn.
    runs = page.get_by_text(re.compile(r"^Runs: \d+$"))
    before = runs.text_content()
    page.get_by_role("button", name="Run again").click()
    expect(runs).not_to_have_text(before)
    page.get_by_text("Box: (28, 28, 30, 29), pixels: 2", exact=True).wait_for()
    expect(opacity).to_have_value("0")
    # Other maps have no selection, and neither have these when they come back.
    for count in (4, 5):
        page.get_by_text("Three maps").click()
        expect(first.locator("figure")).to_have_count(count)
        expect(page.get_by_text("Box:")).to_have_count(0)
        expect(page.locator(".cam-viewer")).to_have_count(2)
    expect(opacity).to_have_value("0")
