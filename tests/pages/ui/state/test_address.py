"""Test that the address is the state: clicks, Back, pages, wrong links."""

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from cam.pages.ui.state import address
from tests.support.dashboard_page import check, find, finish, list_values, open_page, read_address


def draw_form() -> None:
    from cam.pages.ui.widgets import links

    links.choose("Fruit", ["apple", "pear", "plum"], "fruit", forget=["core"])
    links.choose("Colour", ["red", "green"], "colour", segments=True, forget=["core"])
    more = {"name": "both", "default": ["dot"]}
    links.choose_several("Small", ["dot", "dash"], "small", others=["disc", "bar"], **more)
    links.choose_several("Large", ["disc", "bar"], "large", others=["dot", "dash"], **more)
    links.choose_several("Tools", ["knife", "fork", "spoon"], "tools", default=["knife"])
    links.choose_optional("Core", ["hard", "soft"], "core")
    links.check("Ripe", "ripe")
    links.choose_number("Count", 1, 9, "count")
    links.choose_share("Share", 0.0, 1.0, 0.5, 0.05, "share")
    links.type_text("Name", "anonymous", "name")


def open_form(**query: str | list[str]) -> AppTest:
    app = AppTest.from_function(draw_form, default_timeout=60)
    app.query_params.update(query)
    return check(app.run())


def pick(app: AppTest, label: str, value: object) -> AppTest:
    widgets = [*app.selectbox, *app.multiselect, *app.number_input, *app.text_input, *app.slider]
    return check(find([*widgets, *app.button_group], label).set_value(value).run())


def read_form(app: AppTest) -> dict[str, object]:
    widgets = [*app.selectbox, *app.multiselect, *app.number_input, *app.text_input, *app.slider]
    widgets += [*app.button_group, *app.checkbox]
    return {widget.label: widget.value for widget in widgets}


DEFAULTS = {
    "Fruit": "apple", "Colour": "red", "Tools": ["knife"], "Core": None, "Ripe": False,
    "Count": 1, "Share": 0.5, "Name": "anonymous", "Small": ["dot"], "Large": [],
}  # fmt: skip


def move(monkeypatch, app: AppTest, page: str = "", **query: str | list[str]) -> AppTest:
    """Run as after Back, or on another page: AppTest has neither on a single script."""
    moved = SimpleNamespace(page_script_hash=page, is_history_navigation=not page)
    app.query_params.clear()
    app.query_params.update(query)
    with monkeypatch.context() as patch:
        patch.setattr(address, "get_script_run_ctx", lambda: moved)
        return check(app.run())


def test_a_link_is_shown_and_kept():
    query = {
        "fruit": ["plum"], "colour": ["green"], "tools": ["spoon", "fork"], "core": ["soft"],
        "ripe": ["true"], "count": ["4"], "share": ["0.25"], "name": ["a & b=c?"],
        "both": ["bar"],
    }  # fmt: skip
    app = open_form(**query)
    assert read_form(app) == {
        "Fruit": "plum", "Colour": "green", "Tools": ["spoon", "fork"], "Core": "soft",
        "Ripe": True, "Count": 4, "Share": 0.25, "Name": "a & b=c?", "Small": [],
        "Large": ["bar"],
    }  # fmt: skip
    assert read_address(app) == query and not app.warning


def test_each_click_is_written_and_a_default_leaves_the_address():
    app = open_form()
    assert read_form(app) == DEFAULTS and read_address(app) == {}
    changes = {
        "Fruit": "pear", "Colour": "green", "Tools": ["fork"], "Core": "hard", "Count": 3,
        "Share": 0.3, "Name": "ä&b",
    }  # fmt: skip
    for label, value in changes.items():
        app = pick(app, label, value)
    app = check(app.checkbox(key="ripe").check().run())
    written = {
        "fruit": ["pear"], "colour": ["green"], "tools": ["fork"], "core": ["hard"],
        "count": ["3"], "share": ["0.3"], "name": ["ä&b"], "ripe": ["true"],
    }  # fmt: skip
    assert read_address(app) == written and read_form(app) == DEFAULTS | changes | {"Ripe": True}
    for label in changes:
        app = pick(app, label, DEFAULTS[label])
    app = check(app.checkbox(key="ripe").uncheck().run())
    assert read_address(app) == {} and read_form(app) == DEFAULTS
    # Nothing is not the default, where that is something.
    app = pick(app, "Tools", [])
    assert read_address(app) == {"tools": [""]}
    assert read_form(open_form(tools="")) == DEFAULTS | {"Tools": []}


