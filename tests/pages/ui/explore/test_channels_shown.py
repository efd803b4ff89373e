"""The page's channels: sum, order, link, and a part that ranks them."""

import re

import pytest
import torch

import cam
from tests.support.dashboard_page import (
    check,
    find,
    list_values,
    open_page,
    read_address,
    read_html,
    read_viewers,
    read_words,
)

LINK = {"image": "coffee", "methods": "gradcam", "channels": "true"}


@pytest.fixture(scope="module")
def products() -> torch.Tensor:
    """Each channel's products with its gradients by autograd, (C, h, w) float64."""
    model = cam.load_model("efficientnet_lite0")
    maps = []
    layer = model.module.get_submodule(model.layers[0])
    hook = layer.register_forward_hook(lambda _m, _i, output: maps.append(output))
    score = model.module(model.prepare(cam.sample("coffee")))[0, 967]
    hook.remove()
    [gradient] = torch.autograd.grad(score, maps)
    return (gradient * maps[0]).detach()[0].double()


def read_channels(app) -> list[int]:
    return [int(number) for number in re.findall(r"<b>Channel (\d+)</b>", read_html(app))]


def test_they_add_up_to_the_score_less_its_bias(products):
    model = cam.load_model("efficientnet_lite0")
    bias = model.module.classifier.bias[967].item()
    [words] = [line for line in read_words(open_page(**LINK)).split("\n") if "channels of" in line]
    numbers = [float(number) for number in re.findall(r"-?\d+\.\d{3}", words)]
    total = float(products.sum())
    assert numbers == pytest.approx([total, total + bias, bias], abs=1e-3)
    assert "the score less its bias" in words


def test_at_a_layer_that_is_not_pooled_no_bias_is_claimed():
    words = read_words(open_page(**LINK, layer="blocks.4"))
    assert "first-order part of the score" in words and "less its bias" not in words


def test_orders(products):
    sums = products.sum((1, 2))
    app = open_page(**LINK)
    assert read_channels(app) == sums.argsort(descending=True)[:12].tolist()
    app = check(app.button_group(key="channels_by").set_value("against").run())
    assert read_channels(app) == sums.argsort()[:12].tolist()
    assert read_address(app)["channels_by"] == ["against"]


def test_a_link_names_a_channel_and_another_layer_forgets_it():
    app = open_page(**LINK, channel="254")
    assert find(app.number_input, "Channel").value == 254
    [_, viewer] = read_viewers(app)
    assert [heatmap["title"] for heatmap in viewer["maps"]] == ["Channel 254 of bn2"]
    app = check(find(app.number_input, "Channel").set_value(7).run())
    assert read_address(app)["channel"] == ["7"]
    app = check(find(app.selectbox, "Layer for Grad-CAM").set_value("blocks.4").run())
    assert "channel" not in read_address(app)
    assert not app.warning


def test_a_channel_that_is_not_there_is_one_sentence():
    app = open_page(**LINK, channel="1280")
    [sentence] = list_values(app.warning)
    assert "no whole number from 0 to 1,279" in sentence


def test_a_selected_part_ranks_them(select, products):
    select(0, 0, 3 / 7, 2 / 7)
    app = open_page(**LINK)
    inside = products[:, :2, :3].sum((1, 2))
    assert read_channels(app) == inside.argsort(descending=True)[:12].tolist()
    assert "12% of the feature grid" in read_words(app)
    [_, viewer] = read_viewers(app)
    [caption] = viewer["maps"][0]["captions"]
    assert caption == f"adds {float(inside.max()):+.3f} to the score within the selected part"
