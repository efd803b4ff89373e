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
from cam._media.images import Photo
from cam.pages.ui.server import allowed_roots, resources, weight_downloads
from cam.pages.ui.server.resources import Picture, Weights
from cam.pages.ui.subject import run_checkpoints
from cam.pages.ui.widgets import controls

RUN, ITEM = "of_run", "image"
_ASKED = "_run_picture"


def link(run: cam.Run, name: str, number: int, facts: dict[str, Any]) -> dict[str, str]:
    """The query of an address that shows this picture, explained for the same class.

    Raises:
        CamError: Its model cannot be loaded by name, or its data may not be read here.
    """
    call = run.call
    trained = run_checkpoints.allowed(call.model)
    if call.data.source != "photo-grid":
        allowed_roots.open_data(call.data)
    query = {RUN: name, ITEM: str(number), "model": call.model.name}
    if not trained:
        query["untrained"] = "true"
    target = facts.get("target")
    # For names alone nothing is downloaded.
    if target is not None and weight_downloads.missing(call.model.name, trained) is None:
        labels = resources.model(call.model.name, trained).labels
        query["target"] = controls.class_options(labels, int(target) + 1)[int(target)]
    return query


def choose_weights(model: str) -> Weights | None:
    """The weights of the run whose picture is asked for, where they are its own.

    Args:
        model: The name of the model that is chosen; another one than the run's has its usual ones.
    """
    name = st.query_params.get(RUN, "")
    if not asked():
        return None
    try:
        origin = cam.Run.open(allowed_roots.run_path(name)).call.model
        trained = run_checkpoints.allowed(origin)
    except cam.CamError:
        # What is wrong with the run is told beside its picture.
        return None
    if origin.name != model or isinstance(trained, bool):
        return None
    st.markdown(f"Weights: those of the run **{name}**")
    return trained


def choose() -> Picture | None:
    """The picture that the address asks for, and a way back; None where there is none."""
    name, number = st.query_params.get(RUN, ""), st.query_params.get(ITEM, "")
    st.markdown(f"Image {number} of the run **{name}**")
    st.button("Choose another picture", icon=":material/close:", on_click=_leave)
    try:
        if not number.isdigit():
            raise cam.RunError(f"the link asks for the image {number!r}, which is no number")
        run = cam.Run.open(allowed_roots.run_path(name))
        return _picture(str(run.path), str(run.notes.get("started")), int(number), run)
    except cam.CamError as error:
        st.error(controls.sentence(error))
        return None


def asked() -> bool:
    """Whether the address names a run's picture; on the way to another page it goes along."""
    if RUN in st.query_params and ITEM in st.query_params:
        st.session_state[_ASKED] = {key: st.query_params[key] for key in (RUN, ITEM)}
    elif _ASKED in st.session_state:
        st.query_params.update(st.session_state[_ASKED])
    return _ASKED in st.session_state


def _leave() -> None:
    st.session_state.pop(_ASKED, None)
    for key in (RUN, ITEM):
        st.query_params.pop(key, None)
    controls.forget_target()


@st.cache_resource(max_entries=16, show_spinner="Reading the picture …")
def _picture(path: str, started: str, number: int, _run: cam.Run) -> Picture:
    call = _run.call
    data = _data(path, started, _run)
    if not 0 <= number < len(data):
        raise cam.RunError(f"the run has no image {number}; it has {len(data)}, from 0")
    item = data[number]
    if isinstance(item.image, Tensor):
        raise cam.RunError("its data are tensors and not pictures")
    content = hashlib.sha256(repr(item.image.size).encode() + item.image.tobytes()).hexdigest()
    options = "".join(f", {key}={value!r}" for key, value in call.data.options.items())
    limit = "" if call.data.limit is None else f".limit({call.data.limit})"
    code = f"cam.dataset({call.data.source!r}{options}){limit}[{number}].image"
    return Picture(Photo(item.image, (), item.id), f"run:{content}", code)


@st.cache_resource(max_entries=4, show_spinner="Opening the data …")
def _data(path: str, started: str, _run: cam.Run) -> Dataset:
    call = _run.call
    data = allowed_roots.open_data(call.data)
    data = data if call.data.limit is None else data.limit(call.data.limit)
    if data.fingerprint != _run.config["data"]["fingerprint"]:
        raise cam.RunError("the data have changed since the run; its pictures are other ones now")
    return data
