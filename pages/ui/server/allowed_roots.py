"""Check which folders the operator allows for data and runs.

``CAM_DATA_ROOTS`` names folders, separated as in ``PATH``; without it only the photo grid is
offered. ``CAM_RUNS`` is the folder of runs, by default ``runs`` where the server was started.
"""

import os
import re
from pathlib import Path

import cam
from cam._data import data_kinds
from cam._data.data_kinds import DataKind
from cam._data.dataset import DataOrigin, Dataset, Files, require_inside

# Names that are the same on every file system, and never a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}")
LISTS = {".csv", ".json"}
OFFERED = 200


def data_roots() -> tuple[Path, ...]:
    """The folders that data may be read from."""
    return folders_of("CAM_DATA_ROOTS")


def folders_of(variable: str) -> tuple[Path, ...]:
    """The folders that a variable of the environment names, separated as in ``PATH``."""
    named = os.environ.get(variable, "").split(os.pathsep)
    return tuple(Path(one).expanduser() for one in named if one.strip())


def runs_folder() -> Path:
    """Where runs are."""
    return Path(os.environ.get("CAM_RUNS") or "runs").expanduser()


def run_path(name: str) -> Path:
    """The folder of a run of that name.

    Raises:
        RunError: The name is a path, or a link that leads out of the folder of runs.
    """
    if not _NAME.fullmatch(name) or name != name.strip():
        raise cam.RunError(
            f"{name!r} is no name for a run; use letters, digits, spaces, dots, - and _, 80 at most"
        )
    folder = runs_folder()
    try:
        require_inside(folder / name, (folder,))
    except cam.DataError:
        raise cam.RunError(
            f"the run {name!r} is a link that leads out of the folder of runs"
        ) from None
    return folder / name


def offers() -> list[str]:
    """What lies at the top of the allowed folders and may be a data set, and the folders."""
    found: list[str] = []
    for root in data_roots():
        try:
            inside = sorted(one for one in root.iterdir() if not one.name.startswith("."))
            # COCO's lists lie there; a folder of pictures may be too large to be looked through.
            under = [root, *(one for one in inside if one.is_dir())]
            lists = [file for one in under for file in sorted((one / "annotations").glob("*.json"))]
        except OSError:
            continue
        found += [str(root)]
        found += [str(one) for one in inside if one.is_dir() or one.suffix.lower() in LISTS]
        found += [str(one) for one in lists]
    return found[:OFFERED]


def folders_near(source: str) -> list[str]:
    """Allowed folders beside a list, and beside its folder, where its pictures may be."""
    found: list[str] = []
    for place in (Path(source).parent, Path(source).parent.parent):
        try:
            inside = require_inside(place, data_roots())
            found += sorted(str(one) for one in inside.iterdir() if one.is_dir())
        except (OSError, cam.DataError):
            # Above the allowed folders there is nothing to offer.
            continue
    return list(dict.fromkeys(found))[:OFFERED]


def kind_of(source: str) -> DataKind:
    """What kind of data an allowed path is.

    Raises:
        DataError: It lies outside of the allowed folders, or is no data set.
    """
    return data_kinds.kind_of(require_inside(source, data_roots()))


def open_data(origin: DataOrigin) -> Dataset:
    """Open a data set that is allowed; whatever its lists and links say, no file outside is read.

    Raises:
        DataError: It lies outside of the allowed folders, or cannot be opened.
    """
    if origin.source == "photo-grid":
        return cam.dataset(origin.source, **origin.options)
    roots = data_roots()
    if not roots:
        raise cam.DataError(
            "this server's operator allows no folders of data; only the photo grid can be used"
        )
    source = require_inside(origin.source, roots)
    if origin.options.get("images") is not None:
        require_inside(origin.options["images"], roots)
    found = cam.dataset(source, **origin.options)
    if isinstance(found, Files):
        found.roots = roots
    # As it was asked for: a link inside of the folder stays a link.
    found.origin = DataOrigin(str(Path(origin.source).expanduser().absolute()), origin.options)
    return found
