"""Download missing weights in a real Chromium: progress, Cancel, the link."""

import re
import time

import pytest
import timm
from playwright.sync_api import expect
from safetensors.torch import save

from tests.browser.test_explore import assert_no_error, choose, map_of
from tests.support.weights_server import random_state, serving

NAME = "timm/resnet18.a1_in1k"


@pytest.fixture(scope="module")
def hub():
    """A slow one: 3 MB a second."""
    with serving(save(random_state(timm.create_model("resnet18"))), "model.safetensors") as server:
        server.wait = lambda: time.sleep(0.02)
        yield server


@pytest.fixture
def site(hub, serve, monkeypatch, tmp_path):
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return serve()


@pytest.mark.slow
def test_a_download_is_watched_cancelled_and_done(page, site):
    """By a cold link, whose class and layer are still there when the weights are."""
    page.goto(f"{site}/explore?model={NAME}&target=tabby&layer=layer3")
    progress = page.get_by_text(re.compile(rf"Downloading the weights of {NAME}: \d+% · .* MB of"))
    expect(progress).to_be_visible()
    expect(page.get_by_text(re.compile("s left"))).to_be_visible()
    # The rest of the page is alive: another model answers, and nothing of it waits.
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled.")).to_be_visible()
    choose(page, "Model", "efficientnet_lite0")
    # Another model has other layers and may have other classes.
    expect(map_of(page, "Grad-CAM", "Egyptian cat")).to_be_visible()
    expect(page).to_have_url(re.compile("/explore$"))
    page.goto(f"{site}/explore?model={NAME}&target=tabby&layer=layer3")
    expect(progress).to_be_visible()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    layer = page.get_by_role("combobox", name="Layer for Grad-CAM", exact=True)
    expect(layer).to_have_value("layer3")
    expect(page).to_have_url(re.compile("target=tabby"))
    assert_no_error(page)
    page.reload()
    expect(map_of(page, "Grad-CAM", "tabby")).to_be_visible()
    expect(progress).to_have_count(0)
