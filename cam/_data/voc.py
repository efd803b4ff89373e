"""Read Pascal VOC: one item for each picture and class.

Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge".
"""

from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from cam._data.dataset import Box, BoxTruth, Entry, Files, FileTruth, Truth, require_truth
from cam._data.split_lists import list_splits, read_list
from cam.errors import DataError

SIDES = ("xmin", "ymin", "xmax", "ymax")
LISTS = Path("ImageSets", "Main")
SPLITS = ("test", "val", "trainval", "train")
TRUTHS = ("boxes", "segments")


def find_voc_root(root: Path) -> Path | None:
    """Find the folder with ``JPEGImages`` and ``Annotations``, at or below ``root``."""
    for folder in [root, *sorted(root.glob("VOC20*")), *sorted(root.glob("VOCdevkit/VOC20*"))]:
        if (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir():
            return folder
    return None


def list_voc_splits(root: Path) -> tuple[str, ...]:
    """Name the lists of :data:`SPLITS` that are there, the default one first."""
    folder = find_voc_root(root)
    return () if folder is None else list_splits(folder / LISTS, SPLITS)


@cache
def class_numbers() -> dict[str, int]:
    """Map each class to its pixels' value in ``SegmentationClass``.

    torchvision's weights for VOC name the classes in that order; 0 is background, 255 the border.
    """
    from torchvision.models.segmentation import FCN_ResNet50_Weights

    names = FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"]
    return {name: number for number, name in enumerate(names) if number}


def open_voc(root: Path, split: str | None = None, truth: str = "boxes") -> Files:
    """Open one item a picture and class, as TorchRay's pointing game does.

    Args:
        root: ``VOC2007`` or a folder that holds it.
        split: A list of ``ImageSets/Main``. None: the first of test, val, trainval and train
            that is there, or every annotation.
        truth: "boxes" (objects marked as difficult included), or "segments", for which only the
            pictures of ``SegmentationClass`` are taken.

    Raises:
        DataError: There is no such list, or it cannot be read.
    """
    require_truth(truth)
    folder = find_voc_root(root)
    if folder is None:
        raise DataError(f"{str(root)!r} holds no JPEGImages and Annotations, as Pascal VOC does")
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for name in _list_names(folder, split):
        segments = folder / "SegmentationClass" / f"{name}.png"
        if truth == "segments" and not segments.is_file():
            continue
        try:
            size, objects = _read_objects(folder / "Annotations" / f"{name}.xml")
        except DataError as error:
            refused.append((name, str(error)))
            continue
        for label, boxes in sorted(objects.items()):
            where: Truth = BoxTruth(boxes, size)
            if truth == "segments":
                if label not in class_numbers():
                    continue
                where = FileTruth(str(segments), (class_numbers()[label],), boxes)
            entries.append(Entry(f"{name}#{label}", f"JPEGImages/{name}.jpg", label, where))
    return Files(str(root), folder, entries, refused)


def _list_names(folder: Path, split: str | None) -> list[str]:
    if split is None:
        splits = list_voc_splits(folder)
        if not splits:
            return sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))
        split = splits[0]
    return read_list(folder / LISTS / f"{split}.txt")


def _read_objects(path: Path) -> tuple[tuple[int, int], dict[str, tuple[Box, ...]]]:
    """Read size and boxes; VOC counts from 1, the last pixel included."""
    try:
        tree = ElementTree.parse(path).getroot()
        size = (int(tree.findtext("size/width", "")), int(tree.findtext("size/height", "")))
        boxes: dict[str, list[Box]] = {}
        for element in tree.iterfind("object"):
            left, top, right, bottom = (
                float(element.findtext(f"bndbox/{side}", "")) for side in SIDES
            )
            label = element.findtext("name", "").strip()
            boxes.setdefault(label, []).append((left - 1, top - 1, right, bottom))
    except OSError as error:
        raise DataError(f"its annotation cannot be read: {error.strerror}") from None
    except (ElementTree.ParseError, ValueError):
        raise DataError("its annotation is damaged") from None
    return size, {label: tuple(several) for label, several in boxes.items()}
