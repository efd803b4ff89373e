"""Choose the data of a run and their options."""

import json
from html import escape

import streamlit as st
from PIL import Image

import cam
from cam._data.data_kinds import DataKind
from cam._data.dataset import DataOrigin, Dataset, Item
from cam._data.photo_grid import CLASSES, PhotoGrid
from cam._output.explanation_files import png_bytes
from cam.pages.ui.server import allowed_roots
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.text import small

GRID, OWN = "Photo grid", "Folder or list"
# Key, label, lowest and highest, and what stands there at first.
GRID_NUMBERS = (
    ("size", "Images", 1, 5000, 16),
    ("cells", "Cells a side", 2, 7, 2),
    ("seed", "Seed", 0, 10**9, 0),
)
LIMIT, MOST = 64, 1_000_000
# How many items are shown before a run is started.
LOOKED_AT = 4
SIDE = 224
TITLES = {
    "truth": "Where a class is, by its",
    "split": "Part",
    "delimiter": "Between the columns stand",
    "images": "Folder of the pictures",
}
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


GRID_LABELS = {index: controls.SAMPLE_TITLES[name] for name, index in CLASSES.items()}


def choose_data() -> tuple[DataOrigin, Dataset] | None:
    """Data that are allowed, opened; None while nothing is chosen.

    Raises:
        DataError: They lie outside of the allowed folders, or cannot be opened.
    """
    allowed = bool(allowed_roots.data_roots())
    kind = GRID
    if allowed:
        controls.check_link("data", "data", (GRID, OWN))
        kind = st.segmented_control(
            "Data", (GRID, OWN), default=GRID, required=True, key="data", bind="query-params"
        )
    origin = _grid(allowed) if kind == GRID else _own()
    if origin is None:
        return None
    data = _opened(json.dumps([origin.source, origin.options]))
    if kind == OWN:
        small(f"**{_count(len(data), 'item')}**, {_known(data)}.")
        if data.refused:
            st.warning(
                f"{_count(len(data.refused), 'entry', 'entries')} of the data cannot become "
                f"images, such as {data.refused[0][0]}: {data.refused[0][1]}."
            )
    _look(data)
    return origin, data


def _grid(allowed: bool) -> DataOrigin:
    small(
        "**The photo grid**: mosaics of four bundled photos. Each asks for the class of one of "
        "its cells, so where the evidence should lie is known, and nothing is downloaded."
        + ("" if allowed else " The operator of a server can allow folders of pictures too.")
    )
    for key, label, low, high, _ in GRID_NUMBERS:
        controls.check_number(key, label, low, high)
    values = []
    for column, (key, label, low, high, usual) in zip(
        st.columns(len(GRID_NUMBERS)), GRID_NUMBERS, strict=True
    ):
        with column:
            values.append(st.number_input(label, low, high, usual, key=key, bind="query-params"))
    size, side, seed = values
    return DataOrigin("photo-grid", {"size": size, "n": side, "seed": seed})


def _own() -> DataOrigin | None:
    source = st.selectbox(
        "Folder of pictures, CSV, COCO's JSON, or the root of VOC or Pet",
        allowed_roots.offers(),
        index=None,
        accept_new_options=True,
        key="source",
        bind="query-params",
        placeholder="Choose, or write a path below an allowed folder",
    )
    if source is None:
        return None
    kind = allowed_roots.kind_of(source)
    small(f"**{kind.title}.** {kind.items}")
    columns = st.columns(1 + len(kind.options), vertical_alignment="bottom")
    options = {}
    for column, (name, values) in zip(columns, kind.options.items(), strict=False):
        with column:
            chosen = _option(kind, name, values) if values else _folder(kind, name, source)
        if chosen is not None:
            options[name] = chosen
    with columns[-1]:
        controls.check_number("limit", "At most so many", 1, MOST)
        limit = st.number_input(
            "At most so many",
            1,
            MOST,
            LIMIT,
            key="limit",
            bind="query-params",
            help="Evenly spaced, so that every class that lies together is still there.",
        )
    return DataOrigin(source, options, limit)


def _option(kind: DataKind, name: str, values: tuple[str, ...]) -> str | None:
    """One of several values; None for the one that is taken by itself."""
    key = f"{kind.name}.{name}"
    controls.check_link(key, "option", [WORDS.get(one, one) for one in values])
    chosen: str = st.selectbox(
        TITLES[name],
        values,
        format_func=lambda one: WORDS.get(one, one),
        key=key,
        bind="query-params",
    )
    return None if chosen == values[0] else chosen


def _folder(kind: DataKind, name: str, source: str) -> str | None:
    return st.selectbox(
        TITLES[name],
        allowed_roots.folders_near(source),
        index=None,
        accept_new_options=True,
        key=f"{kind.name}.{name}",
        bind="query-params",
        placeholder="Where COCO has it",
    )


@st.cache_resource(max_entries=8, ttl=60, show_spinner="Looking at the data …")
def _opened(wanted: str) -> Dataset:
    source, options = json.loads(wanted)
    return allowed_roots.open_data(DataOrigin(source, options))


def _known(data: Dataset) -> str:
    classes = f"of {_count(len(data.labels), 'class', 'classes')}" if data.labels else "no classes"
    return f"{classes}, " + (
        "which know where their class is" if data.has_masks else "where the class is, is not known"
    )


def _count(number: int, one: str, more: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _look(data: Dataset) -> None:
    """A few items, what is not the class darkened, before anything is spent on them."""
    box = controls.lazy_box("Look at the data", ":material/visibility:", "look")
    if box is None:
        return
    count = min(LOOKED_AT, len(data))
    with box:
        for number, column in enumerate(st.columns(LOOKED_AT)):
            if number >= count:
                break
            with column:
                _show(data, number * len(data) // count)


def _show(data: Dataset, index: int) -> None:
    name = data.identifier(index)
    try:
        item = data[index]
    except cam.CamError as error:
        st.error(controls.sentence(f"{name}: {error}"))
        return
    # A number is the model's own, which is not known here.
    label = "no class" if item.target is None else str(item.target)
    if isinstance(item.target, int):
        known = GRID_LABELS if isinstance(data, PhotoGrid) else {}
        label = known.get(item.target, f"class {label}")
    where = ", the rest darkened" if item.mask is not None else ""
    controls.show_png(png_bytes(lit(item)), f"{name}: {label}{where}")
    st.html(
        f'<div style="font-size:.875rem;overflow-wrap:anywhere">{escape(name)}<br>'
        f"<b>{escape(label)}</b></div>"
    )


def lit(item: Item) -> Image.Image:
    """An item's picture, small, where its class is not known to be at a quarter of its light."""
    assert isinstance(item.image, Image.Image)
    picture = item.image.copy()
    if item.mask is not None:
        dark = picture.point(lambda value: value // 4)
        picture = Image.composite(picture, dark, Image.fromarray(item.mask))
    picture.thumbnail((SIDE, SIDE))
    return picture
