"""List the server's images and weights that visitors may open.

``CAM_DATA_ROOTS`` names folders of images, ``CAM_CHECKPOINT_ROOTS`` folders of weights, each
separated as in ``PATH``. Without them nothing of the server's files is offered.
"""

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import streamlit as st

import cam
from cam._data.dataset import require_inside
from cam._data.folder import EXTENSIONS
from cam.pages.ui.server import allowed_roots, resources
from cam.pages.ui.state.choices import Picture

MOST_OFFERED = 1000
WEIGHTS = (".safetensors", ".pth", ".pt")
# A folder that grows is looked at again, and not at each click.
SECONDS = 30


def list_pictures() -> dict[str, str]:
    """List the images that may be opened: path below its folder → path."""
    return _list_files(tuple(map(str, allowed_roots.read_data_roots())), tuple(EXTENSIONS))


def list_checkpoints() -> dict[str, str]:
    """List the weights that may be opened: path below its folder → path."""
    return _list_files(tuple(map(str, allowed_roots.read_checkpoint_roots())), WEIGHTS)


def open_picture(path: str) -> Picture:
    """Read one of the pictures.

    Raises:
        DataError: It lies outside of the allowed folders, or cannot be read.
        ImageError: It is no picture.
    """
    inside = require_inside(path, allowed_roots.read_data_roots())
    try:
        content = Path(inside).read_bytes()
    except OSError as error:
        raise cam.DataError(f"{Path(path).name} cannot be read: {error.strerror}") from None
    return resources.decode_upload(content, Path(path).name)


def require_checkpoint(path: str) -> str:
    """Return a path of weights that lies in an allowed folder.

    Raises:
        DataError: It does not.
    """
    return str(require_inside(path, allowed_roots.read_checkpoint_roots()))


@st.cache_data(ttl=SECONDS, show_spinner=False)
def _list_files(folders: tuple[str, ...], endings: Collection[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for folder in folders:
        for path in islice(_walk(Path(folder), endings), MOST_OFFERED - len(files)):
            label = str(path.relative_to(folder))
            files[label if label not in files else str(path)] = str(path)
    return files


def _walk(folder: Path, endings: Collection[str]) -> Iterator[Path]:
    # Links to folders are not followed: they may lead round in circles, or out.
    for where, inside, names in os.walk(folder):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in endings:
                yield Path(where, name)
