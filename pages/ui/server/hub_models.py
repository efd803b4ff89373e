"""List the checkpoints of Hugging Face that the operator allows.

``CAM_HUB_MODELS`` names repositories of the hub and networks of open_clip
(``open_clip/ARCHITECTURE/TAG``), separated by commas or spaces; and whatever ``save_pretrained``
wrote into the folders of ``CAM_CHECKPOINT_ROOTS`` may be opened. A visitor can name no other:
nobody fills this server's disk, or reads a folder of it, by an address.
"""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import streamlit as st

import cam
from cam._data.dataset import require_inside
from cam._models.families.hugging_face import PREFIX
from cam._models.hub.checkpoint_folder import CONFIG, CheckpointFolder
from cam._models.load import names_checkpoint
from cam.pages.ui.server import allowed_roots, served

MOST_OFFERED = 200
# A folder that grows is looked at again, and not at each click.
SECONDS = 30


def list_names() -> tuple[str, ...]:
    """List the names by which the allowed checkpoints are loaded."""
    named = re.split(r"[,\s]+", os.environ.get("CAM_HUB_MODELS", ""))
    repositories = [name if names_checkpoint(name) else f"{PREFIX}{name}" for name in named if name]
    folders = _list_folders(tuple(map(str, allowed_roots.read_checkpoint_roots())))
    return tuple(dict.fromkeys([*repositories, *folders]))


def require_allowed(name: str) -> None:
    """Refuse a checkpoint, or code, that the operator does not allow.

    Raises:
        ModelError: It is such.
    """
    served.refuse_code(name)
    if names_checkpoint(name) and name not in list_names():
        raise cam.ModelError(
            f"this server's operator does not allow the model {name!r}; choose one of the list"
        )


@st.cache_data(ttl=SECONDS, show_spinner=False)
def _list_folders(roots: tuple[str, ...]) -> list[str]:
    return [
        f"{PREFIX}{folder}" for root in roots for folder in islice(_walk(root, roots), MOST_OFFERED)
    ]


def _walk(root: str, roots: tuple[str, ...]) -> Iterator[str]:
    # Links to folders are not followed: they may lead round in circles, or out.
    for where, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        if CONFIG not in names:
            continue
        try:
            # A link among the files may lead out.
            for name in names:
                require_inside(Path(where, name), tuple(map(Path, roots)))
            if CheckpointFolder(where, Path(where)).find_weights():
                yield str(Path(where).absolute())
        except (cam.DataError, cam.CheckpointError):
            continue