def test_a_click_with_an_old_address_does_not_undo_the_click_before():
    """The browser may click again before it has the address that the server wrote."""
    app = pick(open_form(name="me"), "Fruit", "pear")
    app.query_params.clear()
    app.query_params["name"] = "me"
    app = pick(app, "Colour", "green")
    assert read_address(app) == {"name": ["me"], "fruit": ["pear"], "colour": ["green"]}
    app.query_params.clear()
    # Nor does a run without a click, such as that of a clock.
    app = check(app.run())
    assert read_address(app) == {"name": ["me"], "fruit": ["pear"], "colour": ["green"]}
    assert read_form(app)["Fruit"] == "pear"


def test_two_widgets_that_share_a_name_change_at_once():
    app = open_form()
    find(app.multiselect, "Small").set_value(["dash"])
    find(app.multiselect, "Large").set_value(["bar"])
    app = check(app.run())
    assert sorted(read_address(app)["both"]) == ["bar", "dash"]
    assert (read_form(app)["Small"], read_form(app)["Large"]) == (["dash"], ["bar"])
    # And back to the default, which one of them has.
    find(app.multiselect, "Small").set_value(["dot"])
    find(app.multiselect, "Large").set_value([])
    assert read_address(check(app.run())) == {}


def test_back_and_forward_overrule_what_was_chosen_last(monkeypatch):
    app = pick(pick(open_form(), "Fruit", "pear"), "Tools", ["fork"])
    app = move(monkeypatch, app, fruit="pear")
    assert read_form(app) == DEFAULTS | {"Fruit": "pear"}
    app = move(monkeypatch, app)
    assert read_form(app) == DEFAULTS and read_address(app) == {}
    app = move(monkeypatch, app, fruit="pear", tools="fork")
    assert read_form(app) == DEFAULTS | {"Fruit": "pear", "Tools": ["fork"]}
    # From there on clicks go on.
    app = pick(app, "Count", 2)
    assert read_address(app) == {"fruit": ["pear"], "tools": ["fork"], "count": ["2"]}


def test_another_page_overrules_what_was_chosen_last(monkeypatch):
    app = pick(open_form(), "Fruit", "pear")
    app = move(monkeypatch, app, page="another", fruit="plum")
    assert read_form(app) == DEFAULTS | {"Fruit": "plum"}
    assert read_address(app) == {"fruit": ["plum"]}


def test_another_choice_takes_along_what_hung_on_it():
    app = open_form(fruit="pear", core="soft", colour="green")
    assert read_address(pick(app, "Fruit", "plum")) == {"fruit": ["plum"], "colour": ["green"]}
    # A click on the segment that is chosen already, which Streamlit takes back.
    app = pick(open_form(core="soft", colour="green"), "Colour", None)
    assert read_address(app) == {"core": ["soft"], "colour": ["green"]}
    assert read_form(app) == DEFAULTS | {"Core": "soft", "Colour": "green"}
    app = pick(open_form(core="soft"), "Colour", None)
    assert read_form(app) == DEFAULTS | {"Core": "soft"}


def test_what_is_drawn_never_writes():
    """What is not here is said as long as the address asks for it, and stays there."""
    wrong = {
        "fruit": ["aple"], "tools": ["fork", "spon"], "count": ["12"], "share": ["nan"],
        "ripe": ["perhaps"], "stranger": ["1", "2"],
    }  # fmt: skip
    app = open_form(**wrong)
    for _ in range(2):
        assert read_form(app) == DEFAULTS | {"Tools": ["fork"]}
        assert read_address(app) == wrong
        fruit, tools, count, share = list_values(app.warning)
        assert "asks for the fruit `aple`, which is not here; did you mean 'apple'" in fruit
        assert "`spon`, which is not here; did you mean 'spoon'" in tools
        assert "asks for `12` as 'Count', which is no whole number from 1 to 9." in count
        assert "asks for `nan` as 'Share', which is no number from 0.0 to 1.0." in share
        app = check(app.run())
    for label, value in {"Fruit": "plum", "Tools": [], "Count": 2, "Share": 0.1}.items():
        app = pick(app, label, value)
    assert not app.warning


