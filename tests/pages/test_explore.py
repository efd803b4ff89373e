"""Test the page Explore without a browser: choices in, pictures out."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

import cam
from tests.support.checkout import DASHBOARD
from tests.support.dashboard_page import (
    SECONDS,
    check,
    list_values,
    open_page,
    read_address,
    read_maps,
)


def options(app: AppTest, label: str) -> list[str]:
    [box] = [box for box in app.selectbox if box.label == label]
    return box.options


@pytest.mark.parametrize(
    ("sample", "label"),
    [
        ("chelsea", "Egyptian cat"),
        ("coffee", "espresso"),
        ("rocket", "missile"),
        ("motorcycle_left", "moped"),
    ],
)
def test_samples(sample, label):
    app = open_page(image=sample, details="true")
    assert read_maps(app) == [f"Grad-CAM heatmap for {label}", f"Saliency map heatmap for {label}"]
    assert not app.error and not app.warning
    # What the bench of axioms measured stands beside both.
    trusted = [line for line in list_values(app.markdown) if "Trust it for this" in line]
    assert len(trusted) == 2 and all("ignores get nothing" in line for line in trusted)


def test_the_most_probable_classes_come_first_and_all_can_be_had():
    app = open_page(image="chelsea")
    titles = options(app, "Class to explain")
    assert titles[:3] == ["Egyptian cat", "tiger cat", "tabby"]
    assert len(titles) == len(set(titles)) == 1000


def test_classes_of_the_same_name_are_told_apart():
    from cam.pages.ui.widgets.controls import title_classes

    assert title_classes(("crane", "cat", "crane"), 3) == ("crane (0)", "cat", "crane (2)")
    assert title_classes(None, 2) == ("class 0", "class 1")


def test_a_class_is_chosen_and_forgotten_with_the_picture():
    app = open_page(image="chelsea")
    app = check(app.selectbox(key="target").set_value("lynx").run())
    assert read_maps(app)[0] == "Grad-CAM heatmap for lynx"
    app = check(app.button_group(key="sample").set_value("rocket").run())
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


def test_the_state_is_in_the_address():
    app = open_page(
        image="chelsea", target="lynx", layer="blocks.4", methods="gradcam", details="true"
    )
    assert read_maps(app) == ["Grad-CAM heatmap for lynx"]
    [facts] = [line for line in list_values(app.markdown) if "Layer `blocks.4`" in line]
    assert "14 × 14 feature grid" in facts


def test_the_code_of_an_untrained_model_draws_the_same_weights():
    """Twice the same network: the one that the page explains, and the one that its code makes."""
    from cam._output.viewer.payload import ViewerOptions
    from cam.pages.ui.server import resources
    from cam.pages.ui.state.choices import RANDOM, Choices, MethodChoice, ModelChoice
    from cam.pages.ui.widgets.python_code import write_explaining

    model = ModelChoice("torchvision/squeezenet1_1", RANDOM)
    picture = resources.open_sample("rocket")
    choices = Choices(model, (MethodChoice("saliency"),), 3, None)
    code = write_explaining(choices, picture, 0, ViewerOptions())
    namespace: dict = {}
    exec(code.split("crop =")[0], namespace)
    attribution = resources.explain(choices, 0, picture)["saliency"]
    assert np.array_equal(namespace["maps"]["saliency"].heatmap, attribution.heatmap)
    assert code.startswith("import cam\nimport torch\n\ntorch.manual_seed(0)\nmodel")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("model", "torchvision/resnet5", "the model `torchvision/resnet5`, which is not here; did"),
        ("image", "dog", "the image `dog`, which is not here; known: chelsea, coffee"),
        ("image", "chelsae", "the image `chelsae`, which is not here; did you mean 'chelsea'"),
        ("target", "tigre", "the class `tigre`, which is not here; did you mean 'tiger'"),
        ("layer", "block.4", "the layer `block.4`, which is not here; did you mean 'blocks.4'"),
        (
            "methods",
            "gradcan",
            "the method `gradcan`, which is not here; did you mean 'gradcam'",
        ),
    ],
)
def test_a_link_that_asks_for_what_is_not_here(key, value, says):
    app = open_page(**{key: value})
    [sentence] = [warning.value for warning in app.warning]
    assert says in sentence
    # The page itself is there, with its defaults; but a method that the address does not name is
    # not shown in the place of one that it does.
    if key == "methods":
        assert read_maps(app) == []
    else:
        assert read_maps(app)[0].startswith("Grad-CAM heatmap for ")
    # It is said as long as the address asks for it.
    assert list_values(check(app.run()).warning) == [sentence]


def test_what_another_model_lacks_is_not_blamed_on_a_link():
    link = {"model": "torchvision/squeezenet1_1", "untrained": "true", "through": "true"}
    app = open_page(**link, layer="features.3", through_layer="features.6")
    assert not app.warning
    app = check(app.selectbox(key="model").set_value("efficientnet_lite0").run())
    assert read_maps(app)[0] == "Grad-CAM heatmap for Egyptian cat" and not app.warning
    assert app.select_slider(key="through_layer").value in options(app, "Layer for Grad-CAM")


def test_whoever_writes_a_link_writes_no_links_into_the_page():
    app = open_page(target="`[Log in](https://evil.example) ``" + 900 * "a")
    [sentence] = [warning.value for warning in app.warning]
    parts = sentence.split("`")
    assert len(parts) == 3 and parts[1].startswith("'[Log in](https://evil.example) ''aaa")
    assert len(parts[1]) == 61


def test_a_link_with_several_methods():
    app = AppTest.from_file(DASHBOARD, default_timeout=120)
    app.query_params["methods"] = ["gradcam", "saliency"]
    app = check(app.run())
    assert not app.warning and len(read_maps(app)) == 2


def test_no_method():
    app = open_page(image="chelsea")
    app = check(app.button_group(key="quick").set_value([]).run())
    assert "at least one method" in app.info[0].value
    # None is not the default: a link to it shows none.
    assert read_address(app) == {"image": ["chelsea"], "methods": [""]}
    assert read_maps(open_page(methods="")) == []
    # What the model predicts is there all the same.
    assert any("tiger cat" in option for option in app.button_group(key="prediction").options)


def test_every_layer_that_is_offered_can_be_explained():
    """The first, one in the middle and the last of the list, with no error on the page."""
    app = open_page(image="chelsea", methods="gradcam", details="true")
    layers = options(app, "Layer for Grad-CAM")
    assert "bn2" in layers and len(layers) > 50
    for layer in (layers[0], layers[len(layers) // 2], layers[-1]):
        app = check(app.selectbox(key="layer").set_value(layer).run())
        assert not app.error
        assert any(f"Layer `{layer}`" in markdown.value for markdown in app.markdown)


def test_a_model_that_must_be_downloaded_says_so_without_a_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    app = open_page(model="torchvision/mobilenet_v3_small")
    # The download is tried in the background, and a page with its progress is drawn meanwhile.
    end = time.monotonic() + SECONDS
    while not app.error and time.monotonic() < end:
        time.sleep(0.1)
        app = check(app.run())
    [sentence] = list_values(app.error)
    assert "could not be downloaded" in sentence
    # The way on stands beside it.
    app = check(app.checkbox(key="untrained").check().run())
    assert not app.error
    assert read_maps(app)[0].startswith("Grad-CAM heatmap for ")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def large_png(side: int) -> bytes:
    """A black picture of one bit a pixel: a few kilobytes for a thousand million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


