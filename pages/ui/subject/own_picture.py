"""Keep a visitor's picture across pages until they choose another."""

from dataclasses import dataclass
from functools import partial

import streamlit as st

import cam
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import Picture
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.prose import as_sentence, escape_markdown

KINDS = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"]
LIMIT_MB = 20
_CURRENT, _COUNT = "_own_picture", "_own_picture_count"


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


def is_chosen() -> bool:
    """Return whether this visitor gave a picture, be it readable or not."""
    return _CURRENT in st.session_state


def show_current() -> OwnPicture | None:
    """Show what this visitor gave, on whichever page, and a button that takes it away again."""
    own_picture: OwnPicture | None = st.session_state.get(_CURRENT)
    if own_picture is None:
        return None
    if own_picture.trouble:
        st.error(own_picture.trouble)
    else:
        st.markdown(f"Picture: **{escape_markdown(own_picture.name)}**, {own_picture.how}")
    st.button("Remove this picture", icon=":material/close:", on_click=_remove)
    return own_picture


def choose_picture() -> None:
    """Draw where a picture can be given."""
    # A new key after each choice: what was given is shown above, on this page as on the others.
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
    draw = partial(st.camera_input, key=shot, on_change=_take, args=(shot, "taken"))
    controls.draw_lazily("or the camera", "photo_camera", "camera_box", draw, "Camera", bound=False)


def _take(key: str, how: str) -> None:
    """Keep a picture, or why it is none, and use it from now on."""
    upload = st.session_state.get(key)
    if upload is None:
        _remove()
        return
    name = upload.name if how == "uploaded" else "camera.jpg"
    try:
        picture = OwnPicture(name, how, resources.decode_upload(upload.getvalue(), name))
    except cam.CamError as error:
        picture = OwnPicture(name, how, None, as_sentence(error))
    _remove()
    st.session_state[_CURRENT] = picture


def _remove() -> None:
    drop()
    controls.forget_target()


def drop() -> None:
    """Show this picture no more: another one was chosen."""
    st.session_state.pop(_CURRENT, None)
    st.session_state[_COUNT] = st.session_state.get(_COUNT, 0) + 1
