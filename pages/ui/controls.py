"""Small pieces of the pages: options, callbacks, wording."""

from pathlib import PurePath

import streamlit as st

import cam
from kernels.colormaps import colormap_table
from pages.ui.resources import Picture

SAMPLE_TITLES = {
    "chelsea": "Cat",
    "coffee": "Coffee",
    "rocket": "Rocket",
    "motorcycle_left": "Motorcycle",
}
UPLOAD_TYPES = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
# Those whose lightness rises steadily come first: they are read right with any colour vision.
COLORMAPS = ["inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray"]


def sentence(error: cam.CamError) -> str:
    """An error's message with a capital and a full stop."""
    text = str(error)
    return text[0].upper() + text[1:].rstrip(".") + "."


def stem(picture: Picture) -> str:
    """A file name for what is downloaded."""
    return PurePath(picture.photo.name).stem or "picture"


def forget_target() -> None:
    """Another picture has other classes: go back to its top class."""
    st.session_state["target"] = None


def forget_target_and_layer() -> None:
    """Another model has other layers, and maybe other classes."""
    st.session_state["target"] = None
    st.session_state["layer"] = None


def take_clicked_class(names: list[str]) -> None:
    """Explain the class whose bar was clicked."""
    points = st.session_state["predictions"]["selection"]["points"]
    if points:
        st.session_state["target"] = names[int(points[0]["y"])]


@st.cache_data(max_entries=8, show_spinner=False)
def class_options(_name: str, labels: tuple[str, ...] | None, classes: int) -> list[str]:
    """One distinct option a class: its label, with the index where two classes share it."""
    if labels is None:
        return [f"class {index}" for index in range(classes)]
    return [
        label if labels.count(label) == 1 else f"{label} ({index})"
        for index, label in enumerate(labels)
    ]


def choose_display() -> tuple[float, str]:
    """Opacity and colour map of the heatmaps."""
    left, right = st.columns([2, 1])
    with left:
        alpha = st.slider(
            "Opacity of the heatmap", 0.0, 1.0, 0.5, 0.05, key="opacity", bind="query-params"
        )
    with right:
        colormap = st.selectbox("Colour map", COLORMAPS, key="colormap", bind="query-params")
    return alpha, colormap


def show_png(content: bytes, alt: str) -> None:
    """A picture as it is: without the format, Streamlit sends a JPEG of it."""
    st.image(content, width="stretch", output_format="PNG", alt=alt)


def color_bar(colormap: str) -> str:
    """A legend from no evidence to the most, as HTML."""
    table = colormap_table(colormap)
    stops = ", ".join(f"rgb({r},{g},{b})" for r, g, b in table[::15].tolist())
    return (
        '<div style="display:flex;gap:.75rem;align-items:center;font-size:.875rem">'
        "<span>no evidence</span>"
        f'<div style="flex:1;height:.75rem;border-radius:.375rem;background:'
        f'linear-gradient(to right, {stops})"></div><span>most evidence</span></div>'
    )


def as_python(
    name: str,
    trained: bool,
    picture: Picture,
    methods: list[str],
    target: int | None,
    layer: str | None,
) -> str:
    """The library call behind the page, ready to run."""
    source = picture.photo.name
    image = (
        f'cam.sample("{source}")'
        if picture.digest.startswith("sample:")
        else f"cam.load_image({source!r})"
    )
    weights = "" if trained else ", weights=None"
    options = [f"methods={methods!r}"]
    if target is not None:
        options.append(f"targets={target}")
    if layer is not None:
        options.append(f"layers={layer!r}")
    return (
        "import cam\n\n"
        f'model = cam.load_model("{name}"{weights})\n'
        f"photo = {image}\n"
        f"maps = cam.attribute(model, model.prepare(photo), {', '.join(options)})\n"
        "for name, found in maps.items():\n"
        '    cam.overlay(model.crop(photo), found.heatmap[0]).save(f"{name}.png")\n'
    )
