"""Check that axe-core finds nothing to mend, with boxes closed or open."""

import pytest
from playwright.sync_api import expect

from tests.support.browser_steps import expect_accessible, wait_for, wait_until_drawn

# Streamlit's area for files cannot be reached by the keyboard, and its button within can.
OF_STREAMLIT = {"presentation-role-conflict"}
STATES = {
    "explore": "",
    "explore with everything open": (
        "methods=gradcam&methods=input_x_gradient&perturb=true&edit=blur.box-250-250-750-500"
        "&channels=true&details=true&through=true&live=true&code=true"
    ),
    "explore of a wrong link": "image=nobody&target=unicorn",
    "anatomy": "",
    "anatomy at its end": "step=Overlay&noise=true&code=true",
    "compare": "",
    "compare of classes": "compare=Classes&one_range=true&measure=Properties&methods=gradcam",
    "datasets": "",
    "performance": "",
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", STATES)
def test_axe_has_nothing_to_say(site, page, state, scheme):
    name = state.partition(" ")[0]
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{site}/{name}?{STATES[state]}")
    page.get_by_role("heading", name=name.capitalize(), exact=True).wait_for()
    wait_until_drawn(page)
    viewers = page.locator(".cam-viewer")
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    # A box draws its viewer later than the page does.
    ready = page.locator(".cam-viewer[data-ready=true]")
    wait_for(lambda: ready.count() == viewers.count(), True)
    expect_accessible(page, apart=OF_STREAMLIT)
