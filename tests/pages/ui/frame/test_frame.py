"""The frame is on every page, and says what Explore shows."""

import json

import pytest

from cam.pages.ui.frame.frame import _BOOT
from tests.support.dashboard_page import check, open_page

PAGES = ["explore", "anatomy", "compare", "datasets", "performance"]


def read_frames(app) -> list[dict]:
    parts = [element.proto for element in app.get("bidi_component")]
    return [json.loads(part.json) for part in parts if part.component_name == "cam.frame"]


@pytest.mark.parametrize("name", [None, *PAGES])
def test_it_is_on_every_page(name):
    frame, *announcements = read_frames(open_page(name))
    assert frame == {"boot": _BOOT, "theme": "light"}
    assert all(announcement["boot"] == _BOOT for announcement in announcements)


def test_it_says_what_is_explained():
    app = open_page(image="coffee", target="cup", methods=["gradcam", "layercam"])
    _, announcement = read_frames(app)
    assert announcement["message"] == "Grad-CAM, LayerCAM for cup of coffee."
    app = check(app.button_group(key="sample").set_value("rocket").run())
    _, announcement = read_frames(app)
    assert announcement["message"] == "Grad-CAM, LayerCAM for missile of rocket."
