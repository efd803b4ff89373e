"""What people do on the page Explore, in a real Chromium."""

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import cam
from tests.browser.conftest import PATIENCE
from tests.support.browser_steps import read_address, wait_for, wait_until_drawn

OPACITY = 0.85  # unless the visitor chooses another one


def map_of(page: Page, method: str, label: str):
    """Find a map in a viewer that is drawn."""
    drawn = page.locator(".cam-viewer[data-ready=true]:not(.arriving)")
    return drawn.get_by_role("img", name=f"{method} heatmap for {label}", exact=True)


def pixels_of(canvas) -> np.ndarray:
    """Read a canvas as the browser has it, (H, W, 3) int."""
    expect(canvas).to_be_visible()
    text = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    return read_pixels(base64.b64decode(text.partition(",")[2]))


def read_pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def assert_drawn(pixels: np.ndarray, expected: np.ndarray) -> None:
    """Test that a picture is the library's.

    Between the samples of a map, a value that went to the browser in 16 bits may fall on the other
    side of a colour's edge: it then has the colour beside it, at most 8 of 255 away. Other maps are
    off by more than 30 almost everywhere.
    """
    assert pixels.shape == expected.shape
    off = np.abs(pixels - expected).max(-1)
    assert (off > 1).mean() < 0.005 and off.max() <= 8, ((off > 1).mean(), off.max())


def choose(page: Page, label: str, option: str) -> None:
    """Pick an option of a select box by typing its name, as a person does."""
    box = page.get_by_role("combobox", name=re.compile(label))
    box.click()
    box.fill(option)
    page.get_by_role("option", name=option, exact=True).click()


