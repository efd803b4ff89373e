"""The widget shows all maps, and what is selected comes back."""

import base64
import json

import numpy as np
import pytest
import torch

import cam
from tests.support.networks import Pooled, pictures


@pytest.fixture(scope="module")
def maps() -> dict[str, cam.Attribution]:
    return cam.attribute(Pooled(), pictures(), ["gradcam", "input_x_gradient"])


def test_it_holds_one_image_with_all_maps(maps):
    viewer = cam.widget(maps, index=-1, alpha=0.5)
    last = len(pictures()) - 1
    assert viewer.data["title"] == f"Image {last}"
    assert [each["name"] for each in viewer.data["maps"]] == ["gradcam", "input_x_gradient"]
    assert viewer.data["options"]["alpha"] == 0.5
    json.dumps(viewer.data)
    alone = cam.widget(maps["gradcam"])
    assert [each["name"] for each in alone.data["maps"]] == ["gradcam"]


def test_a_selection_comes_back(maps):
    viewer, calls = cam.widget(maps), []
    viewer.observe(calls.append, "region")
    assert viewer.selection is None
    width, height = viewer.data["grid"]
    mask = np.zeros((height, width), bool)
    mask[1:3, 2:5] = True
    viewer.region = {
        "digest": viewer.data["digest"],
        "mask": base64.b64encode(np.packbits(mask).tobytes()).decode(),
        "box": [2, 1, 5, 3],
        "active": "gradcam",
        "shares": {"gradcam": {"supporting": 0.25, "opposing": None}},
    }
    assert len(calls) == 1
    assert (viewer.selection.mask == mask).all()
    assert viewer.selection.shares == {"gradcam": (0.25, None)}
    viewer.region = {}
    assert viewer.selection is None


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda maps: cam.widget(maps, 99), "there is no image 99"),
        (lambda maps: cam.widget(maps, opacity=1), "no option opacity; it has alpha, fade"),
        (lambda maps: cam.widget(maps, alpha=2), "the opacity must lie between 0 and 1"),
        (lambda maps: cam.widget(maps, colormap="pink"), "pink"),
        (lambda _: cam.widget({}), "no images to show"),
        (lambda _: cam.widget(torch.zeros(1)), "a result of cam.attribute"),
    ],
)
def test_what_it_cannot_show_is_one_sentence(maps, call, sentence):
    with pytest.raises(cam.InputError, match=sentence):
        call(maps)
