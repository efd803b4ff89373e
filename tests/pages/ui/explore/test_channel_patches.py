"""Best patches of a run: which images, and cut where."""

import json
import re

import pytest
import torch

import cam
from cam.pages.ui.explore.channel_patches import MOST_IMAGES, choose_images, locate_patch
from tests.support.dashboard_page import finish, list_values, open_page, read_address

LINK = {"image": "coffee", "methods": "gradcam", "channels": "true", "patches": "true"}


def read_patches(app) -> str:
    """Read the patches as HTML, once the images went through the network."""
    payloads = [json.loads(part.proto.json) for part in finish(app).get("bidi_component")]
    [patches] = [each["html"] for each in payloads if "activation of" in each.get("html", "")]
    return patches


def test_they_are_those_with_the_highest_activation(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_RUNS", str(tmp_path))
    model, data = cam.load_model("efficientnet_lite0"), cam.dataset("photo-grid", size=5)
    cam.evaluate(model, data, ["saliency"], ["sparseness"], tmp_path / "grid")
    maps: list[torch.Tensor] = []
    hook = model.module.get_submodule("blocks.4").register_forward_hook(
        lambda _m, _i, output: maps.append(output)
    )
    with torch.no_grad():
        model.module(model.prepare([item.image for item in data]))
    hook.remove()
    highest = maps[0][:, 7].flatten(1).amax(1)
    app = open_page(**LINK, layer="blocks.4", channel="7")
    patches = read_patches(app)
    order = [int(number) for number in re.findall(r'data-pick="(\d+)"', patches)]
    assert order == highest.argsort(descending=True).tolist()
    figures = re.findall(r'class="cam-figure">([^<]+)<', patches)
    assert float(figures[0]) == pytest.approx(float(highest.max()), abs=0.01)
    assert any("its images went through the network" in text for text in list_values(app.markdown))
    assert "patch_run" not in read_address(app)  # the latest run is the default


@pytest.mark.parametrize(
    ("cell", "grid", "box"),
    [
        (24, (7, 7), (128, 128, 320, 320)),  # the middle, three cells wide
        (0, (7, 7), (0, 0, 192, 192)),  # held within the image
        (48, (7, 7), (256, 256, 448, 448)),
        (0, (112, 112), (0, 0, 64, 64)),  # of a fine grid a seventh
        (5, (2, 3), (0, 0, 448, 448)),  # never larger than the image
    ],
)
def test_a_patch_lies_around_its_cell(cell, grid, box):
    assert locate_patch(cell, grid, (448, 448)) == pytest.approx(box)


@pytest.mark.parametrize("count", [1, 7, 200, 5000])
def test_images_are_spread_over_all_data(count):
    numbers = choose_images(count)
    assert len(numbers) == len(set(numbers)) == min(count, MOST_IMAGES)
    assert numbers[0] == 0 and numbers[-1] == count - 1
