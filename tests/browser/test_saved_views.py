"""Saved views open without a network."""

import pytest
from playwright.sync_api import expect

VIEWS = {
    "datasets": ("Example", "Use Integrated gradients"),
    "datasets?view=Gallery&item=3": ("patch-00003", "Explained for vertical stripes"),
    "performance": ("images/s with Grad-CAM", "Beside plain inference"),
}


@pytest.mark.parametrize("address", VIEWS)
def test_a_saved_view_opens_offline(site, page, chromium, tmp_path, address):
    page.goto(f"{site}/{address}")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save this view as HTML").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.suffix == ".html" and path.stat().st_size < 1_000_000
    context = chromium.new_context(offline=True, viewport={"width": 390, "height": 800})
    saved, others = context.new_page(), []
    saved.on("request", lambda request: others.append(request.url))
    saved.goto(path.as_uri())
    for words in VIEWS[address]:
        expect(saved.get_by_text(words).first).to_be_visible()
    if "item" in address:
        expect(saved.locator(".cam-viewer[data-ready]")).to_be_visible()
    sizes = saved.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert sizes[0] <= sizes[1]
    assert all(url.startswith(("file:", "data:")) for url in others)
    context.close()
