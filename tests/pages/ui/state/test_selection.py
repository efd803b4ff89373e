"""Test that an address holds what was chosen, and nothing more."""

import random
from urllib.parse import parse_qs, urlencode

import pytest

import cam
from cam._media.images import SAMPLES
from cam.pages.ui.state.selection import (
    DISPLAY,
    FILE,
    RUN,
    SAMPLE,
    UPLOAD,
    ImageName,
    Selection,
)

# What quoting, splitting or Markdown could trip over.
ODD = "aZ09 &=?#%+:/\\.,;~_-'\"`<>[]()*|äß猫🐈²٣\t\n\u00a0\u202e\u0000"
METHODS = tuple(cam.methods())


def write_text(draw: random.Random, longest: int = 12) -> str:
    """A text that is not empty, of characters that addresses have to escape."""
    return "".join(draw.choices(ODD, k=draw.randint(1, longest)))


def draw_image(draw: random.Random) -> ImageName:
    source = draw.choice([SAMPLE, FILE, RUN, UPLOAD])
    if source == SAMPLE:
        return ImageName(SAMPLE, draw.choice(list(SAMPLES)))
    number = str(draw.randrange(10**6)) if source == RUN else ""
    return ImageName(source, write_text(draw), number)


def draw_group(draw: random.Random, names: list[str]) -> dict[str, tuple[str, ...]]:
    some = draw.sample(names, draw.randint(0, len(names)))
    return {name: tuple(write_text(draw) for _ in range(draw.randint(1, 3))) for name in some}


def draw_selection(draw: random.Random) -> Selection:
    """A selection with everything that an address holds, each at its default half of the time."""

    def maybe() -> str | None:
        return write_text(draw) if draw.random() < 0.5 else None

    some = tuple(draw.sample(METHODS, draw.randint(0, 4)))
    drawn = draw.sample(METHODS, 3)
    return Selection(
        image=draw_image(draw) if draw.random() < 0.7 else ImageName(),
        model=maybe() or Selection().model,
        untrained=draw.random() < 0.5,
        checkpoint=maybe(),
        layer=maybe(),
        target=maybe(),
        against=maybe(),
        methods=some if draw.random() < 0.5 else None,
        position=maybe(),
        edits=tuple(write_text(draw) for _ in range(draw.randint(0, 3))),
        parameters=draw_group(draw, [f"{name}.{write_text(draw, 5)}" for name in drawn]),
        display=draw_group(draw, list(DISPLAY)),
        view=draw_group(draw, ["step", "code", "through_layer", "x y", "ä&=", "run"]),
    )


def go_through_an_address(selection: Selection) -> Selection:
    """Write a query string as browsers have it, and read it by the standard library."""
    text = urlencode(selection.write(), doseq=True)
    assert text.isascii()
    return Selection.read(parse_qs(text, keep_blank_values=True), METHODS)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_written_is_read(seed):
    draw = random.Random(seed)
    for _ in range(100):
        selection = draw_selection(draw)
        assert go_through_an_address(selection) == selection


def test_defaults_are_not_in_the_address():
    assert Selection().write() == {}
    first = next(iter(SAMPLES))
    explicit = {"image": [first], "model": [Selection().model], "untrained": ["false"]}
    assert Selection.read(explicit, METHODS) == Selection()
    # What is empty says nothing; but of methods, that there is none.
    assert Selection.read({"target": [""], "layer": [], "image": [""]}, METHODS) == Selection()
    none = Selection.read({"methods": [""]}, METHODS)
    assert none.methods == () and none.write() == {"methods": [""]}


@pytest.mark.parametrize("seed", range(3))
def test_each_choice_is_in_the_address_and_alone_there(seed):
    """Of two selections that differ in a field, that field's names differ and no other."""
    draw = random.Random(seed)
    names = ["image", "model", "untrained", "checkpoint", "layer", "target", "against", "methods"]
    values = dict.fromkeys([*names, "position"], "odd & new")
    values |= {"image": ImageName(FILE, "a b/c:d.png"), "untrained": True, "methods": ("gradcam",)}
    for name, value in values.items():
        alone = Selection(**{name: value}).write()
        assert list(alone) == [name]
        before = draw_selection(draw)
        after = Selection(**{**vars(before), name: value}).write()
        changed = {
            key for key in {*before.write(), *after} if before.write().get(key) != after.get(key)
        }
        assert changed <= {name}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_shared_is_everything_but_the_page(seed):
    draw = random.Random(seed)
    for _ in range(100):
        selection = draw_selection(draw)
        shared = selection.share()
        assert not set(selection.view) & set(shared)
        assert {**shared, **{k: list(v) for k, v in selection.view.items()}} == selection.write()


def test_of_several_values_the_last_counts():
    selection = Selection.read({"target": ["lynx", "tabby"], "image": ["a", "rocket"]}, METHODS)
    assert selection.target == "tabby" and selection.image.name == "rocket"


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("rocket", ImageName(SAMPLE, "rocket")),
        ("file:a/b c.png", ImageName(FILE, "a/b c.png")),
        ("file:run:1:2.png", ImageName(FILE, "run:1:2.png")),
        ("run:my run:3", ImageName(RUN, "my run", "3")),
        # Runs are named by visitors: what follows the last colon is the number.
        ("run:a:b:3", ImageName(RUN, "a:b", "3")),
        ("upload:0123456789ab", ImageName(UPLOAD, "0123456789ab")),
        # What is no source is part of a name.
        ("http://host/x.png", ImageName(SAMPLE, "http://host/x.png")),
    ],
)
def test_where_an_image_is_from(text, image):
    assert ImageName.parse(text) == image and str(image) == text


def test_parameters_go_by_the_methods_that_there_are():
    query = {"rise.masks": ["9"], "risen.masks": ["9"], "rise": ["9"], "opacity": ["0.3"]}
    selection = Selection.read(query, ["rise"])
    assert selection.parameters == {"rise.masks": ("9",)}
    assert selection.display == {"opacity": ("0.3",)}
    assert selection.view == {"risen.masks": ("9",), "rise": ("9",)}
