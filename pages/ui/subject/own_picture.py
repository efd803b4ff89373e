"""Keep a visitor's own images while the page is open."""

from functools import partial

import streamlit as st

import cam
from cam.pages.ui.server import resources
from cam.pages.ui.state import address
from cam.pages.ui.state.choices import Picture
from cam.pages.ui.state.selection import OF_IMAGE, UPLOAD, ImageName
from cam.pages.ui.state.visitor import get_visitor, read_widget
from cam.pages.ui.widgets import controls
from cam.pages.ui.widgets.prose import as_sentence, escape_markdown

LIMIT_MB = 20
# Of a digest: enough to tell the images of a visitor apart in an address.
DIGITS = 12


def show_current(digest: str) -> None:
    """Show which own image the address names, on whichever page, and a way back from it."""
    picture, title = get_visitor().images.get(digest, (None, ""))
    if picture is not None:
        st.markdown(title)
    st.button("Remove this image", icon=":material/close:", on_click=_remove)


def read_picture(digest: str) -> Picture:
    """Return an own image.

    Raises:
        DataError: It is another visitor's, or is not kept any more.
    """
    if digest not in get_visitor().images:
        raise cam.DataError(
            "the link names an image that was uploaded; a link cannot carry it, so upload it here"
        )
    return get_visitor().images[digest][0]


def choose_picture() -> None:
    """Draw where an image can be given, and why the latest file is none."""
    visitor = get_visitor()
    # A new key after each choice: what was given is shown above, on this page as on the others.
    upload, shot = f"upload_{visitor.uploads}", f"camera_{visitor.uploads}"
    st.file_uploader(
        "Upload an image",
        # Any: a refused ending would be a red mark without a reason; the decoder gives one.
        type=None,
        max_upload_size=LIMIT_MB,
        key=upload,
        on_change=_take,
        args=(upload,),
        help="It stays on this server, in memory, while the page is open. A link cannot carry it.",
    )
    if visitor.refused:
        st.error(visitor.refused)
    # The camera is only asked for once its box is open.
    draw = partial(st.camera_input, key=shot, on_change=_take, args=(shot, "camera.jpg"))
    controls.draw_lazily(
        "Use the camera", "photo_camera", "camera_box", draw, "Camera", bound=False
    )


def _take(key: str, name: str | None = None) -> None:
    """Keep an image and show it, or keep why it is none and leave what was shown.

    Args:
        key: Of the widget that holds the file.
        name: Of a shot, which has none itself.
    """
    upload, visitor = read_widget(key), get_visitor()
    if upload is None:
        return
    visitor.uploads += 1
    try:
        picture = resources.decode_upload(upload.getvalue(), name or upload.name)
    except cam.CamError as error:
        visitor.refused = as_sentence(error)
        return
    visitor.refused = ""
    how = "uploaded" if name is None else "taken"
    digest = picture.digest[:DIGITS]
    title = f"Image: **{escape_markdown(name or upload.name)}**, {how}"
    visitor.keep_image(digest, picture, title)
    address.write({"image": [str(ImageName(UPLOAD, digest))]}, OF_IMAGE)


def _remove() -> None:
    forget_refused()
    address.write({"image": None}, OF_IMAGE)


def forget_refused() -> None:
    """Say no more why a file was no image: another one was chosen."""
    get_visitor().refused = ""
