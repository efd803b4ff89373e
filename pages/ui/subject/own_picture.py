"""Keep a visitor's picture across pages until they choose another."""

from dataclasses import dataclass

import streamlit as st

import cam
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Picture
from cam.pages.ui.widgets import controls

KINDS = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
LIMIT_MB = 20
_CHOSEN, _COUNT = "_own_picture", "_own_picture_count"


@dataclass(frozen=True, eq=False)
class OwnPicture:
    """What a visitor gave.

    Attributes:
        name: The file's, as the visitor calls it.
        how: "uploaded" or "taken".
        picture: What was read; None where it could not be.
        trouble: Why not, in one sentence.
    """

    name: str
    how: str
    picture: Picture | None
    trouble: str = ""


def given() -> bool:
    """Whether this visitor gave one, be it readable or not."""
    return _CHOSEN in st.session_state


def shown() -> OwnPicture | None:
    """What this visitor gave, on whichever page, and a button that takes it away again."""
    own: OwnPicture | None = st.session_state.get(_CHOSEN)
    if own is None:
        return None
    if own.trouble:
        st.error(own.trouble)
    else:
        st.markdown(f"Picture: **{controls.plain(own.name)}**, {own.how}")
    st.button("Remove this picture", icon=":material/close:", on_click=_remove)
    return own


def choose() -> None:
    """Places to give a picture."""
    # A new key after each choice: what was given is told above, on this page as on the others.
    count = st.session_state.setdefault(_COUNT, 0)
    upload, shot = f"upload_{count}", f"camera_{count}"
    st.file_uploader(
        "or your own picture",
        type=KINDS,
        max_upload_size=LIMIT_MB,
        key=upload,
        on_change=_take,
        args=(upload, "uploaded"),
        help="It stays on this server, in memory, while the page is open. A link cannot carry it: "
        "who opens it sees the sample photo.",
    )
    # The camera is only asked for once its box is open.
    box = controls.lazy_box("or the camera", ":material/photo_camera:", "camera_box", bound=False)
    if box is not None:
        with box:
            st.camera_input("Camera", key=shot, on_change=_take, args=(shot, "taken"))


def _take(key: str, how: str) -> None:
    """Keep a picture, or why it is none, and use it from now on."""
    given = st.session_state.get(key)
    if given is None:
        _remove()
        return
    name = given.name if how == "uploaded" else "camera.jpg"
    try:
        own = OwnPicture(name, how, resources.uploaded(given.getvalue(), name))
    except cam.CamError as error:
        own = OwnPicture(name, how, None, controls.sentence(error))
    drop()
    st.session_state[_CHOSEN] = own
    controls.forget_target()


def _remove() -> None:
    drop()
    controls.forget_target()


def drop() -> None:
    """Another picture was chosen, so this one is not shown any more."""
    st.session_state.pop(_CHOSEN, None)
    st.session_state[_COUNT] = st.session_state.get(_COUNT, 0) + 1
