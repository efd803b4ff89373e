"""A visitor's own picture: theirs on every page, until they choose another."""

import io

import pytest
from streamlit.testing.v1 import AppTest

import cam
from tests.support.checkout import DASHBOARD
from tests.support.dashboard_page import check, find, list_values


@pytest.fixture(scope="module")
def bike() -> bytes:
    buffer = io.BytesIO()
    cam.sample("motorcycle_left").save(buffer, "PNG")
    return buffer.getvalue()


def opened() -> AppTest:
    return check(AppTest.from_file(DASHBOARD, default_timeout=120).run())


def give(app: AppTest, name: str, content: bytes) -> AppTest:
    key = f"upload_{app.session_state['_own_picture_count']}"
    return check(app.file_uploader(key=key).upload(name, content).run())


def remove(app: AppTest) -> AppTest:
    button = find(app.button, "Remove this picture")
    return check(button.click().run())


def top_class(app: AppTest) -> str:
    box = find(app.selectbox, "Class to explain")
    return box.options[0]


def test_it_goes_along_to_the_other_pages_and_comes_back(bike):
    app = give(opened(), "my_bike.png", bike)
    assert top_class(app) == "moped"
    for name in ("anatomy", "compare", "performance", "explore"):
        app.switch_page(f"pages/{name}.py")
        check(app.run())
        assert any("my\\_bike.png**, uploaded" in markdown.value for markdown in app.markdown), name
        assert name == "performance" or top_class(app) == "moped", name
    app = remove(app)
    assert top_class(app) == "Egyptian cat"
    assert not any("uploaded" in markdown.value for markdown in app.markdown)


def test_the_latest_choice_counts(bike):
    app = give(opened(), "bike.png", bike)
    app = check(app.button_group(key="sample").set_value("coffee").run())
    assert top_class(app) == "espresso"
    app = give(app, "bike.png", bike)
    assert top_class(app) == "moped"
    # A click on the sample that is chosen already takes its choice away in the browser.
    app = check(app.button_group(key="sample").set_value(None).run())
    assert top_class(app) == "espresso"
    assert app.button_group(key="sample").value == "coffee"


def test_a_click_on_the_chosen_sample_changes_nothing_else():
    app = check(opened().selectbox(key="target").set_value("lynx").run())
    app = check(app.button_group(key="sample").set_value(None).run())
    assert app.selectbox(key="target").value == "lynx"
    assert app.button_group(key="sample").value == "chelsea"


def test_what_cannot_be_read_is_told_until_another_choice(bike):
    app = give(opened(), "notes.png", b"words")
    app.switch_page("pages/anatomy.py")
    check(app.run())
    assert list_values(app.error) == [
        "Notes.png is not a picture that can be read here; use PNG, JPEG, WebP, GIF, BMP or TIFF."
    ]
    assert not app.header
    app = give(app, "bike.png", bike)
    assert not app.error and top_class(app) == "moped"
