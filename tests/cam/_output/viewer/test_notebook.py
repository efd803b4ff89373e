"""Attributions in a notebook: which image, which maps, which sentences."""

import base64
import html
import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import cam
from cam._output.viewer import notebook
from tests.support.networks import Pooled

LABELS = ("square", "circle", "cross", "line", "dot", "arrow")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def model() -> cam.Model:
    steps = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return cam.Model(Pooled(), transforms.Compose(steps), LABELS)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 44, 3), dtype=np.uint8)
    return [Image.fromarray(each) for each in pixels]


def read_cells(text: str) -> list[dict]:
    """Read the viewers' data out of a cell's HTML, and see that nothing is fetched."""
    page = html.unescape(text.split('srcdoc="')[1].split('"></iframe>')[0])
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    data = json.loads(page.split('id="payloads">')[1].split("</script>")[0])
    return [{**data["shared"], **rest} for rest in data["each"]]


def read_image(cell: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(cell["crop"].split(",")[1]))))


def test_each_image_is_the_one_that_was_prepared(model, photos):
    maps = cam.attribute(model, model.prepare(photos), ["gradcam", "saliency"], [0, 1, 0])
    cells = read_cells(maps._repr_html_())
    for cell, photo, label in zip(cells, photos, ("square", "circle", "square"), strict=True):
        assert (read_image(cell) == np.asarray(photo)).all()
        assert cell["label"] == label
        assert [map_["name"] for map_ in cell["maps"]] == ["gradcam", "saliency"]
    alone = read_cells(maps["saliency"]._repr_html_())
    assert [map_["name"] for map_ in alone[0]["maps"]] == ["saliency"]
    assert alone[0]["maps"][0]["heatmap"] == cells[0]["maps"][1]["heatmap"]


def test_maps_of_one_method_are_told_apart_by_their_parameters(model, photos):
    methods = [cam.method("smoothgrad", samples=2), cam.method("smoothgrad", samples=3)]
    [cell] = read_cells(cam.attribute(model, model.prepare(photos[0]), methods)._repr_html_())
    titles = [map_["title"] for map_ in cell["maps"]]
    assert titles == ["SmoothGrad (samples=2)", "SmoothGrad (samples=3)"]


def test_an_input_of_unknown_normalisation_is_stretched_and_says_so(model, photos):
    batch = model.prepare(photos[:1])
    [cell] = read_cells(cam.attribute(model.module, batch, "saliency")._repr_html_())
    levels = read_image(cell)
    assert levels.min() == 0 and levels.max() == 255
    assert any("stretched" in caption for caption in cell["captions"])
    assert cell["label"].startswith("class ")


def test_a_batch_that_was_changed_is_not_shown(model, photos):
    batch = model.prepare(photos[:1])
    maps = cam.attribute(model, batch, "saliency")
    batch.mul_(0)
    [cell] = read_cells(maps._repr_html_())
    assert len(np.unique(read_image(cell))) == 1
    assert any("changed since" in caption for caption in cell["captions"])


def test_large_batches_say_what_is_left_out(model, photos, monkeypatch):
    maps = cam.attribute(model, model.prepare(photos * 4), "saliency")
    assert len(read_cells(maps._repr_html_())) == notebook.MOST_IMAGES
    assert f"The first {notebook.MOST_IMAGES} of 12 images" in maps._repr_html_()
    monkeypatch.setattr(notebook, "MOST_BYTES", 10)
    assert len(read_cells(maps._repr_html_())) == 1


def test_a_pickled_map_leaves_its_images_behind(model, photos):
    maps = cam.attribute(model, model.prepare(photos), "saliency")
    copied = pickle.loads(pickle.dumps(maps))
    assert torch.equal(copied["saliency"].heatmap, maps["saliency"].heatmap)
    assert copied._repr_html_() is None and copied["saliency"]._repr_html_() is None