# Wrong links

# What each name takes; downloads and what computes for long are left out.
VALUES = {
    "image": ["coffee", "rocket", "file:a/b.png", "run:nobody:3", "upload:0123456789ab", "run::"],
    "model": ["known/patch", "known/xor", "known/linear"],
    "untrained": ["true", "false"],
    "checkpoint": ["five.pth"],
    "layer": ["templates", "units", "blocks.4"],
    "target": ["vertical stripes", "espresso"],
    "against": ["horizontal stripes"],
    "methods": ["gradcam", "saliency", "layercam", "attention_rollout", "legrad"],
    "opacity": ["0.3", "1"],
    "threshold": ["0.5"],
    "colormap": ["viridis"],
    "signs": ["both", "against"],
    "fade": ["false"],
    "position": ["10"],
    "edit": ["blur.box-0-0-500-500", "erase.random-20-1"],
    "code": ["true"],
    "smoothgrad.samples": ["3"],
    "smoothgrad.noise": ["0.1"],
    "layercam.eigen_smooth": ["true"],
}
VIEWS = {
    "explore": {
        "through": ["true"], "through_layer": ["templates"], "channel": ["3"],
    },
    "anatomy": {"step": ["Scores", "Weights", "Overlay"], "shake": ["false"]},
    "compare": {
        "compare": ["Methods", "Layers", "Classes", "Two models"], "measure": ["Agreement"],
        "likeness": ["ssim", "top"], "layers": ["templates", "units"], "one_range": ["true"],
        "classes": ["vertical stripes"], "second": ["known/xor", "known/patch"],
        "second_untrained": ["true"], "method": ["gradcam", "saliency"],
    },
    "datasets": {
        "start": ["true"], "data": ["Photo grid", "Known answers"], "size": ["4"], "cells": ["3"],
        "seed": ["1"], "network": ["xor"], "run_methods": ["gradcam", "smoothgrad"],
        "run_metrics": ["deletion", "sparseness", "road"], "centre": ["false"], "look": ["true"],
        "targets": ["data"], "smoothgrad.variants": ["2"], "road.shares": ["0.3, 0.6"],
        "run": ["nobody"], "view": ["Gallery"], "item": ["3"], "page": ["2"], "metric": ["road"],
    },
    "performance": {"part": ["Recorded"], "batch": ["8"]},
}  # fmt: skip
WRONG = [
    "", " ", "0", "-1", "1e400", "inf", "-inf", "nan", "1e-320", "0.1.2", "٣", "²", "½", "true",
    "9" * 30, "9" * 5000, "1" + "0" * 16, "None", "null", "[]", "{}", "%s%n", "{0}", "{x!r}",
    "../../etc/passwd", "/etc/passwd", "file:../../etc/passwd", "run:../..:1", "run:a:²", "file:",
    "upload:", "upload:/", "http://host/x", "<script>alert(1)</script>", "`x` [y](http://z)",
    "$x^2$ :red[y] :material/home:", "\x00", "\n", "a\tb", "\u202e", "\ud7ff", "🐈" * 99,
    "x" * 5000, "gradcam(k=1)", "'; DROP TABLE items; --", "\\", "\\u0000", "%00", "a&b=c#d",
]  # fmt: skip


def mutate(draw: random.Random, page: str) -> dict[str, list[str]]:
    """Write a query of names that the page knows, with values right, wrong, and too many."""
    values = VALUES | VIEWS[page]
    query: dict[str, list[str]] = {}
    for name in draw.sample(list(values), draw.randint(1, 6)):
        pool: list[Callable[[], str]] = [
            lambda name=name: draw.choice(values[name]),
            lambda: draw.choice(WRONG),
            lambda: draw.choice(draw.choice(list(values.values()))),
            lambda name=name: damage(draw, draw.choice(values[name])),
        ]
        count = draw.choice([1, 1, 1, 2, 12])
        query[name] = [draw.choice(pool)() for _ in range(count)]
    # A quick network by far most of the time, and never one that would be downloaded.
    if draw.random() < 0.9:
        query["model"] = [draw.choice(VALUES["model"])]
    return query


