"""Pascal VOC: one item for each picture and each class on it.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge".
"""

from pathlib import Path
from xml.etree import ElementTree

from cam._data.dataset import Box, BoxTruth, Entry, Files, FileTruth, Truth
from cam.errors import DataError

# SegmentationClass numbers the classes in this order, from 1; 0 is background, 255 the border.
CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
SIDES = ("xmin", "ymin", "xmax", "ymax")
SPLITS = ("test", "val", "trainval", "train")
TRUTHS = ("boxes", "segments")


def voc_root(root: Path) -> Path | None:
    """The folder that holds ``JPEGImages`` and ``Annotations``, at ``root`` or below it."""
    for folder in [root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))]:
        if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
            return folder
    return None


def voc_splits(root: Path) -> tuple[str, ...]:
    """The lists of :data:`SPLITS` that are there, the one that is taken by itself first."""
    folder = voc_root(root)
    lists = None if folder is None else folder / "ImageSets" / "Main"
    return tuple(one for one in SPLITS if lists is not None and (lists / f"{one}.txt").is_file())


def open_voc(root: Path, split: str | None = None, truth: str = "boxes") -> Files:
    """One item for each picture and class, as TorchRay's pointing game counts them.

    Args:
        root: ``VOC2007`` or a folder that holds it.
        split: A list of ``ImageSets/Main``. None: the first of test, val, trainval and train
            that is there, or every annotation.
        truth: "boxes" (objects marked as difficult included), or "segments", for which only the
            pictures of ``SegmentationClass`` are taken.

    Raises:
        DataError: There is no such list, or it cannot be read.
    """
    if truth not in TRUTHS:
        raise DataError(f"truth is 'segments' or 'boxes', not {truth!r}")
    folder = voc_root(root)
    if folder is None:
        raise DataError(f"{str(root)!r} holds no JPEGImages and Annotations, as Pascal VOC does")
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for name in _names(folder, split):
        segments = folder / "SegmentationClass" / f"{name}.png"
        if truth == "segments" and not segments.is_file():
            continue
        try:
            size, objects = _objects(folder / "Annotations" / f"{name}.xml")
        except DataError as error:
            refused.append((name, str(error)))
            continue
        for label, boxes in sorted(objects.items()):
            where: Truth = BoxTruth(boxes, size)
            if truth == "segments":
                if label not in CLASSES:
                    continue
                where = FileTruth(str(segments), (CLASSES.index(label) + 1,), boxes)
            entries.append(Entry(f"{name}#{label}", f"JPEGImages/{name}.jpg", label, where))
    return Files(str(root), folder, entries, refused)


def _names(folder: Path, split: str | None) -> list[str]:
    lists = folder / "ImageSets" / "Main"
    try:
        if split is None:
            there = voc_splits(folder)
            if not there:
                return sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
            split = there[0]
        lines = (lists / f"{split}.txt").read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(
            f"the list {str(lists / f'{split}.txt')!r} cannot be read: {error.strerror}"
        ) from None
    return [line.split()[0] for line in lines if line.strip()]


def _objects(path: Path) -> tuple[tuple[int, int], dict[str, tuple[Box, ...]]]:
    """The picture's size and each class's boxes; VOC counts from 1 and includes the last pixel."""
    try:
        tree = ElementTree.parse(path).getroot()
        size = (int(tree.findtext("size/width", "")), int(tree.findtext("size/height", "")))
        found: dict[str, list[Box]] = {}
        for one in tree.iterfind("object"):
            left, top, right, bottom = (
                float(one.findtext(f"bndbox/{side}", ""))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            label = one.findtext("name", "").strip()
            found.setdefault(label, []).append((left - 1, top - 1, right, bottom))
    except OSError as error:
        raise DataError(f"its annotation cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError):
        raise DataError("its annotation is damaged") from None
    return size, {label: tuple(boxes) for label, boxes in found.items()}
