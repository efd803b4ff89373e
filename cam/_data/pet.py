"""Read the Oxford-IIIT Pet data set: cats and dogs with trimaps.

Parkhi et al. 2012, "Cats and Dogs".
"""

from pathlib import Path

from cam._data.dataset import Entry, Files, FileTruth, Truth
from cam._data.split_lists import list_splits, read_list
from cam.errors import DataError

# A trimap's values: 1 the animal, 2 background, 3 the border, which may be either.
ANIMAL = 1
SPLITS = ("test", "trainval")


def holds_pet(root: Path) -> bool:
    """Tell whether a folder is laid out as the data set is."""
    return (root / "annotations" / "trimaps").is_dir() and (root / "images").is_dir()


def list_pet_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of :data:`SPLITS` that are there, the default one first."""
    return list_splits(root / "annotations", SPLITS)


def open_pet(root: Path, split: str | None = None) -> Files:
    """Open one item a picture; its label is the breed, ``Egyptian Mau``.

    Args:
        root: The folder that holds ``images`` and ``annotations``.
        split: "test" or "trainval". None: "test" where that list is, else all with a trimap.

    Raises:
        DataError: The list is not there or cannot be read.
    """
    if not holds_pet(root):
        raise DataError(f"{str(root)!r} holds no images and annotations/trimaps, as Pet does")
    annotations = root / "annotations"
    if split is None and (annotations / "test.txt").is_file():
        split = "test"
    if split is None:
        names = sorted(
            path.stem
            for path in (annotations / "trimaps").glob("*.png")
            # The archive carries macOS's shadow files.
            if not path.name.startswith(".")
        )
    else:
        names = read_list(annotations / f"{split}.txt")
    entries = []
    for name in names:
        breed = name.rsplit("_", 1)[0].replace("_", " ")
        trimap: Truth = FileTruth(str(annotations / "trimaps" / f"{name}.png"), (ANIMAL,))
        entries.append(Entry(name, f"images/{name}.jpg", breed, trimap))
    return Files(str(root), root, entries)
