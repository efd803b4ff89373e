"""Open a data set from a path or from memory."""

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cam._data.coco import open_coco
from cam._data.dataset import DataOrigin, Dataset
from cam._data.folder import open_csv, open_folder
from cam._data.groups import Groups, Regrouped
from cam._data.known_pictures import KnownPictures
from cam._data.pet import holds_pet, open_pet
from cam._data.photo_grid import PhotoGrid
from cam._data.torch_dataset import Wrapped
from cam._data.voc import find_voc_root, open_voc
from cam.errors import DataError, nearest

GENERATED: Mapping[str, Callable[..., Dataset]] = {"photo-grid": PhotoGrid, "known": KnownPictures}
"""Data sets that need no file, by name."""


def dataset(source: object, *, groups: Groups | None = None, **options: Any) -> Dataset:
    """Open a data set.

    Args:
        source: ``"photo-grid"`` (options ``size``, ``n``, ``seed``), mosaics of the sample photos
            that need no download; ``"known"`` (options ``network``, ``size``, ``seed``), pictures
            for a network of ``cam.load_model("known/…")``, whose exact attribution is known; the
            path of a folder of pictures (its folders are the classes),
            of a CSV with columns path and label (``delimiter``), of COCO's instances as JSON
            (``images``, ``truth``, ``items``), of Pascal VOC's root (``split``, ``truth``) or of
            Oxford-IIIT Pet's (``split``); or any ``torch.utils.data.Dataset`` with a length.
        groups: Which items are no independent ones, such as those of one scene or patient: a name
            for each item, a function from an item's ``id`` to its name, or a column of the CSV.
            None: each picture is a group. Intervals and tests count groups, not items.
        options: Those of the kind of data set.

    Returns:
        Items in a fixed order, read when they are asked for.

    Raises:
        DataError: There is nothing there, it cannot be read, an option does not exist, or the
            groups leave items out or are a single one.
    """
    opener, arguments = _choose_opener(source)
    allowed = [
        name
        for name, parameter in inspect.signature(opener).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    ]
    for name in options:
        if name not in allowed:
            raise DataError(f"there is no option {name!r} here; {nearest(name, allowed)}")
    if isinstance(groups, str):
        if "groups" not in allowed:
            raise DataError(
                f"groups={groups!r} names a column, and only a CSV has columns; give a list with a "
                "group for each item, or a function of an item's id"
            )
        options["groups"] = groups
    items = opener(*arguments, **options)
    if groups is not None and not isinstance(groups, str):
        return Regrouped(items, groups)
    if arguments and isinstance(arguments[0], Path):
        plain = {
            name: str(Path(value).absolute()) if name == "images" and value is not None else value
            for name, value in options.items()
        }
        items.origin = DataOrigin(str(arguments[0].absolute()), plain)
    return items


def _choose_opener(source: object) -> tuple[Callable[..., Dataset], tuple[object, ...]]:
    if isinstance(source, Dataset):
        return lambda: source, ()
    if isinstance(source, str) and source in GENERATED:
        return GENERATED[source], ()
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        try:
            return find_opener(path), (path,)
        except OSError as error:
            raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if hasattr(source, "__getitem__"):
        return Wrapped, (source,)
    raise DataError(
        "a data set is 'photo-grid', 'known', a path or a torch.utils.data.Dataset, not "
        f"{type(source).__name__}"
    )


def find_opener(path: Path) -> Callable[..., Dataset]:
    """Find what opens a path; :func:`cam._data.data_kinds.kind_of` describes it.

    Raises:
        DataError: There is nothing there, it may not be read, or it is no data set.
    """
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise DataError(f"the folder {str(path)!r} may not be read by this user")
        if find_voc_root(path) is not None:
            return open_voc
        return open_pet if holds_pet(path) else open_folder
    if not path.exists():
        raise DataError(
            f"there is no data set {str(path)!r}; give 'photo-grid', 'known', a folder, a CSV or "
            "COCO's JSON"
        )
    openers: dict[str, Callable[..., Dataset]] = {".csv": open_csv, ".json": open_coco}
    if path.suffix.lower() not in openers:
        raise DataError(f"{str(path)!r} is no data set; a file is a .csv or COCO's .json")
    return openers[path.suffix.lower()]
