"""What people do on the page Explore, in a real Chromium."""

import io
import json
import re
import zipfile
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import cam


def map_of(page: Page, method: str, label: str):
    return page.get_by_alt_text(f"{method} heatmap for {label}", exact=True)


def pixels_of(page: Page, image) -> np.ndarray:
    """The picture behind an image on the page, as the browser gets it."""
    source = image.get_attribute("src")
    response = page.request.get(urljoin(page.url, source))
    assert response.ok
    return np.asarray(Image.open(io.BytesIO(response.body())).convert("RGB")).astype(int)


def choose(page: Page, label: str, option: str) -> None:
    """Pick an option of a select box by typing its name, as a person does."""
    box = page.get_by_role("combobox", name=re.compile(label))
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()


def assert_no_error(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_text("Page not found")).to_have_count(0)


def test_the_cat_is_explained_without_a_click(page, site):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_be_visible()
    expect(page.get_by_text("Predictions")).to_be_visible()
    expect(page.get_by_text("37.7%").first).to_be_visible()
    assert_no_error(page)


# With both methods, as the page has them: alone, Grad-CAM may round differently.
OVERLAY_OF_COFFEE = """
import sys
import cam

model = cam.load_model("efficientnet_lite0")
photo = cam.sample("coffee")
maps = cam.attribute(model, model.prepare(photo), ["gradcam", "saliency"])
cam.overlay(model.crop(photo), maps["gradcam"].heatmap[0], "inferno", 0.5).save(sys.argv[1])
"""


def test_the_picture_on_the_page_is_the_librarys(page, site, tmp_path, run_as_the_server):
    """Not a JPEG of it, not another class, not another crop.

    The library is called in a process that is set as the server's is. The tests' own computes in
    one thread, which sums in another order; the last bit of a value then chooses another of the
    256 colours, and neighbouring colours differ by up to 5.
    """
    page.goto(f"{site}/explore?sample=Coffee")
    picture = map_of(page, "Grad-CAM", "espresso")
    expect(picture).to_be_visible()
    file = tmp_path / "expected.png"
    run_as_the_server("-c", OVERLAY_OF_COFFEE, str(file))
    expected = np.asarray(Image.open(file)).astype(int)
    assert np.abs(pixels_of(page, picture) - expected).max() <= 1


def test_another_class_by_search(page, site):
    page.goto(site)
    before = pixels_of(page, map_of(page, "Grad-CAM", "Egyptian cat"))
    choose(page, "Class to explain", "lynx")
    picture = map_of(page, "Grad-CAM", "lynx")
    expect(picture).to_be_visible()
    assert np.abs(pixels_of(page, picture) - before).max() > 30
    expect(page).to_have_url(re.compile("target=lynx"))


def test_another_class_by_a_click_beside_its_bar(page, site):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    page.get_by_role("button", name="tabby").click()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    # The next photo is not asked about the tabby.
    page.get_by_role("radio", name="Rocket").click()
    expect(map_of(page, "Grad-CAM", "missile")).to_be_visible()


def test_values_under_the_pointer(page, site):
    page.goto(site)
    page.get_by_text("Inspect values").click()
    plot = page.locator(".stPlotlyChart .nsewdrag").first
    expect(plot).to_be_visible()
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(middle[0] + 20, middle[1])
    page.mouse.move(*middle, steps=5)
    label = page.locator(".hoverlayer text").first
    expect(label).to_contain_text("row")
    column, row, value = re.findall(r"[\d.]+", label.text_content())
    model = cam.load_model("efficientnet_lite0")
    attribution = cam.attribute(model, model.prepare(cam.sample("chelsea")), "gradcam")["gradcam"]
    assert 90 < int(column) < 134 and 90 < int(row) < 134
    assert abs(float(attribution.heatmap[0, int(row), int(column)]) - float(value)) < 1e-3


