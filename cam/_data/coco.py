"""Read COCO's instances: one item for each class or object.

Lin et al. 2014, "Microsoft COCO: Common Objects in Context"; the format as cocodataset.org has it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cam._data.dataset import Box, BoxTruth, Entry, Files, Truth, require_size, require_truth
from cam.errors import DataError

# What a mask may be made of.
TRUTHS = ("segments", "boxes")
# What one item is: a class on an image, or a single object.
ITEMS = ("classes", "objects")


@dataclass(frozen=True)
class SegmentTruth:
    """The union of a class's segmentations.

    Attributes:
        segments: Each a list of polygons [x, y, x, y, …], or a run-length encoding
            ``{"size": [height, width], "counts": numbers or COCO's text}``.
        size: (width, height) of the picture that was annotated.
        boxes: As of the item.
    """

    segments: tuple[Any, ...]
    size: tuple[int, int]
    boxes: tuple[Box, ...]

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Draw the mask; polygons differ from COCO's by part of a pixel."""
        require_size(self.size, size)
        canvas = Image.new("1", size)
        draw = ImageDraw.Draw(canvas)
        mask = np.zeros((size[1], size[0]), bool)
        try:
            for segment in self.segments:
                if isinstance(segment, dict):
                    mask |= decode_runs(segment)
                    continue
                for polygon in segment:
                    draw.polygon([float(number) for number in polygon], fill=1)
        except (TypeError, ValueError, KeyError, IndexError):
            raise DataError("its segmentation is damaged") from None
        mask |= np.asarray(canvas)
        return mask

    def facts(self) -> object:
        """List the segmentations and their size."""
        return [self.segments, self.size]


def decode_runs(encoded: dict[str, Any]) -> np.ndarray:
    """Decode COCO's run lengths, by columns, zeros first, to (H, W) bool.

    The text form holds each number in groups of five bits, the lowest first, 48 added to make a
    letter; bit 6 says that another group follows, bit 5 of the last one is the sign, and from the
    fourth number on it is the difference from the last but one.
    """
    height, width = encoded["size"]
    counts = encoded["counts"]
    if isinstance(counts, str):
        counts = _decode_text(counts)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T


def _decode_text(text: str) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        if len(numbers) > 2:
            value += numbers[-2]
        numbers.append(value)
        value = shift = 0
    return numbers


def open_coco(
    path: Path,
    images: str | Path | None = None,
    truth: str = "segments",
    items: str = "classes",
) -> Files:
    """Open COCO's instances, without crowds; the group of an item is its image.

    Args:
        path: ``instances_*.json``.
        images: The pictures' folder. None: where COCO has it (``../val2017`` beside
            ``annotations``), or the list's own folder.
        truth: "segments" or "boxes", what a mask is made of.
        items: "classes", an item an image and class, or "objects", one an object, for detectors.

    Raises:
        DataError: There are no such items, or the list cannot be read or is no list of instances.
    """
    require_truth(truth)
    if items not in ITEMS:
        raise DataError(f"items is 'classes' or 'objects', not {items!r}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = {category["id"]: category["name"] for category in content["categories"]}
        pictures = {picture["id"]: picture for picture in content["images"]}
        groups: dict[tuple[int, int, object], list[dict[str, Any]]] = {}
        refused = []
        for annotation in content["annotations"]:
            key = annotation["image_id"], annotation["category_id"]
            if annotation.get("iscrowd"):
                continue
            if key[0] not in pictures or key[1] not in labels:
                name = f"annotation {annotation.get('id')}"
                refused.append((name, "its image or category is missing"))
                continue
            number = annotation["id"] if items == "objects" else None
            groups.setdefault((*key, number), []).append(annotation)
        entries = []
        for (picture_id, category, number), objects in groups.items():
            picture = pictures[picture_id]
            name, label = picture["file_name"], labels[category]
            size = (int(picture["width"]), int(picture["height"]))
            boxes = tuple((x, y, x + w, y + h) for x, y, w, h in (o["bbox"] for o in objects))
            where: Truth = BoxTruth(boxes, size)
            segments = tuple(annotation.get("segmentation") for annotation in objects)
            if truth == "segments" and all(segments):
                where = SegmentTruth(segments, size, boxes)
            which = "" if number is None else f"#{number}"
            entries.append(Entry(f"{name}#{label}{which}", name, label, where))
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{str(path)!r} is no list of COCO instances: {type(error).__name__} at {error}"
        ) from None
    root = Path(images) if images is not None else _find_pictures(path, entries)
    return Files(str(path), root, sorted(entries, key=lambda entry: entry.id), refused)


def _find_pictures(path: Path, entries: list[Entry]) -> Path:
    """Find the pictures' folder by COCO's layout, or a simpler one."""
    part = path.stem.rsplit("_", 1)[-1]
    above = path.parent.parent
    folders = [above / part, above / "images" / part, above / "images", path.parent]
    for folder in [*folders, path.parent / "images"]:
        if entries and (folder / entries[0].path).is_file():
            return folder
    return path.parent
