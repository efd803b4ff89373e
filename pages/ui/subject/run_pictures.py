"""Show an image of a run on the other pages, by link.

Only the photo grid's images, and files below the folders that the operator allowed.
"""

import hashlib
from typing import Any

import streamlit as st
from PIL import Image
from torch import Tensor

import cam
from cam._data.dataset import Dataset
from cam._data.source import GENERATED
from cam._media.images import Photo
from cam.pages.ui.server import allowed_roots, resources, weight_downloads
from cam.pages.ui.server.resources import share
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import ModelChoice, Picture, Weights
from cam.pages.ui.state.selection import OF_IMAGE, RUN, ImageName, Parameters, Selection
from cam.pages.ui.subject import run_checkpoints
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.links import parse_index
from cam.pages.ui.widgets.prose import escape_markdown, report_errors


def make_link(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> Parameters:
    """Make the query of an address that shows this image, explained for the same class.

    Raises:
        CamError: Its model cannot be loaded by name, or its data may not be read here.
    """
    call = run.call
    choice = ModelChoice(
        call.model.name,
        run_checkpoints.require_weights(call.model),
        call.model.prompts or (),
    )
    if call.data.source not in GENERATED:
        allowed_roots.open_data(call.data)
    title = None
    target = facts.get("target")
    # For names alone nothing is downloaded.
    if target is not None and weight_downloads.find_missing(choice) is None:
        labels = resources.load_model(choice).labels
        title = controls.title_classes(labels, int(target) + 1)[int(target)]
    image = ImageName(RUN, name, str(number))
    return Selection(
        image, choice.name, choice.weights.random, prompts=choice.prompts, target=title
    ).write()


def choose_weights(image: ImageName, model: str) -> Weights | None:
    """Take the weights of the run whose image is linked, where they are a file.

    Args:
        image: The image that is chosen.
        model: The name of the model that is chosen; another one than the run's has its usual ones.
    """
    if image.source != RUN:
        return None
    try:
        origin = cam.Run.open(allowed_roots.find_run_path(image.name)).call.model
        weights = run_checkpoints.require_weights(origin)
    except cam.CamError:
        # What is wrong with the run is said beside its picture.
        return None
    if origin.name != model or weights.path is None:
        return None
    st.markdown(f"Weights: those of the run **{escape_markdown(image.name)}**")
    return weights


def show_linked(image: ImageName) -> Picture | None:
    """Show which image of a run is chosen, and a way back; None where there is none."""
    name, number = image.name, image.number
    st.markdown(f"Image {escape_markdown(number)} of the run **{escape_markdown(name)}**")
    st.button("Choose another image", icon=":material/close:", on_click=_leave)
    with report_errors():
        index = parse_index(number)
        if index is None:
            raise cam.RunError(f"the link asks for the image {number[:60]!r}, which is no number")
        return _read_picture(cam.Run.open(allowed_roots.find_run_path(name)), index)
    return None


def _leave() -> None:
    address.write({"image": None}, OF_IMAGE)


@share(max_entries=16, show_spinner="Reading the image …")
def _read_picture(run: cam.Run, number: int) -> Picture:
    data = open_data(run)
    if not 0 <= number < len(data):
        raise cam.RunError(f"the run has no image {number}; it has {len(data)}, from 0")
    item = data[number]
    image = require_image(item)
    content = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
    origin = run.call.data
    options = "".join(f", {key}={value!r}" for key, value in origin.options.items())
    limit = "" if origin.limit is None else f".limit({origin.limit})"
    code = f"cam.dataset({origin.source!r}{options}){limit}[{number}].image"
    return Picture(Photo(image, (), item.id), f"run:{content}", code)


def require_image(item: cam.Item) -> Image.Image:
    """Return an item's image.

    Raises:
        RunError: It is a tensor.
    """
    if isinstance(item.image, Tensor):
        raise cam.RunError("its data are tensors and not images")
    return item.image


@share(max_entries=4, show_spinner="Opening the data …")
def open_data(run: cam.Run) -> Dataset:
    """Open the data of a run, which are those that it measured.

    Raises:
        CamError: They may not be read here, or have changed.
    """
    origin = run.call.data
    data = allowed_roots.open_data(origin)
    data = data if origin.limit is None else data.limit(origin.limit)
    if data.fingerprint != run.config["data"]["fingerprint"]:
        raise cam.RunError("the data have changed since the run; its images are other ones now")
    return data
