"""What kind of data a source is, and what can be chosen of it before it is opened."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cam._data.coco import TRUTHS as COCO_TRUTHS
from cam._data.coco import open_coco
from cam._data.folder import DELIMITERS, open_csv, open_folder
from cam._data.pet import open_pet, pet_splits
from cam._data.source import path_opener
from cam._data.voc import TRUTHS as VOC_TRUTHS
from cam._data.voc import open_voc, voc_root, voc_splits
from cam.errors import DataError


@dataclass(frozen=True)
class DataKind:
    """A kind of data set.

    Attributes:
        name: A short one: "folder", "csv", "coco", "voc" or "pet".
        title: What people call it.
        items: What one item of it is.
        options: Option of :func:`cam.dataset` → its values, the one that is taken by itself first;
            none where it is a folder's path.
    """

    name: str
    title: str
    items: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def kind_of(source: str | os.PathLike[str]) -> DataKind:
    """Say what a path is, without reading the data.

    Raises:
        DataError: There is nothing there, it may not be read, or it is no data set.
    """
    path = Path(source).expanduser()
    try:
        return _KINDS[path_opener(path)](path)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None


def _folder(path: Path) -> DataKind:
    return DataKind(
        "folder",
        "A folder of pictures",
        "Each picture is one item; the first folder below the top is its class.",
    )


def _csv(path: Path) -> DataKind:
    return DataKind(
        "csv",
        "A list of pictures (CSV)",
        "Each row is one item: a path, and a label and a mask where there are such columns.",
        {"delimiter": DELIMITERS},
    )


def _coco(path: Path) -> DataKind:
    return DataKind(
        "coco",
        "COCO's instances",
        "Each class on each picture is one item.",
        {"truth": COCO_TRUTHS, "images": ()},
    )


def _voc(path: Path) -> DataKind:
    folder = voc_root(path)
    drawn = folder is not None and (folder / "SegmentationClass").is_dir()
    splits = voc_splits(path)
    options = {"truth": VOC_TRUTHS if drawn else VOC_TRUTHS[:1]}
    return DataKind(
        "voc",
        "Pascal VOC",
        "Each class on each picture is one item.",
        options | ({"split": splits} if splits else {}),
    )


def _pet(path: Path) -> DataKind:
    splits = pet_splits(path)
    return DataKind(
        "pet",
        "Oxford-IIIT Pet",
        "Each picture is one item; its breed is the class, its trimap says where the animal is.",
        {"split": splits} if splits else {},
    )


_KINDS: Mapping[Callable[..., object], Callable[[Path], DataKind]] = {
    open_folder: _folder,
    open_csv: _csv,
    open_coco: _coco,
    open_voc: _voc,
    open_pet: _pet,
}
