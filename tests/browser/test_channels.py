"""Channels in a real Chromium: a brush ranks them."""

import re

import numpy as np
import torch
from playwright.sync_api import Page, expect

import cam
from tests.support.browser_steps import read_address, wait_for, wait_until_drawn

LINK = "explore?image=coffee&methods=gradcam&channels=true"


def list_channels(page: Page) -> list[int]:
    words = page.locator("figcaption", has_text="Channel").all_inner_texts()
    return [int(number) for text in words for number in re.findall(r"^Channel (\d+)\n", text)]


def make_products() -> torch.Tensor:
    """Each channel's products with its gradients, (C, h, w), by autograd."""
    model, maps = cam.load_model("efficientnet_lite0"), []
    layer = model.module.get_submodule(model.layers[0])
    hook = layer.register_forward_hook(lambda _m, _i, output: maps.append(output))
    score = model.module(model.prepare(cam.sample("coffee")))[0, 967]
    hook.remove()
    [gradient] = torch.autograd.grad(score, maps)
    return (gradient * maps[0]).detach()[0]


def test_a_brush_ranks_channels(page, site):
    page.goto(f"{site}/{LINK}")
    products = make_products()
    everywhere = products.sum((1, 2)).argsort(descending=True)[:12].tolist()
    wait_for(lambda: list_channels(page), everywhere)
    wait_until_drawn(page)
    page.get_by_role("button", name="Select with a brush").first.click()
    stage = page.get_by_role("application", name="Image").first
    stage.scroll_into_view_if_needed()
    area = stage.bounding_box()
    at = lambda x, y: (area["x"] + x * area["width"], area["y"] + y * area["height"])  # noqa: E731
    # Within the first of seven places, wherever the brush ends.
    page.mouse.move(*at(0.05, 0.05))
    page.mouse.down()
    page.mouse.move(*at(0.07, 0.06), steps=3)
    page.mouse.up()
    expect(page.get_by_text("within the selected part").first).to_be_visible()
    corner = products[:, 0, 0]
    order = corner.argsort(descending=True)[:12]
    expected = order[corner[order] > 0].tolist()
    wait_for(lambda: list_channels(page), expected)
    assert np.any(np.array(expected) != np.array(everywhere)[: len(expected)])


def test_a_link_names_a_channel(page, site):
    page.goto(f"{site}/{LINK}&channel=254")
    expect(page.get_by_text("Channel 254 of bn2", exact=True)).to_be_visible()
    box = page.get_by_role("spinbutton", name="Channel")
    expect(box).to_have_value("254")
    box.fill("7")
    box.press("Enter")
    expect(page.get_by_text("Channel 7 of bn2", exact=True)).to_be_visible()
    wait_for(lambda: read_address(page)["channel"], ["7"])
    page.go_back()
    expect(page.get_by_text("Channel 254 of bn2", exact=True)).to_be_visible()
