"""Name the kind of a data source and the options it offers."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cam._data.coco import TRUTHS as COCO_TRUTHS
from cam._data.coco import open_coco
from cam._data.folder import DELIMITERS, open_csv, open_folder
from cam._data.pet import list_pet_splits, open_pet
from cam._data.source import find_opener
from cam._data.voc import TRUTHS as VOC_TRUTHS
from cam._data.voc import find_voc_root, list_voc_splits, open_voc
from cam.errors import DataError

Options = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DataKind:
    """A kind of data set.

    Attributes:
        name: A short one: "folder", "csv", "coco", "voc" or "pet".
        title: What people call it.
        items: What one item of it is.
        options: Option of :func:`cam.dataset` → its values, the default first;
            none where it is a folder's path.
    """

    name: str
    title: str
    items: str
    options: Options = field(default_factory=dict)


def kind_of(source: str | os.PathLike[str]) -> DataKind:
    """Say what a path is, without reading the data.

    Raises:
        DataError: There is nothing there, it may not be read, or it is no data set.
    """
    path = Path(source).expanduser()
    try:
        name, title, items, list_options = _KINDS[find_opener(path)]
        options = list_options(path)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    # A folder is typed in; a list that is not there cannot be chosen.
    return DataKind(
        name,
        title,
        items,
        {key: values for key, values in options.items() if values or key == "images"},
    )


def _voc_options(path: Path) -> dict[str, tuple[str, ...]]:
    folder = find_voc_root(path)
    drawn = folder is not None and (folder / "SegmentationClass").is_dir()
    return {"truth": VOC_TRUTHS if drawn else VOC_TRUTHS[:1], "split": list_voc_splits(path)}


_EACH_CLASS = "Each class on each picture is one item."
# Opener → name, title, what an item is, and the options.
_KINDS: Mapping[Callable[..., object], tuple[str, str, str, Callable[[Path], Options]]] = {
    open_folder: (
        "folder",
        "A folder of pictures",
        "Each picture is one item; the first folder below the top is its class.",
        lambda path: {},
    ),
    open_csv: (
        "csv",
        "A list of pictures (CSV)",
        "Each row is one item: a path, and a label and a mask where there are such columns.",
        lambda path: {"delimiter": DELIMITERS},
    ),
    open_coco: (
        "coco",
        "COCO's instances",
        _EACH_CLASS,
        lambda path: {"truth": COCO_TRUTHS, "images": ()},
    ),
    open_voc: ("voc", "Pascal VOC", _EACH_CLASS, _voc_options),
    open_pet: (
        "pet",
        "Oxford-IIIT Pet",
        "Each picture is one item; its breed is the class, its trimap says where the animal is.",
        lambda path: {"split": list_pet_splits(path)},
    ),
}