def test_copy_as_python_runs_and_gives_the_picture_on_the_page(
    page, site, tmp_path, run_as_the_server
):
    page.goto(f"{site}/explore?sample=Rocket&target=projectile&layer=blocks.4&opacity=1")
    page.get_by_text("Copy as Python").click()
    code = page.get_by_test_id("stCode").locator("code")
    expect(code).to_contain_text("'inferno', 1.0")
    choose(page, "Colour map", "viridis")
    expect(code).to_contain_text("'viridis', 1.0")
    pixels = pixels_of(page, map_of(page, "Saliency map", "projectile"))
    folder = tmp_path / "saved"
    folder.mkdir()
    run_as_the_server("-c", code.text_content(), folder=folder)
    assert sorted(path.name for path in folder.iterdir()) == ["gradcam.png", "saliency.png"]
    saved = np.asarray(Image.open(folder / "saliency.png").convert("RGB")).astype(int)
    assert np.abs(pixels - saved).max() <= 1


def test_another_layer_and_fewer_methods(page, site):
    page.goto(site)
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_be_visible()
    choose(page, "Layer for Grad-CAM", "blocks.4")
    expect(page.get_by_text("14 × 14 positions")).to_be_visible()
    page.get_by_text("Saliency map", exact=True).first.click()
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_have_count(0)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    expect(page).to_have_url(re.compile(r"layer=blocks\.4"))


def test_opacity_and_colours(page, site):
    page.goto(f"{site}/explore?opacity=1")
    opaque = pixels_of(page, map_of(page, "Grad-CAM", "Egyptian cat"))
    source = map_of(page, "Grad-CAM", "Egyptian cat").get_attribute("src")
    slider = page.get_by_role("slider", name="Opacity of the heatmap")
    slider.focus()
    slider.press("Home")
    expect(page).to_have_url(re.compile(r"opacity=0(\.0)?\b"))
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).not_to_have_attribute("src", source)
    clear = pixels_of(page, map_of(page, "Grad-CAM", "Egyptian cat"))
    model = cam.load_model("efficientnet_lite0")
    photo = np.asarray(model.crop(cam.sample("chelsea"))).astype(int)
    assert np.abs(clear - photo).max() <= 1, "without opacity it is the photo"
    assert np.abs(opaque - photo).max() > 100
    choose(page, "Colour map", "viridis")
    expect(page).to_have_url(re.compile("colormap=viridis"))


