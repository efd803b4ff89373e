"""Change the image that is explained, as the address says it."""

from collections.abc import Callable, Sequence

import streamlit as st
from PIL import Image

import cam
from cam._media.edits import Edit, edit_image
from cam._media.images import Photo
from cam._models.preprocessing import find_input_box
from cam.pages.ui.server import resources
from cam.pages.ui.server.resources import share
from cam.pages.ui.state.choices import ModelChoice, Picture, write_reading
from cam.pages.ui.widgets import links
from cam.pages.ui.widgets.prose import as_sentence

EDITED_KEPT = 16
# Each is made alone as well, to be compared: more would not fit into what is kept.
MOST = 12
MIDDLE = 50
# Of the longer side: what is cut away by less needs no slider.
WORTH_MOVING = 0.1


def move_crop(picture: Picture) -> Picture:
    """Choose which part of a long image is looked at, where more than a margin is cut away."""
    width, height = picture.photo.image.size
    if abs(width - height) < WORTH_MOVING * max(width, height):
        return picture
    ends = ("left", "right") if width > height else ("top", "bottom")
    about = f"The model sees a square: 0 is the {ends[0]} end of the image, 100 the {ends[1]} end."
    position = int(links.choose_share("Crop position", 0, 100, MIDDLE, 1, "position", help=about))
    return picture if position == MIDDLE else _cut_square(picture, position)


@share(max_entries=EDITED_KEPT)
def _cut_square(picture: Picture, position: int) -> Picture:
    image = picture.photo.image
    side, spare = min(image.size), abs(image.width - image.height) * position // 100
    left, top = (spare, 0) if image.width > image.height else (0, spare)
    box = (left, top, left + side, top + side)
    photo = Photo(image.crop(box), picture.photo.notes, picture.photo.name)
    code = f"{write_reading(picture)}.crop({box})"
    return Picture(photo, f"{picture.digest}|{position}", code)


def check_edits(
    choice: ModelChoice, picture: Picture, edits: Sequence[str]
) -> tuple[Picture, tuple[str, ...]]:
    """Change the image; what cannot be done is one sentence and is left out.

    Returns:
        The image, and the edits that were made.
    """
    working = list_possible(edits[:MOST], st.warning)
    if len(edits) > MOST:
        st.warning(f"The link asks for {len(edits)} edits; here are the first {MOST}.")
    try:
        return edit_picture(choice, picture, working), working
    except cam.CamError as error:
        st.warning(as_sentence(error))
        return picture, ()


def list_possible(
    edits: Sequence[str], warn: Callable[[str], object] = lambda _: None
) -> tuple[str, ...]:
    """List the edits that can be done, and warn of each of the others."""
    possible = []
    for text in edits:
        try:
            Edit.parse(text)
        except cam.CamError as error:
            warn(f"The link asks for an edit that cannot be done: {as_sentence(error)}")
        else:
            possible.append(text)
    return tuple(possible)


def edit_picture(choice: ModelChoice, picture: Picture, edits: tuple[str, ...]) -> Picture:
    """Change parts of what a model sees of an image; without edits it is the image itself.

    Raises:
        ImageError: An edit cannot be done.
        InputError: Which part the model sees cannot be read from its transform.
    """
    return _edit(choice, picture, edits) if edits else picture


@share(max_entries=EDITED_KEPT)
def _edit(choice: ModelChoice, picture: Picture, edits: tuple[str, ...]) -> Picture:
    image: Image.Image = picture.photo.image
    box = find_input_box(resources.load_model(choice).transform, image.size)
    if box is None:
        raise cam.InputError(
            f"which part of an image {choice.name} sees cannot be read from its transform, so "
            "nothing there can be changed"
        )
    photo = Photo(edit_image(image, box, edits), picture.photo.notes, picture.photo.name)
    code = f"edit_image({write_reading(picture)}, {box}, {list(edits)})"
    return Picture(photo, f"{picture.digest}|{box}|{'|'.join(edits)}", code)
