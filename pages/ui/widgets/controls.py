"""Draw small shared widgets: options, callbacks, wording."""

import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Literal
from urllib.parse import urlsplit

import streamlit as st
from PIL.Image import Image
from streamlit.delta_generator import DeltaGenerator
from torch import Tensor

import cam
from cam.errors import nearest
from cam.pages.ui.server.resources import SEED, Choices, OwnWeights, Picture, Weights
from cam.pages.ui.widgets.html_charts import SIGNED

SAMPLE_TITLES = {
    "chelsea": "Cat",
    "coffee": "Coffee",
    "rocket": "Rocket",
    "motorcycle_left": "Motorcycle",
}
# What a link asks for in vain is told that long, or until the page is left alone.
LINKS_SECONDS = 20
_LINKS = "_links_in_vain"
# Those whose lightness rises steadily come first: they are read right with any colour vision.
COLORMAPS = ["inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray"]


def sentence(message: cam.CamError | str) -> str:
    """An error's message, or a note, with a capital and a full stop."""
    text = str(message)
    return text[0].upper() + text[1:].rstrip(".") + "."


def plain(name: str) -> str:
    """A stranger's name, without the marks of Markdown."""
    return re.sub(r"([\\`*_{}\[\]()#+!|<>~$:])", r"\\\1", name)


def stem(picture: Picture) -> str:
    """A file name for what is downloaded."""
    return PurePath(picture.photo.name).stem or "picture"


def check_link(key: str, what: str, options: Iterable[str]) -> None:
    """Say what a link asks for in vain; Streamlit would show the default without a word.

    Called before the widget that is bound to ``key``, which then clears the address.
    """
    known = list(options)
    # Read before, it is no link any more: now another model, say, has other layers.
    for asked in () if key in st.session_state else st.query_params.get_all(key):
        # Empty where nothing is chosen of several.
        if asked and asked not in known:
            hint = nearest(asked, known)
            told = f"The link asks for the {what} {_as_code(asked)}, which is not here; {hint}"
            _remember(key, told if told.endswith("?") else f"{told}.")
    _tell_of_link(key)


def check_number(key: str, what: str, low: float = -math.inf, high: float = math.inf) -> None:
    """The same of a number that a link asks for."""
    for asked in st.query_params.get_all(key):
        try:
            sound = low <= float(asked) <= high
        except ValueError:
            sound = False
        if not sound:
            limits = "" if high == math.inf else f" from {low:,} to {high:,}"
            told = f"The link asks for {_as_code(asked)} as {what!r}, which is no number{limits}."
            _remember(key, told)
    _tell_of_link(key)


def _as_code(asked: str) -> str:
    """As code: whoever wrote the link puts no marks and no links into the page."""
    return "`" + asked[:60].replace("`", "'") + "…" * (len(asked) > 60) + "`"


def _remember(key: str, message: str) -> None:
    """As the address is cleared, the next run would not know of it any more."""
    st.session_state.setdefault(_LINKS, {})[_where(), key, message] = time.monotonic()


def _tell_of_link(key: str) -> None:
    """Also in the runs that follow by themselves, as when a job is done."""
    links = st.session_state.get(_LINKS, {})
    for (where, own, message), since in list(links.items()):
        if (where, own) == (_where(), key):
            if time.monotonic() - since < LINKS_SECONDS:
                st.warning(message)
            else:
                del links[where, own, message]


def _where() -> str:
    return urlsplit(st.context.url or "").path


def forget_target() -> None:
    """Another picture has other classes: go back to its top class."""
    st.session_state["target"] = None
    # On the pages that have these.
    if "against" in st.session_state:
        st.session_state["against"] = None
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


@dataclass(frozen=True)
class Display:
    """How heatmaps are shown.

    Attributes:
        alpha: Opacity, 0 to 1.
        colormap: One of :data:`COLORMAPS`.
        threshold: Where a map is below it, the picture is left as it is; 0 to 1.
        signed: Whether maps that tell for from against are shown with both.
    """

    alpha: float = 0.5
    colormap: str = COLORMAPS[0]
    threshold: float = 0.0
    signed: bool = False

    def values(self, attribution: cam.Attribution) -> tuple[Tensor, bool]:
        """The first picture's map (h, w): in [-1, 1] if it is shown signed, else in [0, 1]."""
        raw = attribution.raw[0]
        if not self.signed or not bool((raw < 0).any()):
            return attribution.heatmap[0], False
        return raw / raw.abs().max(), True

    def over(self, seen: Image, attribution: cam.Attribution) -> Image:
        """A map over what the model sees."""
        values, signed = self.values(attribution)
        return cam.overlay(
            seen,
            values,
            SIGNED if signed else self.colormap,
            self.alpha,
            cam.methods()[attribution.method].percentile,
            self.threshold,
            signed,
        )


def choose_alpha() -> float:
    """Opacity of the heatmaps."""
    return st.slider(
        "Opacity of the heatmap", 0.0, 1.0, 0.5, 0.05, key="opacity", bind="query-params"
    )


def choose_colormap() -> str:
    """Colours of the heatmaps."""
    return st.selectbox("Colour map", COLORMAPS, key="colormap", bind="query-params")


