"""Name the kind of a data source and the options it offers."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cam._data import coco, folder, pet, voc
from cam._data.source import find_opener
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
    offered = {key: values for key, values in options.items() if values or key == "images"}
    return DataKind(name, title, items, offered)


def _voc_options(path: Path) -> dict[str, tuple[str, ...]]:
    root = voc.find_voc_root(path)
    drawn = root is not None and (root / "SegmentationClass").is_dir()
    return {"truth": voc.TRUTHS if drawn else voc.TRUTHS[:1], "split": voc.list_voc_splits(path)}


_EACH_CLASS = "Each class on each image is one item."
# Opener → name, title, what an item is, and the options.
_KINDS: Mapping[Callable[..., object], tuple[str, str, str, Callable[[Path], Options]]] = {
    folder.open_folder: (
        "folder",
        "A folder of images",
        "Each image is one item; the first folder below the top is its class.",
        lambda path: {},
    ),
    folder.open_csv: (
        "csv",
        "A list of images (CSV)",
        "Each row is one item: a path, and a label and a mask where there are such columns.",
        lambda path: {"delimiter": folder.DELIMITERS},
    ),
    coco.open_coco: (
        "coco",
        "COCO's instances",
        _EACH_CLASS,
        lambda path: {"truth": coco.TRUTHS, "items": coco.ITEMS, "images": ()},
    ),
    voc.open_voc: ("voc", "Pascal VOC", _EACH_CLASS, _voc_options),
    pet.open_pet: (
        "pet",
        "Oxford-IIIT Pet",
        "Each image is one item; its breed is the class, its trimap says where the animal is.",
        lambda path: {"split": pet.list_pet_splits(path)},
    ),
}
