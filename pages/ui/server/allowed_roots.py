"""Check which folders the operator allows for data and runs.

``CAM_DATA_ROOTS`` names folders, separated as in ``PATH``; without it only generated images are
offered. ``CAM_RUNS`` is the folder of runs, by default ``runs`` where the server was started.
"""

import os
import re
from pathlib import Path

import cam
from cam._data import data_kinds
from cam._data.data_kinds import DataKind
from cam._data.dataset import DataOrigin, Dataset, Files, require_inside
from cam._data.source import GENERATED
from cam._runs.results.example import FOLDER
from cam._runs.storage import run_edits
from cam.pages.ui.server import served

# Names that are the same on every file system, and never a path.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,79}")
LISTS = {".csv", ".json"}
# The run that comes with the package; no folder of a visitor's can have this name.
EXAMPLE = "Example: known answers"
MOST_OFFERED = 200


def read_data_roots() -> tuple[Path, ...]:
    """Return the folders that data may be read from."""
    return read_folders("CAM_DATA_ROOTS")


def read_checkpoint_roots() -> tuple[Path, ...]:
    """Return the folders that weights may be read from."""
    return read_folders("CAM_CHECKPOINT_ROOTS")


def read_folders(variable: str) -> tuple[Path, ...]:
    """Read the folders that a variable of the environment names, separated as in ``PATH``."""
    names = os.environ.get(variable, "").split(os.pathsep)
    return tuple(Path(name).expanduser() for name in names if name.strip())


def get_runs_folder() -> Path:
    """Return the folder of runs."""
    return Path(os.environ.get("CAM_RUNS") or "runs").expanduser()


def get_run_path(name: str) -> Path:
    """Return the folder of a run of that name, or of the example.

    Raises:
        RunError: The name is a path, or a link that leads out of the folder of runs.
    """
    if name == EXAMPLE:
        return FOLDER
    if not _NAME.fullmatch(name) or name != name.strip():
        raise cam.RunError(
            f"{name!r} is no name for a run; use letters, digits, spaces, dots, - and _, 80 at most"
        )
    folder = get_runs_folder()
    try:
        require_inside(folder / name, (folder,))
    except cam.DataError:
        raise cam.RunError(
            f"the run {name!r} is a link that leads out of the folder of runs"
        ) from None
    return folder / name


def find_run_path(name: str) -> Path:
    """Return the folder of a run by its name, or by one that it had before it was renamed.

    Raises:
        RunError: As for :func:`get_run_path`.
    """
    path = get_run_path(name)
    renamed = run_edits.find_renamed(path)
    return get_run_path(renamed.name) if renamed and renamed != path else path


def list_sources() -> list[str]:
    """List the allowed folders, and what at their top may be a data set."""
    sources: list[Path] = []
    for root in read_data_roots():
        try:
            inside = sorted(path for path in root.iterdir() if not path.name.startswith("."))
            folders = [path for path in inside if path.is_dir()]
            # COCO's lists lie there; a folder of pictures may be too large to be looked through.
            notes = [folder / "annotations" for folder in (root, *folders)]
            lists = [file for folder in notes for file in sorted(folder.glob("*.json"))]
        except OSError:
            continue
        tables = [path for path in inside if path in folders or path.suffix.lower() in LISTS]
        sources += [root, *tables, *lists]
    return list(map(str, sources[:MOST_OFFERED]))


def list_folders_near(source: str) -> list[str]:
    """List allowed folders beside a list, and beside its folder, where its images may be."""
    folders: list[str] = []
    for around in list(Path(source).parents)[:2]:
        try:
            inside = require_inside(around, read_data_roots())
            folders += sorted(str(path) for path in inside.iterdir() if path.is_dir())
        except (OSError, cam.DataError):
            # Above the allowed folders there is nothing to offer.
            continue
    return list(dict.fromkeys(folders))[:MOST_OFFERED]


def detect_kind(source: str) -> DataKind:
    """Detect what kind of data an allowed path is.

    Raises:
        DataError: It lies outside of the allowed folders, or is no data set.
    """
    return data_kinds.kind_of(require_inside(source, read_data_roots()))


def open_data(origin: DataOrigin) -> Dataset:
    """Open an allowed data set; no file outside is read, whatever its lists and links say.

    Raises:
        DataError: It lies outside of the allowed folders, or cannot be opened.
    """
    if origin.source.startswith(served.PREFIX):
        return served.open_data(origin.source)
    if origin.source in GENERATED:
        return cam.dataset(origin.source, **origin.options)
    roots = read_data_roots()
    if not roots:
        raise cam.DataError(
            "this server's operator allows no folders of data; only generated images can be used"
        )
    source = require_inside(origin.source, roots)
    if origin.options.get("images") is not None:
        require_inside(origin.options["images"], roots)
    data = cam.dataset(source, **origin.options)
    if isinstance(data, Files):
        data.roots = roots
    # As it was asked for: a link inside of the folder stays a link.
    data.origin = DataOrigin(str(Path(origin.source).expanduser().absolute()), origin.options)
    return data