def choose_display() -> Display:
    """Opacity, threshold, colours and signs of the heatmaps."""
    columns = st.columns([3, 3, 2, 3], vertical_alignment="bottom")
    with columns[0]:
        alpha = choose_alpha()
    with columns[1]:
        threshold = st.slider(
            "Hide evidence below",
            0.0,
            0.95,
            0.0,
            0.05,
            key="threshold",
            bind="query-params",
            help="Of the strongest, which is 1.",
        )
    with columns[2]:
        colormap = choose_colormap()
    with columns[3]:
        signed = st.toggle(
            "For and against",
            key="signed",
            bind="query-params",
            help="Red speaks for the class, blue against it, where a method tells them apart.",
        )
    return Display(alpha, colormap, threshold, signed)


def description(info: cam.MethodInfo) -> str:
    """What a method shows, and where its colours end."""
    if info.percentile == 100:
        return info.description
    return f"{info.description} The colours end at its {info.percentile:g}th percentile."


def lazy_box(label: str, icon: str, key: str, bound: bool = True) -> DeltaGenerator | None:
    """An expander whose content is made only while it is open; None while it is not.

    Args:
        label: What stands on it.
        icon: Before the label.
        key: The widget's.
        bound: Whether a link opens it too.
    """
    bind: Literal["query-params"] | None = "query-params" if bound else None
    box = st.expander(label, icon=icon, key=key, on_change="rerun", bind=bind)
    return box if box.open else None


def scroll_here() -> None:
    """Bring what follows into view, where a click far below has changed it."""
    st.html(
        '<span class="look-here" style="scroll-margin-top:4rem"></span>'
        '<script>document.querySelector(".look-here").scrollIntoView()</script>',
        unsafe_allow_javascript=True,
    )


def cells(count: int, most: int) -> list[DeltaGenerator]:
    """Places for so many pictures, in as few rows as hold them and all rows alike."""
    rows = -(-count // most)
    width = -(-count // rows)
    return [column for _ in range(rows) for column in st.columns(width)][:count]


def show_png(content: bytes, alt: str) -> None:
    """A picture as it is: without the format, Streamlit sends a JPEG of it."""
    st.image(content, width="stretch", output_format="PNG", alt=alt)


def as_python(choices: Choices, picture: Picture, top: int, display: Display) -> str:
    """The library call behind Explore, ready to run."""
    told = [
        f"cam.method({asked.name!r}, {', '.join(f'{k}={v!r}' for k, v in asked.parameters)})"
        if asked.parameters
        else repr(asked.name)
        for asked in choices.methods
    ]
    options = [f"methods=[{', '.join(told)}]"]
    if choices.against is not None:
        target = top if choices.target is None else choices.target
        options.append(f"targets=cam.targets.Contrast({target}, {choices.against})")
    elif choices.target is not None:
        options.append(f"targets={choices.target}")
    if choices.layer is not None:
        options.append(f"layers={choices.layer!r}")
    look = f"{display.colormap!r}, {display.alpha}, percentile"
    look += f", {display.threshold}" if display.threshold else ""
    lines = f"    picture = cam.overlay(seen, found.heatmap[0], {look})\n"
    if display.signed:
        lines = (
            "    raw, signed = found.raw[0], bool((found.raw[0] < 0).any())\n"
            "    values = raw / raw.abs().max() if signed else found.heatmap[0]\n"
            f"    colours = {SIGNED!r} if signed else {display.colormap!r}\n"
            f"    options = colours, {display.alpha}, percentile, {display.threshold}, signed\n"
            "    picture = cam.overlay(seen, values, *options)\n"
        )
    return (
        f"{model_and_photo(choices.model, choices.trained, picture)}"
        f"maps = cam.attribute(model, model.prepare(photo), {', '.join(options)})\n"
        "seen = model.crop(photo)\n"
        "for name, found in maps.items():\n"
        "    percentile = cam.methods()[name].percentile\n"
        f"{lines}"
        '    picture.save(f"{name}.png")\n'
    )


def model_and_photo(
    model: str,
    trained: Weights,
    picture: Picture | None,
    other: tuple[str, Weights] | None = None,
) -> str:
    """The lines of Python that load a model, a second one and a picture where there are such."""
    lines = _loading("model", model, trained)
    lines += "" if other is None else _loading("other", *other)
    if picture is not None:
        bundled = picture.digest.startswith("sample:")
        source = picture.photo.name
        image = f'cam.sample("{source}")' if bundled else f"cam.load_image({source!r})"
        lines += f"photo = {picture.code or image}\n"
    imports = "import cam\n"
    imports += "import torch\n" if "torch.manual_seed" in lines else ""
    return f"{imports}\n{lines}"


def _loading(variable: str, model: str, trained: Weights) -> str:
    seed = "" if trained else f"torch.manual_seed({SEED})\n"
    weights = "" if trained else ", weights=None"
    if isinstance(trained, str):
        weights = f", weights={trained!r}"
    elif isinstance(trained, OwnWeights):
        # As the visitor has them; where they lie on the server is nobody's business.
        weights = f", weights={trained.name!r}"
        weights += f", labels={trained.labels!r}" if trained.labels else ""
    return f'{seed}{variable} = cam.load_model("{model}"{weights})\n'
