"""Serve twenty visitors for two minutes, within bounded memory."""

import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playwright.sync_api import expect

import cam
from tests.browser.conftest import PATIENCE
from tests.browser.test_explore import OPACITY, assert_drawn, map_of, pixels_of

VISITORS = 20
SECONDS = 120
# A server with torch holds a gigabyte; what twenty visitors may add while they come and go.
GROWTH_MEGABYTES = 600
SAMPLES = {
    "Cat": ("chelsea", "Egyptian cat"),
    "Coffee": ("coffee", "espresso"),
    "Rocket": ("rocket", "missile"),
    "Motorcycle": ("motorcycle_left", "moped"),
}


def expected_maps() -> dict[str, np.ndarray]:
    """What each visitor must see, from the library."""
    model = cam.load_model("efficientnet_lite0")
    maps = {}
    for title, (name, _) in SAMPLES.items():
        photo = cam.sample(name)
        attribution = cam.attribute(model, model.prepare(photo), ["gradcam", "saliency"])["gradcam"]
        drawn = cam.overlay(
            model.crop(photo), attribution.heatmap[0], "inferno", OPACITY, fade=True
        )
        maps[title] = np.asarray(drawn).astype(int)
    return maps


def megabytes(port: int) -> float:
    """The memory of the server at a port."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"--server.port={port}" in (process / "cmdline").read_text():
                status = (process / "status").read_text()
                return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024
        except (OSError, TypeError):
            continue
    raise AssertionError("the server is gone")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_visitors(chromium, serve, record_property):
    site = serve()
    truth, titles = expected_maps(), list(SAMPLES)
    pages = []
    for _ in range(VISITORS):
        page = chromium.new_context(viewport={"width": 900, "height": 700}).new_page()
        page.set_default_timeout(PATIENCE)
        pages.append(page)
    samples = [titles[visitor % 4] for visitor in range(VISITORS)]
    for page, title in zip(pages, samples, strict=True):
        page.goto(f"{site}/explore?image={SAMPLES[title][0]}", wait_until="commit")
    pictures, before, end = 0, 0.0, time.monotonic() + SECONDS
    while time.monotonic() < end or not pictures:
        for visitor, page in enumerate(pages):
            title = samples[visitor]
            drawn = map_of(page, "Grad-CAM", SAMPLES[title][1])
            expect(drawn).to_be_visible()
            assert_drawn(pixels_of(drawn), truth[title])
            expect(page.get_by_text("Traceback")).to_have_count(0)
            expect(page.get_by_test_id("stAlert")).to_have_count(0)
            pictures += 1
        before = before or megabytes(urlsplit(site).port)
        # All of them choose another photo before anyone looks at what came.
        for visitor, page in enumerate(pages):
            samples[visitor] = titles[(titles.index(samples[visitor]) + 1) % 4]
            page.get_by_role("radio", name=samples[visitor], exact=True).click()
    grown = megabytes(urlsplit(site).port) - before
    record_property("pictures", pictures)
    record_property("megabytes", grown)
    assert grown < GROWTH_MEGABYTES
    for page in pages:
        page.context.close()