def damage(draw: random.Random, text: str) -> str:
    """Leave a character out, double one, or put a strange one in."""
    at = draw.randrange(len(text) + 1)
    middle = draw.choice(["", text[at : at + 1] * 2, draw.choice("\x00é '\"<:/.-9")])
    return text[:at] + middle + text[at + 1 :]


def assert_sentences(page: str, query: dict[str, list[str]]) -> None:
    app = open_page(page, **query)
    for element in [*app.warning, *app.error, *app.info]:
        assert element.value.rstrip()[-1] in ".?", (query, element.value)
        assert "Traceback" not in element.value, (query, element.value)
    assert [title.value for title in app.title] == [page.capitalize()]
    assert read_address(app) == query


@pytest.fixture
def no_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CAM_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("CAM_DATA_ROOTS", raising=False)
    monkeypatch.delenv("CAM_CHECKPOINT_ROOTS", raising=False)


@pytest.mark.parametrize("page", VIEWS)
def test_a_wrong_link_gets_sentences(page, no_runs):
    draw = random.Random(page)
    for _ in range(4):
        assert_sentences(page, mutate(draw, page))


@pytest.mark.slow
@pytest.mark.parametrize("page", VIEWS)
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_wrong_links_get_sentences(page, seed, no_runs):
    draw = random.Random(f"{page} {seed}")
    for _ in range(10):
        assert_sentences(page, mutate(draw, page))


# More methods than Compare takes; the last ones would go to the background.
MANY = [
    "gradcam", "saliency", "layercam", "hirescam", "xgradcam", "gradcam_plus_plus",
    "input_x_gradient", "gradcam_elementwise", "smoothgrad",
]  # fmt: skip
LIMITS = {
    "too many": ("compare", {"methods": MANY}, "asks for 9 methods; here are the first 8."),
    "no browser's number": (
        "explore",
        {"methods": "smoothgrad", "smoothgrad.samples": "9" * 30},
        "as 'samples', which is no whole number.",
    ),
    "infinite": (
        "explore",
        {"methods": "smoothgrad", "smoothgrad.noise": "inf"},
        "asks for `inf` as 'noise', which is no number.",
    ),
    "long": ("explore", {"position": "9" * 5000}, "no whole number from 0 to 100."),
    "edit": ("explore", {"edit": "blur.box-" + "9" * 5000}, "names no part of an image."),
    "run": ("explore", {"image": "run:nobody:" + "9" * 5000}, "which is no number."),
}


@pytest.mark.parametrize(("page", "query", "says"), LIMITS.values(), ids=LIMITS)
def test_what_a_widget_does_not_take(page, query, says, no_runs):
    app = finish(open_page(page, model="known/patch", **query))
    assert any(says in sentence for sentence in list_values([*app.warning, *app.error]))


def test_a_widget_begins_with_its_value_where_no_run_has_set_it():
    """A click can end the run that sets it before the browser has heard of it."""
    query = {"fruit": "pear", "colour": "green", "both": "dash", "tools": ["fork", "knife"],
             "core": "soft", "ripe": "true", "count": "4", "share": "0.3",
             "name": "me"}  # fmt: skip
    app = check(open_form(**query).run())
    widgets = [*app.selectbox, *app.multiselect, *app.number_input, *app.text_input, *app.slider]
    protos = [widget.proto for widget in [*widgets, *app.button_group, *app.checkbox]]
    assert len(protos) == 10 and not any(proto.set_value for proto in protos)
    begins = {proto.label: proto.default for proto in protos}
    indices = {
        label: list(start)
        for label, start in begins.items()
        if not isinstance(start, int | float | str)
    }
    plain = {label: start for label, start in begins.items() if label not in indices}
    assert plain == {"Fruit": 1, "Core": 1, "Ripe": True, "Count": 4, "Name": "me"}
    assert indices == {"Colour": [1], "Small": [1], "Large": [], "Tools": [1, 0], "Share": [0.3]}
