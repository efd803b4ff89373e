"""Small pieces of the pages: options, callbacks, wording."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import cam
from cam.errors import nearest
from pages.ui.resources import SEED, Choices, Picture

SAMPLE_TITLES = {
    "chelsea": "Cat",
    "coffee": "Coffee",
    "rocket": "Rocket",
    "motorcycle_left": "Motorcycle",
}
UPLOAD_TYPES = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
# Those whose lightness rises steadily come first: they are read right with any colour vision.
COLORMAPS = ["inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray"]


def sentence(message: cam.CamError | str) -> str:
    """An error's message, or a note, with a capital and a full stop."""
    text = str(message)
    return text[0].upper() + text[1:].rstrip(".") + "."


def stem(picture: Picture) -> str:
    """A file name for what is downloaded."""
    return PurePath(picture.photo.name).stem or "picture"


def check_link(key: str, what: str, options: Iterable[str]) -> None:
    """Say what a link asks for in vain; Streamlit would show the default without a word.

    Called before the widget that is bound to ``key``, which then clears the address.
    """
    known = list(options)
    for asked in st.query_params.get_all(key):
        if asked not in known:
            hint = nearest(asked, known)
            st.warning(f"The link asks for the {what} {asked!r}, which is not here; {hint}")


def forget_target() -> None:
    """Another picture has other classes: go back to its top class."""
    st.session_state["target"] = None
    if "classes" in st.session_state:
        st.session_state["classes"] = []


def forget_target_and_layer() -> None:
    """Another model has other layers, and maybe other classes."""
    forget_target()
    st.session_state["layer"] = None
    if "layers" in st.session_state:
        st.session_state["layers"] = []


def take_class(option: str) -> None:
    """Explain the class whose button was clicked."""
    st.session_state["target"] = option


# Not Streamlit's cache, which would hash a thousand strings at each call.
@lru_cache(maxsize=8)
def class_options(labels: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    """One distinct option a class: its label, with the index where two classes share it."""
    if labels is None:
        return tuple(f"class {index}" for index in range(classes))
    count = Counter(labels)
    return tuple(
        label if count[label] == 1 else f"{label} ({index})" for index, label in enumerate(labels)
    )


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


def description(info: cam.MethodInfo) -> str:
    """What a method shows, and where its colours end."""
    if info.percentile == 100:
        return info.description
    return f"{info.description} The colours end at its {info.percentile:g}th percentile."


def lazy_box(label: str, icon: str, key: str) -> DeltaGenerator | None:
    """An expander whose content is made only while it is open; None while it is not."""
    box = st.expander(label, icon=icon, key=key, on_change="rerun")
    return box if box.open else None


def show_png(content: bytes, alt: str) -> None:
    """A picture as it is: without the format, Streamlit sends a JPEG of it."""
    st.image(content, width="stretch", output_format="PNG", alt=alt)


def as_python(choices: Choices, picture: Picture, alpha: float, colormap: str) -> str:
    """The library call behind Explore, ready to run."""
    options = [f"methods={list(choices.methods)!r}"]
    if choices.target is not None:
        options.append(f"targets={choices.target}")
    if choices.layer is not None:
        options.append(f"layers={choices.layer!r}")
    return (
        f"{model_and_photo(choices.model, choices.trained, picture)}"
        f"maps = cam.attribute(model, model.prepare(photo), {', '.join(options)})\n"
        "seen = model.crop(photo)\n"
        "for name, found in maps.items():\n"
        "    percentile = cam.methods()[name].percentile\n"
        f"    picture = cam.overlay(seen, found.heatmap[0], {colormap!r}, {alpha}, percentile)\n"
        '    picture.save(f"{name}.png")\n'
    )


def model_and_photo(model: str, trained: bool, picture: Picture) -> str:
    """The lines of Python that load both."""
    source = picture.photo.name
    bundled = picture.digest.startswith("sample:")
    image = f'cam.sample("{source}")' if bundled else f"cam.load_image({source!r})"
    seed = "" if trained else f"import torch\n\ntorch.manual_seed({SEED})\n"
    weights = "" if trained else ", weights=None"
    return (
        f"import cam\n{seed or chr(10)}"
        f'model = cam.load_model("{model}"{weights})\n'
        f"photo = {image}\n"
    )
