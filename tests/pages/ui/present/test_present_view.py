"""A link presents instead of drawing the page; a button starts it."""

import json

from tests.support.dashboard_page import find, open_page


def test_a_link_presents_what_is_chosen_and_nothing_else(bundled):
    app = open_page("performance", present="true", image="rocket", against="tabby")
    assert not app.title and not app.error
    # The page's frame is a component too.
    components = [json.loads(part.proto.json or "{}") for part in app.get("bidi_component")]
    [data] = [part for part in components if "maps" in part]
    missile = bundled.predict(bundled.prepare("sample:rocket")).argmax(1)
    assert data["label"] == f"{bundled.label(int(missile))}, not tabby"
    assert data["probability"] is None, "a contrast has none"
    assert [made["title"] for made in data["maps"]] == ["Grad-CAM", "Saliency map"]
    assert data["problem"] == "" and len(data["figures"]) == 3


def test_a_button_starts_it():
    app = find(open_page("performance").button, "Present").click().run()
    assert app.query_params["present"] == "true"
    assert not app.title and app.get("bidi_component")
