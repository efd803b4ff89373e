"""Serve twenty visitors for two minutes, within bounded memory."""

import io
import re
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import cam

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
        picture = cam.overlay(model.crop(photo), attribution.heatmap[0], "inferno", 0.5)
        maps[title] = np.asarray(picture).astype(int)
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
        page.set_default_timeout(120_000)
        pages.append(page)
    samples = [titles[visitor % 4] for visitor in range(VISITORS)]
    for page, title in zip(pages, samples, strict=True):
        page.goto(f"{site}/explore?sample={title}", wait_until="commit")
    pictures, before, end = 0, 0.0, time.monotonic() + SECONDS
    while time.monotonic() < end or not pictures:
        for visitor, page in enumerate(pages):
            title = samples[visitor]
            label = SAMPLES[title][1]
            image = page.get_by_alt_text(f"Grad-CAM heatmap for {label}", exact=True)
            expect(image).to_be_visible(timeout=120_000)
            # A browser asks again where the server has just closed an idle connection; this
            # client must be told to.
            response = page.request.get(
                urljoin(page.url, image.get_attribute("src")), max_retries=2
            )
            assert response.ok
            pixels = np.asarray(Image.open(io.BytesIO(response.body())).convert("RGB")).astype(int)
            # The server's kernels and threads round otherwise, by 2 of 255 in a few pixels; the
            # maps of two photos differ by more than 100.
            assert np.abs(pixels - truth[title]).max() <= 4, (
                f"visitor {visitor} saw another picture"
            )
            expect(page.get_by_text("Traceback")).to_have_count(0)
            expect(page.get_by_test_id("stAlert")).to_have_count(0)
            pictures += 1
        before = before or megabytes(urlsplit(site).port)
        # All of them choose another photo before anyone looks at what came.
        for visitor, page in enumerate(pages):
            samples[visitor] = titles[(titles.index(samples[visitor]) + 1) % 4]
            page.get_by_role("radio", name=samples[visitor]).click()
    grown = megabytes(urlsplit(site).port) - before
    record_property("pictures", pictures)
    record_property("megabytes", grown)
    assert grown < GROWTH_MEGABYTES
    for page in pages:
        page.context.close()
