"""No page has a serious accessibility error, as axe-core finds them, in light and in dark."""

import pytest
from axe_playwright_python.sync_playwright import Axe

PAGES = ("explore", "anatomy", "compare", "datasets", "performance")
SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_no_serious_error(site, page, name, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/{name}")
    page.get_by_text("Copy as Python").first.wait_for()
    # What is still being drawn is pale for a moment.
    page.wait_for_timeout(2000)
    found = [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in Axe().run(page).response["violations"]
        if one["impact"] in SERIOUS
    ]
    assert not found
