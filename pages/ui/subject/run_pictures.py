"""Show a picture of a run on the other pages, by link.

Not ``run``, which the page Datasets binds and clears from the address as it is left.

Only the photo grid's pictures, and files below the folders that the operator allowed.
"""

import hashlib
from typing import Any

import streamlit as st
from torch import Tensor

import cam
from cam._data.dataset import Dataset
from cam._data.source import GENERATED
from cam._media.images import Photo
from cam.pages.ui.server import allowed_roots, resources, weight_downloads
from cam.pages.ui.server.resources import ModelChoice, Picture, Weights, share
from cam.pages.ui.subject import run_checkpoints
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.prose import report_errors

RUN, ITEM = "of_run", "image"
_LINKED = "_run_picture"


def make_link(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> dict[str, str]:
    """Make the query of an address that shows this picture, explained for the same class.

    Raises:
        CamError: Its model cannot be loaded by name, or its data may not be read here.
    """
    call = run.call
    choice = ModelChoice(call.model.name, run_checkpoints.require_weights(call.model))
    if call.data.source not in GENERATED:
        allowed_roots.open_data(call.data)
    query = {RUN: name, ITEM: str(number), "model": choice.name}
    if choice.weights.random:
        query["untrained"] = "true"
    target = facts.get("target")
    # For names alone nothing is downloaded.
    if target is not None and weight_downloads.find_missing(choice) is None:
        labels = resources.load_model(choice).labels
        query["target"] = controls.title_classes(labels, int(target) + 1)[int(target)]
    return query


def choose_weights(model: str) -> Weights | None:
    """Take the weights of the run whose picture is linked, where they are a file.

    Args:
        model: The name of the model that is chosen; another one than the run's has its usual ones.
    """
    if not is_linked():
        return None
    name = st.query_params.get(RUN, "")
    try:
        origin = cam.Run.open(allowed_roots.get_run_path(name)).call.model
        weights = run_checkpoints.require_weights(origin)
    except cam.CamError:
        # What is wrong with the run is said beside its picture.
        return None
    if origin.name != model or weights.path is None:
        return None
    st.markdown(f"Weights: those of the run **{name}**")
    return weights


def show_linked() -> Picture | None:
    """Show which picture the address asks for, and a way back; None where there is none."""
    name, number = st.query_params.get(RUN, ""), st.query_params.get(ITEM, "")
    st.markdown(f"Image {number} of the run **{name}**")
    st.button("Choose another picture", icon=":material/close:", on_click=_leave)
    with report_errors():
        if not number.isdigit():
            raise cam.RunError(f"the link asks for the image {number!r}, which is no number")
        return _read_picture(cam.Run.open(allowed_roots.get_run_path(name)), int(number))
    return None


def is_linked() -> bool:
    """Return whether the address names a run's picture; it goes along to another page."""
    if RUN in st.query_params and ITEM in st.query_params:
        st.session_state[_LINKED] = {key: st.query_params[key] for key in (RUN, ITEM)}
    elif _LINKED in st.session_state:
        st.query_params.update(st.session_state[_LINKED])
    return _LINKED in st.session_state


def _leave() -> None:
    st.session_state.pop(_LINKED, None)
    for key in (RUN, ITEM):
        st.query_params.pop(key, None)
    controls.forget_target()


@share(max_entries=16, show_spinner="Reading the picture …")
def _read_picture(run: cam.Run, number: int) -> Picture:
    data = _open_data(run)
    if not 0 <= number < len(data):
        raise cam.RunError(f"the run has no image {number}; it has {len(data)}, from 0")
    item = data[number]
    if isinstance(item.image, Tensor):
        raise cam.RunError("its data are tensors and not pictures")
    content = hashlib.sha256(repr(item.image.size).encode() + item.image.tobytes()).hexdigest()
    origin = run.call.data
    options = "".join(f", {key}={value!r}" for key, value in origin.options.items())
    limit = "" if origin.limit is None else f".limit({origin.limit})"
    code = f"cam.dataset({origin.source!r}{options}){limit}[{number}].image"
    return Picture(Photo(item.image, (), item.id), f"run:{content}", code)


@share(max_entries=4, show_spinner="Opening the data …")
def _open_data(run: cam.Run) -> Dataset:
    origin = run.call.data
    data = allowed_roots.open_data(origin)
    data = data if origin.limit is None else data.limit(origin.limit)
    if data.fingerprint != run.config["data"]["fingerprint"]:
        raise cam.RunError("the data have changed since the run; its pictures are other ones now")
    return data