CAT = cam.sample("chelsea")
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6

REFUSED = {
    "a text file": ("notes.png", b"words", "Notes.png is not an image that can be read here"),
    "an empty file": ("empty.png", b"", "is not an image"),
    "a truncated photo": ("half.jpg", encoded(CAT, "JPEG")[:5000], "is damaged or incomplete"),
    "a bomb": ("bomb.png", large_png(30_000), "has 900,000,000 pixels"),
    "a strip": ("strip.png", encoded(Image.new("RGB", (1, 3000)), "PNG"), "so crop it first"),
}
NOTED = {
    "an animation": (
        encoded(CAT, "GIF", save_all=True, append_images=[CAT.rotate(9)]),
        "2 frames; the first one is used",
    ),
    "CMYK": (encoded(CAT.convert("CMYK"), "JPEG"), "CMYK colours were converted to RGB"),
    "16 bits": (
        encoded(Image.fromarray(np.asarray(CAT.convert("L")).astype(np.uint16) * 257), "PNG"),
        "scaled to 8 bits",
    ),
    "transparency": (
        encoded(Image.merge("RGBA", (*CAT.split(), CAT.split()[0])), "PNG"),
        "transparent parts were laid over white",
    ),
    "a palette with transparency": (
        encoded(CAT.quantize(8), "PNG", transparency=0),
        "transparent parts were laid over white",
    ),
    "a sideways photo": (encoded(CAT, "JPEG", exif=SIDEWAYS), "turned upright"),
    "one pixel": (encoded(Image.new("RGB", (1, 1), "red"), "PNG"), "only 1 × 1 pixels"),
}


@pytest.mark.parametrize(("name", "content", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(name, content, says):
    app = open_page(image="rocket")
    app = check(app.file_uploader(key="upload_0").upload(name, content).run())
    [sentence] = list_values(app.error)
    assert says.lower() in sentence.lower() and sentence.endswith(".")
    # The image that was there stays.
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


@pytest.mark.parametrize(("content", "says"), NOTED.values(), ids=NOTED)
def test_what_is_changed_is_told(content, says):
    app = open_page(image="chelsea")
    app = check(app.file_uploader(key="upload_0").upload("cat.png", content).run())
    assert not app.error
    assert len(read_maps(app)) == 2
    [facts] = [markdown.value for markdown in app.markdown if "Your image: " in markdown.value]
    assert says in facts