def a_photo(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    cam.sample("motorcycle_left").save(buffer, format=kind)
    return buffer.getvalue()


def upload(page: Page, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    page.locator('input[type="file"]').set_input_files(
        {"name": name, "mimeType": kind, "buffer": content}
    )


def download(page: Page, label: str):
    return page.get_by_test_id("stDownloadButton").get_by_role("button", name=label).first


def test_upload_and_download(page, site):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    upload(page, "my bike.jpg", a_photo())
    expect(map_of(page, "Grad-CAM", "moped")).to_be_visible()

    with page.expect_download() as picture:
        download(page, "PNG").click()
    assert picture.value.suggested_filename == "my bike.gradcam.png"
    with Image.open(picture.value.path()) as saved:
        saved.load()
        assert saved.format == "PNG" and min(saved.size) >= 224

    with page.expect_download() as arrays:
        download(page, "NPZ").click()
    assert arrays.value.suggested_filename == "my bike.gradcam.npz"
    with np.load(arrays.value.path()) as saved:
        assert saved["heatmap"].shape == (224, 224) and saved["raw"].shape == (7, 7)
        model = cam.load_model("efficientnet_lite0")
        batch = model.prepare(Image.open(io.BytesIO(a_photo())))
        expected = cam.attribute(model, batch, "gradcam")["gradcam"]
        assert np.abs(saved["heatmap"] - expected.heatmap[0].numpy()).max() < 1e-5

    with page.expect_download() as everything:
        download(page, "All as ZIP").click()
    assert everything.value.suggested_filename == "my bike.zip"
    with zipfile.ZipFile(everything.value.path()) as archive:
        assert sorted(archive.namelist()) == [
            "gradcam.npz", "gradcam.png", "record.json", "saliency.npz", "saliency.png",
        ]  # fmt: skip
        assert archive.read("gradcam.png") == Path(picture.value.path()).read_bytes()
        facts = json.loads(archive.read("record.json"))
    assert [record["method"] for record in facts] == ["gradcam", "saliency"]
    assert {record["target"]["label"] for record in facts} == {"moped"}

    # It goes along to the other pages, and makes way for a sample.
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Anatomy").click()
    expect(page.get_by_role("heading", name="Anatomy", exact=True)).to_be_visible()
    expect(page.get_by_text("moped").first).to_be_visible()
    page.get_by_role("radio", name="Cat").click()
    expect(page.get_by_text("moped")).to_have_count(0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.png", b"these are words", "is not a picture that can be read here"),
        ("half.jpg", a_photo()[:9000], "is damaged or incomplete"),
    ],
    ids=["a text file", "a truncated photo"],
)
def test_a_wrong_file_gets_one_sentence_and_the_page_goes_on(page, site, name, content, says):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    upload(page, name, content)
    expect(page.get_by_text(says)).to_be_visible()
    assert_no_error(page)
    upload(page, "good.jpg", a_photo())
    expect(map_of(page, "Grad-CAM", "moped")).to_be_visible()
    expect(page.get_by_text(says)).to_have_count(0)


def test_an_untrained_model_by_search(page, site):
    page.goto(f"{site}/explore?methods=Grad-CAM")
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    page.goto(f"{site}/explore?model=torchvision%2Fresnet18&untrained=true")
    expect(page.get_by_text("layer4").first).to_be_attached()
    expect(page.get_by_alt_text(re.compile("Grad-CAM heatmap for"))).to_be_visible()
    assert_no_error(page)


def test_a_transformer_is_explained_by_its_tokens(page, site):
    page.goto(f"{site}/explore?model=torchvision%2Fvit_b_32&untrained=true")
    expect(page.get_by_alt_text(re.compile("Saliency map heatmap for"))).to_be_visible()
    expect(page.get_by_alt_text(re.compile("Grad-CAM heatmap for"))).to_be_visible()
    assert_no_error(page)


LINK = "explore?sample=Coffee&target=cup&opacity=0.7&colormap=turbo"


@pytest.mark.parametrize("path", ["", LINK, f"?{LINK.split('?')[1]}"])
def test_cold_links(page, serve, path):
    """The first request that a server ever gets is a link into the middle."""
    site = serve()
    page.goto(f"{site}/{path}")
    expect(page).to_have_title("Explore · CAM")
    label = "cup" if "target" in path else "Egyptian cat"
    expect(map_of(page, "Grad-CAM", label)).to_be_visible()
    assert_no_error(page)
    if "target" in path:
        expect(page).to_have_url(re.compile("target=cup"))
        expect(page.get_by_text("0.70", exact=True)).to_be_visible()
    page.reload()
    expect(map_of(page, "Grad-CAM", label)).to_be_visible()
    assert_no_error(page)


def test_a_link_with_nonsense_in_it(page, site):
    page.goto(f"{site}/explore?sample=Nobody&target=unicorn&layer=nowhere&opacity=7&methods=magic")
    expect(page.get_by_alt_text(re.compile("heatmap for Egyptian cat")).first).to_be_visible()
    expect(page.get_by_text("the class unicorn, which is not here")).to_be_visible()
    assert_no_error(page)


def test_two_visitors_get_their_own_answers(chromium, site):
    first, second = (chromium.new_context(viewport={"width": 1280, "height": 1400}) for _ in "ab")
    mine, other = first.new_page(), second.new_page()
    for page in (mine, other):
        page.set_default_timeout(60_000)
    mine.goto(f"{site}/explore?sample=Coffee")
    other.goto(f"{site}/explore?sample=Rocket")
    expect(map_of(mine, "Grad-CAM", "espresso")).to_be_visible()
    expect(map_of(other, "Grad-CAM", "missile")).to_be_visible()
    mine.reload()
    expect(map_of(mine, "Grad-CAM", "espresso")).to_be_visible()
    first.close()
    second.close()
