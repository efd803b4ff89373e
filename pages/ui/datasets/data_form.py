"""Choose the data of a run and their options."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import streamlit as st
from PIL import Image

import cam
from cam._data.dataset import DataOrigin, Dataset, Item
from cam._data.known_pictures import KnownPictures
from cam._data.photo_grid import CLASSES, PhotoGrid
from cam._output.explanation_files import png_bytes
from cam._truth.known_networks import NETWORKS
from cam.pages.ui.charts.elements import div
from cam.pages.ui.server import allowed_roots, served
from cam.pages.ui.state import address
from cam.pages.ui.widgets.controls import SAMPLE_TITLES, draw_lazily
from cam.pages.ui.widgets.links import choose, choose_number
from cam.pages.ui.widgets.prose import as_sentence, show_png, write_small

GRID, ANSWERS, FILES, SERVED = "Photo grid", "Known answers", "Folder or list", "This server's"
# Label, lowest and highest, key, and what stands there at first.
GRID_NUMBERS = (
    ("Images", 1, 5000, "size", 16),
    ("Grid size", 2, 7, "cells", 2),
    ("Seed", 0, 10**9, "seed", 0),
)
KNOWN_NUMBERS = (GRID_NUMBERS[0], GRID_NUMBERS[2])
KNOWN_TITLES = {
    "linear": "Linear: a weight for each pixel",
    "additive": "Additive: a curve for each pixel",
    "patch": "Patch: one pattern for, one against",
    "xor": "XOR: one pattern, but not both",
    "distractor": "Distractor: faint stripes beside a bright square",
}
LIMIT, MOST = 64, 1_000_000
# How many items are shown before a run is started.
LOOKED_AT = 4
SIDE = 224
TITLES = {
    "truth": "Object masks from",
    "items": "One item for each of the",
    "split": "Part",
    "delimiter": "Column separator",
    "images": "Image folder",
}
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


GRID_LABELS = {index: SAMPLE_TITLES[name] for name, index in CLASSES.items()}


def choose_data() -> tuple[DataOrigin, Dataset] | None:
    """Choose data that are allowed, and open them; None while nothing is chosen.

    Raises:
        DataError: They lie outside of the allowed folders, or cannot be opened.
    """
    allowed = bool(allowed_roots.read_data_roots())
    names = served.data.list_names()
    kinds = (*([SERVED] if names else []), GRID, ANSWERS, *([FILES] if allowed else []))
    kind = choose("Data", kinds, "data", "data", segments=True)
    origin: DataOrigin | None
    if kind == SERVED:
        origin = DataOrigin(served.PREFIX + choose("Data set", names, "served", "data set"), {})
    elif kind == FILES:
        origin = _choose_own()
    else:
        origin = _choose_grid(allowed) if kind == GRID else _choose_known()
    if origin is None:
        return None
    data = _open_data(json.dumps([origin.source, origin.options]))
    if kind in (FILES, SERVED):
        write_small(f"**{_count(len(data), 'item')}**, {_describe_classes(data)}.")
        if data.refused:
            st.warning(
                f"{_count(len(data.refused), 'entry', 'entries')} of the data cannot become "
                f"images, such as {data.refused[0][0]}: {data.refused[0][1]}."
            )
    draw_lazily("Preview", "visibility", "look", _draw_examples, data)
    return origin, data


def _choose_grid(allowed: bool) -> DataOrigin:
    write_small(
        "**The photo grid**: mosaics of four bundled photos. Each asks for the class of one of "
        "its cells, so where the evidence should lie is known, and nothing is downloaded. It is a "
        "smoke test: over four photos there are no intervals and no tests."
        + ("" if allowed else " The operator of a server can allow folders of images too.")
    )
    size, side, seed = _choose_numbers(GRID_NUMBERS)
    return DataOrigin("photo-grid", {"size": size, "n": side, "seed": seed})


def _choose_known() -> DataOrigin:
    write_small(
        "**Known answers**: generated images for a network built by hand, whose exact attribution "
        "is computed for each pixel, signs included. Choose the network as the model too: "
        "known/patch for the patch."
    )
    titles = {name: KNOWN_TITLES[name] for name in NETWORKS}
    network = choose("Network", titles, "network", "network")
    size, seed = _choose_numbers(KNOWN_NUMBERS)
    return DataOrigin("known", {"network": network, "size": size, "seed": seed})


def _choose_numbers(numbers: Sequence[tuple[str, int, int, str, int]]) -> list[int]:
    values = []
    for column, (label, low, high, key, value) in zip(
        st.columns(len(numbers)), numbers, strict=True
    ):
        with column:
            values.append(choose_number(label, low, high, key, value))
    return values


def _choose_own() -> DataOrigin | None:
    label = "Folder of images, CSV, COCO JSON, or the root of VOC or Pet"
    hint = "Choose, or write a path below an allowed folder"
    source = _choose_path(label, allowed_roots.list_sources(), "source", hint)
    if source is None:
        return None
    kind = allowed_roots.detect_kind(source)
    write_small(f"**{kind.title}.** {kind.items}")
    columns = st.columns(1 + len(kind.options), vertical_alignment="bottom")
    options = {}
    for column, (name, values) in zip(columns, kind.options.items(), strict=False):
        with column:
            key = f"{kind.name}.{name}"
            if values:
                option = _choose_option(name, values, key)
            else:
                folders = allowed_roots.list_folders_near(source)
                option = _choose_path(TITLES[name], folders, key, "Where COCO has it")
        if option is not None:
            options[name] = option
    with columns[-1]:
        about = "Evenly spaced, so that every class that lies together is still there."
        limit = choose_number("At most", 1, MOST, "limit", LIMIT, help=about)
    return DataOrigin(source, options, limit)


def _choose_option(name: str, values: tuple[str, ...], key: str) -> str | None:
    """Choose one of several values; None for the default."""
    titles = {value: WORDS.get(value, value) for value in values}
    option = choose(TITLES[name], titles, key, "option")
    return None if option == values[0] else option


def _choose_path(label: str, paths: list[str], key: str, hint: str) -> str | None:
    """Choose one of the paths, or write another."""
    value = address.get_value(key)
    # What was written stays a choice.
    offered = list(dict.fromkeys([*paths, *filter(None, [value])]))
    start = {} if value is None else {"index": offered.index(value)}
    more: dict[str, Any] = {"accept_new_options": True, "placeholder": hint, "index": None}
    more |= address.bind(key, value, lambda path: [] if path is None else [path], start=start)
    st.selectbox(label, offered, **more)
    return value


@st.cache_resource(max_entries=8, ttl=60, show_spinner="Looking at the data …")
def _open_data(origin: str) -> Dataset:
    source, options = json.loads(origin)
    return allowed_roots.open_data(DataOrigin(source, options))


def _describe_classes(data: Dataset) -> str:
    classes = f"of {_count(len(data.labels), 'class', 'classes')}" if data.labels else "no classes"
    return f"{classes}, " + ("with object masks" if data.has_masks else "without object masks")


def _count(number: int, noun: str, plural: str | None = None) -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _draw_examples(data: Dataset) -> None:
    """Draw a few items, what is not the class darkened, before anything is spent on them."""
    count = min(LOOKED_AT, len(data))
    for number, column in zip(range(count), st.columns(LOOKED_AT), strict=False):
        with column:
            _draw_item(data, number * len(data) // count)


def _draw_item(data: Dataset, index: int) -> None:
    name = data.identifier(index)
    try:
        item = data[index]
    except cam.CamError as error:
        st.error(as_sentence(f"{name}: {error}"))
        return
    # A number is the model's own, which is not known here.
    label = "no class" if item.target is None else str(item.target)
    if isinstance(item.target, int):
        label = _name_class(data, item.target)
    where = ", the rest darkened" if item.mask is not None else ""
    show_png(png_bytes(darken_rest(item)), f"{name}: {label}{where}")
    caption = f"{escape(name)}<br><b>{escape(label)}</b>"
    st.html(div("caption", caption))


def _name_class(data: Dataset, target: int) -> str:
    """Name a class of generated pictures; a model's own is not known here."""
    if isinstance(data, KnownPictures):
        return NETWORKS[data.network].labels[target]
    labels = GRID_LABELS if isinstance(data, PhotoGrid) else {}
    return labels.get(target, f"class {target}")


def darken_rest(item: Item) -> Image.Image:
    """Darken an item's picture, small, where its class is known not to be."""
    assert isinstance(item.image, Image.Image)
    picture = item.image.copy()
    if item.mask is not None:
        dark = picture.point(lambda value: value // 4)
        picture = Image.composite(picture, dark, Image.fromarray(item.mask))
    picture.thumbnail((SIDE, SIDE))
    return picture