def assert_no_error(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_text("Page not found")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_cat_is_explained_without_a_click(page, site):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_be_visible()
    expect(page.get_by_role("radio", name="Egyptian cat 37.7%")).to_be_checked()
    expect(page.get_by_text("2 methods · one forward and one backward pass")).to_be_visible()
    assert_no_error(page)


OVERLAYS_OF_COFFEE = """
import cam

model = cam.load_model("efficientnet_lite0")
photo = cam.sample("coffee")
for name, made in cam.attribute(model, model.prepare(photo), ["gradcam", "saliency"]).items():
    percentile = cam.methods()[name].percentile
    drawn = cam.overlay(model.crop(photo), made.heatmap[0], "inferno", 0.85, percentile, fade=True)
    drawn.save(f"{name}.png")
"""


def test_the_maps_on_the_page_are_the_librarys(page, site, tmp_path, run_as_the_server):
    """Not JPEGs of them, not another class, not another crop.

    The library is called in a process that is set as the server's is. The tests' own computes in
    one thread, which sums in another order; the last bit of a value then chooses another of the
    256 colours, and neighbouring colours differ by up to 5.
    """
    page.goto(f"{site}/explore?image=coffee")
    run_as_the_server("-c", OVERLAYS_OF_COFFEE, folder=tmp_path)
    for name, title in (("gradcam", "Grad-CAM"), ("saliency", "Saliency map")):
        drawn = pixels_of(map_of(page, title, "espresso"))
        assert_drawn(drawn, read_pixels((tmp_path / f"{name}.png").read_bytes()))


def test_another_class_by_search(page, site):
    page.goto(site)
    before = pixels_of(map_of(page, "Grad-CAM", "Egyptian cat"))
    choose(page, "Class to explain", "lynx")
    assert np.abs(pixels_of(map_of(page, "Grad-CAM", "lynx")) - before).max() > 30
    expect(page).to_have_url(re.compile("target=lynx"))


def test_another_class_by_a_click_on_its_prediction(page, site):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    page.get_by_role("radio", name=re.compile("^tabby")).click()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    # The next photo is not asked about the tabby.
    page.get_by_role("radio", name="Rocket").click()
    expect(map_of(page, "Grad-CAM", "missile")).to_be_visible()
    assert read_address(page) == {"image": ["rocket"]}


def test_copy_as_python_runs_and_gives_the_maps_on_the_page(
    page, site, tmp_path, run_as_the_server
):
    page.goto(f"{site}/explore?image=rocket&target=projectile&layer=blocks.4&opacity=1&code=true")
    code = page.get_by_test_id("stCode").locator("code")
    expect(code).to_contain_text("'inferno'")
    expect(code).to_contain_text("1.0, percentile")
    pixels_of(map_of(page, "Saliency map", "projectile"))
    page.get_by_role("combobox", name="Colour map").select_option("viridis")
    # The server hears of it with the next click beside the viewer.
    page.get_by_role("heading", name="Explore", exact=True).click()
    expect(code).to_contain_text("'viridis'")
    run_as_the_server("-c", code.text_content(), folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["gradcam.png", "saliency.png"]
    for name, title in (("gradcam", "Grad-CAM"), ("saliency", "Saliency map")):
        drawn = pixels_of(map_of(page, title, "projectile"))
        assert_drawn(drawn, read_pixels((tmp_path / f"{name}.png").read_bytes()))


def test_another_layer_and_fewer_methods(page, site):
    page.goto(f"{site}/explore?details=true")
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_be_visible()
    expect(page.get_by_text("a 7 × 7 feature grid")).to_be_visible()
    choose(page, "Layer for Grad-CAM", "blocks.4")
    expect(page.get_by_text("a 14 × 14 feature grid")).to_be_visible()
    page.get_by_role("button", name="Saliency map", exact=True).click()
    expect(map_of(page, "Saliency map", "Egyptian cat")).to_have_count(0)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    expect(page).to_have_url(re.compile(r"layer=blocks\.4&methods=gradcam$"))


def test_opacity_and_colours_are_entries_of_the_history(page, site, bundled):
    page.goto(f"{site}/explore?opacity=1&image=coffee&methods=gradcam&code=true")
    heatmap, code = map_of(page, "Grad-CAM", "espresso"), page.get_by_test_id("stCode")
    opaque = pixels_of(heatmap)
    photo = np.asarray(bundled.crop(cam.sample("coffee"))).astype(int)
    assert np.abs(opaque - photo).max() > 100
    slider = page.get_by_role("slider", name="Opacity")
    colours = page.get_by_role("combobox", name="Colour map")
    # Before and after the server has heard of it.
    for click in (False, True):
        wait_until_drawn(page)
        slider.focus()
        slider.press("Home")
        wait_for(lambda: read_address(page).get("opacity"), ["0"])
        wait_for(lambda: int(np.abs(pixels_of(heatmap) - photo).max()), 0)
        if click:
            page.get_by_role("heading", name="Explore", exact=True).click()
            expect(code).to_contain_text("0.0, percentile")
            colours.select_option("viridis")
            wait_for(lambda: read_address(page).get("colormap"), ["viridis"])
            page.go_back()
            expect(colours).to_have_value("inferno")
            expect(slider).to_have_value("0")
        page.go_back()
        expect(slider).to_have_value("100")
        wait_for(lambda: int(np.abs(pixels_of(heatmap) - opaque).max()), 0)
        expect(code).to_contain_text("1.0, percentile")
        # A click elsewhere does not bring back what was taken back.
        page.get_by_role("heading", name="Explore", exact=True).click()
        wait_until_drawn(page)
        assert read_address(page)["opacity"] == ["1"]
    # The same once more, which the server has heard of before.
    slider.focus()
    slider.press("Home")
    page.get_by_role("button", name="LayerCAM", exact=True).click()
    expect(map_of(page, "LayerCAM", "espresso")).to_be_visible()
    expect(code).to_contain_text("0.0, percentile")
    expect(slider).to_have_value("0")
    assert read_address(page)["opacity"] == ["0"]


def a_photo(kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    cam.sample("motorcycle_left").save(buffer, format=kind)
    return buffer.getvalue()


def upload(page: Page, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    page.locator('[class*="st-key-upload_"] input[type="file"]').set_input_files(
        {"name": name, "mimeType": kind, "buffer": content}
    )


def download(page: Page, label: str) -> tuple[str, bytes]:
    """Click on a download; returns the file's name and content."""
    button = page.get_by_test_id("stDownloadButton").get_by_role("button", name=label)
    with page.expect_download() as file:
        button.click()
    return file.value.suggested_filename, file.value.path().read_bytes()


def test_upload_and_download(page, site, bundled):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    # What the model sees of it has the size of its maps, so that a pixel is a value.
    photo = cam.sample("motorcycle_left").crop((120, 0, 620, 500)).resize((256, 256))
    buffer = io.BytesIO()
    photo.save(buffer, format="PNG")
    upload(page, "my bike.png", buffer.getvalue(), "image/png")
    drawn = pixels_of(map_of(page, "Grad-CAM", "moped"))
    made = cam.attribute(bundled, bundled.prepare(photo), ["gradcam", "saliency"])
    truth = made["gradcam"].heatmap[0]

    name, content = download(page, "All as ZIP")
    assert name == "my bike.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [
            "gradcam.npz", "gradcam.png", "record.json", "saliency.npz", "saliency.png",
        ]  # fmt: skip
        with np.load(io.BytesIO(archive.read("gradcam.npz"))) as saved:
            heatmap = saved["heatmap"]
            assert heatmap.shape == (224, 224) and saved["raw"].shape == (7, 7)
        facts = archive.read("record.json")
        picture = read_pixels(archive.read("gradcam.png"))
    assert np.abs(heatmap - truth.numpy()).max() < 1e-5
    # The same values are drawn by the library and in the browser.
    overlay = cam.overlay(bundled.crop(photo), heatmap, "inferno", OPACITY, fade=True)
    assert drawn.shape == picture.shape == (224, 224, 3)
    assert np.abs(drawn - np.asarray(overlay)).max() <= 1
    assert np.abs(picture - drawn).max() <= 1

    records = json.loads(facts)
    assert [record["method"] for record in records] == ["gradcam", "saliency"]
    assert {record["target"]["label"] for record in records} == {"moped"}
    assert download(page, "JSON") == ("my bike.json", facts)

    # It goes along to the other pages, and makes way for a sample.
    page.get_by_test_id("stMain").get_by_role("link", name="Anatomy").click()
    expect(page.get_by_role("heading", name="Anatomy", exact=True)).to_be_visible()
    expect(page.get_by_text("moped").first).to_be_visible()
    page.get_by_role("radio", name="Cat", exact=True).click()
    expect(page.get_by_text("Egyptian cat").first).to_be_visible()
    expect(page.get_by_test_id("stMain").get_by_text("moped")).to_have_count(0)


def test_a_view_saved_as_html_opens_offline(page, site, chromium, tmp_path):
    """The maps that the page shows, as it draws them, with the viewer at work."""
    page.goto(f"{site}/explore?image=coffee&opacity=0.6&colormap=turbo")
    before = pixels_of(map_of(page, "Saliency map", "espresso"))
    name, content = download(page, "Save this view as HTML")
    assert name == "coffee.html" and len(content) < 1_000_000
    file = tmp_path / name
    file.write_bytes(content)
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_offline(True)
    reader, requests = context.new_page(), []
    reader.set_default_timeout(PATIENCE)
    reader.on("request", lambda request: requests.append(request.url))
    reader.goto(file.as_uri())
    saved = map_of(reader, "Saliency map", "espresso")
    assert (pixels_of(saved) == before).all()
    expect(reader.get_by_role("combobox", name="Colour map")).to_have_value("turbo")
    slider = reader.get_by_role("slider", name="Opacity")
    expect(slider).to_have_value("60")
    slider.press("Home")
    photo = pixels_of(reader.get_by_role("img", name="Image", exact=True))
    wait_for(lambda: bool((pixels_of(saved) == photo).all()), True)
    assert (photo != before).any()
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    context.close()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.png", b"these are words", "that can be read here"),
        ("half.jpg", a_photo()[:9000], "is damaged or incomplete"),
    ],
    ids=["a text file", "a truncated photo"],
)
def test_a_wrong_file_gets_a_sentence_and_the_page_goes_on(page, site, name, content, says):
    page.goto(site)
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    upload(page, name, content)
    expect(page.get_by_test_id("stAlert").filter(has_text=says)).to_be_visible()
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    assert_no_error(page)
    upload(page, "good.jpg", a_photo())
    expect(map_of(page, "Grad-CAM", "moped")).to_be_visible()
    expect(page.get_by_text(says)).to_have_count(0)


@pytest.mark.parametrize("model", ["resnet18", "vit_b_32"])
def test_a_random_network_is_explained(page, site, model):
    """By its layers, or by its tokens."""
    page.goto(f"{site}/explore?model=torchvision%2F{model}&untrained=true")
    expect(page.get_by_role("img", name=re.compile("^Saliency map heatmap for"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Grad-CAM heatmap for"))).to_be_visible()
    assert_no_error(page)


LINK = "explore?image=coffee&target=cup&opacity=0.7&colormap=turbo"


@pytest.mark.parametrize("path", ["", LINK, f"?{LINK.split('?')[1]}"])
def test_cold_links(page, serve, path):
    """The first request that a server ever gets is a link into the middle."""
    site = serve()
    page.goto(f"{site}/{path}")
    expect(page).to_have_title("Explore · cam")
    label = "cup" if "target" in path else "Egyptian cat"
    expect(map_of(page, "Grad-CAM", label)).to_be_visible()
    assert_no_error(page)
    if "target" in path:
        expect(page).to_have_url(re.compile("target=cup"))
        expect(page.get_by_role("slider", name="Opacity")).to_have_value("70")
        expect(page.get_by_role("combobox", name="Colour map")).to_have_value("turbo")
    page.reload()
    expect(map_of(page, "Grad-CAM", label)).to_be_visible()
    assert_no_error(page)


def test_a_link_with_nonsense_in_it(page, site):
    page.goto(f"{site}/explore?image=nobody&target=unicorn&layer=nowhere&opacity=7&methods=magic")
    expect(page.get_by_text("the class unicorn, which is not here")).to_be_visible()
    expect(page.get_by_text("the image nobody, which is not here")).to_be_visible()
    page.get_by_role("button", name="Grad-CAM", exact=True).click()
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    assert_no_error(page)


def test_two_visitors_get_their_own_answers(chromium, site):
    first, second = (chromium.new_context(viewport={"width": 1280, "height": 1400}) for _ in "ab")
    mine, other = first.new_page(), second.new_page()
    for page in (mine, other):
        page.set_default_timeout(PATIENCE)
    mine.goto(f"{site}/explore?image=coffee")
    other.goto(f"{site}/explore?image=rocket")
    expect(map_of(mine, "Grad-CAM", "espresso")).to_be_visible()
    expect(map_of(other, "Grad-CAM", "missile")).to_be_visible()
    mine.reload()
    expect(map_of(mine, "Grad-CAM", "espresso")).to_be_visible()
    first.close()
    second.close()
