"""Test a visitor's own image: on every page, until another."""

import hashlib
import io

import pytest
from streamlit.testing.v1 import AppTest

import cam
from tests.support.dashboard_page import (
    check,
    find,
    list_values,
    open_page,
    read_address,
    read_maps,
)


@pytest.fixture(scope="module")
def bike() -> bytes:
    buffer = io.BytesIO()
    cam.sample("motorcycle_left").save(buffer, "PNG")
    return buffer.getvalue()


def give(app: AppTest, name: str, content: bytes) -> AppTest:
    upload = find(app.file_uploader, "Upload an image")
    return check(upload.upload(name, content).run())


def choose(app: AppTest, sample: str | None) -> AppTest:
    return check(app.button_group(key="sample").set_value(sample).run())


def remove(app: AppTest) -> AppTest:
    return check(find(app.button, "Remove this image").click().run())


def top_class(app: AppTest) -> str:
    return find(app.selectbox, "Class to explain").options[0]


def names_upload(app: AppTest, content: bytes) -> bool:
    """Whether the address names an upload by the beginning of its SHA-256."""
    [image] = read_address(app)["image"]
    return image == f"upload:{hashlib.sha256(content).hexdigest()[:12]}"


def test_it_goes_along_to_the_other_pages_and_comes_back(bike):
    app = give(open_page(), "my_bike.png", bike)
    assert top_class(app) == "moped" and names_upload(app, bike)
    for name in ("anatomy", "compare", "performance", "explore"):
        # The menu's links take the address along.
        app.switch_page(f"pages/{name}.py")
        check(app.run())
        assert any("my\\_bike.png**, uploaded" in markdown.value for markdown in app.markdown), name
        assert names_upload(app, bike), name
        assert name == "performance" or top_class(app) == "moped", name
    app = remove(app)
    assert top_class(app) == "Egyptian cat" and read_address(app) == {}
    assert not any("uploaded" in markdown.value for markdown in app.markdown)


def test_the_latest_choice_counts(bike):
    app = give(open_page(), "bike.png", bike)
    app = choose(app, "coffee")
    assert top_class(app) == "espresso" and read_address(app) == {"image": ["coffee"]}
    app = give(app, "bike.png", bike)
    assert top_class(app) == "moped"
    # No sample is marked while another image is shown, so a click on any one chooses it.
    assert app.button_group(key="sample").value is None
    app = choose(app, "coffee")
    assert top_class(app) == "espresso"
    assert app.button_group(key="sample").value == "coffee"


def test_the_first_sample_is_chosen_over_an_upload(bike):
    app = choose(give(open_page(), "bike.png", bike), "chelsea")
    assert top_class(app) == "Egyptian cat" and read_address(app) == {}


def test_a_click_on_the_chosen_sample_changes_nothing_else():
    app = check(open_page().selectbox(key="target").set_value("lynx").run())
    # The browser takes the choice away at such a click.
    app = choose(app, None)
    assert app.selectbox(key="target").value == "lynx"
    assert app.button_group(key="sample").value == "chelsea"


def test_what_cannot_be_read_leaves_the_image_that_was_there(bike):
    app = give(choose(open_page(), "coffee"), "notes.png", b"words")
    refused = (
        "notes.png is not an image that can be read here; use PNG, JPEG, WebP, AVIF, HEIC, GIF, "
        "BMP or TIFF."
    )
    assert list_values(app.error) == [refused]
    assert read_maps(app)[0] == "Grad-CAM heatmap for espresso"
    assert read_address(app) == {"image": ["coffee"]}
    # It is said beside the upload until another image is chosen there or anywhere.
    app = check(app.selectbox(key="target").set_value("cup").run())
    assert list_values(app.error) == [refused]
    app = give(app, "bike.png", bike)
    assert not app.error and top_class(app) == "moped"
    app = give(app, "notes.png", b"words")
    assert list_values(app.error) == [refused] and top_class(app) == "moped"
    assert not choose(app, "rocket").error


def test_the_address_brings_it_back(bike):
    """As Back does, while the server has it; of several, the latest are kept."""
    app = choose(give(open_page(), "bike.png", bike), "coffee")
    other = cam.sample("rocket").convert("L").convert("RGB")
    buffer = io.BytesIO()
    other.save(buffer, "PNG")
    app = give(app, "grey.png", buffer.getvalue())
    upload = f"upload:{hashlib.sha256(bike).hexdigest()[:12]}"
    app.query_params["image"] = upload
    # Another page overrules what was chosen last, as the browser's history does.
    app.switch_page("pages/compare.py")
    app = check(app.run())
    assert top_class(app) == "moped" and names_upload(app, bike)


def test_a_link_cannot_carry_it_to_another_visitor(bike):
    app = open_page(image=f"upload:{hashlib.sha256(bike).hexdigest()[:12]}")
    [error] = list_values(app.error)
    assert "a link cannot carry it, so upload it here" in error
    assert read_maps(app) == []
    app = give(app, "bike.png", bike)
    assert not app.error and top_class(app) == "moped"
