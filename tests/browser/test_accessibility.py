"""Check that axe-core finds no serious accessibility error on any page."""

import pytest
from axe_playwright_python.sync_playwright import Axe

PAGES = ("explore", "anatomy", "compare", "datasets", "performance")
SERIOUS = {"serious", "critical"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_no_serious_error(site, page, name, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{site}/{name}")
    page.get_by_role("heading", name=name.capitalize(), exact=True).wait_for()
    page.get_by_test_id("stStatusWidget").wait_for(state="detached")
    # What has just been drawn is pale for a moment.
    page.wait_for_timeout(3000)
    violations = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in SERIOUS
    ]
    assert not violations
