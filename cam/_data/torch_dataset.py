"""Wrap any ``torch.utils.data.Dataset`` that has a length."""

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cam._data.dataset import Dataset, Item, digest
from cam._data.groups import name_group
from cam._media.images import read_image
from cam.errors import CamError, DataError

# Items looked at for the fingerprint, evenly spaced.
LOOKED_AT = 16


class Wrapped(Dataset):
    """Items of a torch data set: a picture, (picture, class) or (picture, class, mask).

    A picture is a PIL image, a uint8 array (H, W, 3), or a tensor: uint8 (3, H, W) is a picture,
    float (3, H, W) a model's finished input. A class is a label, or a whole number: a place in the
    source's ``classes`` where it lists them, as torchvision's data sets do, else the model's index.
    A mask is (H, W) at the picture's size. A mapping has them as ``image``, ``target``, ``mask``,
    and may have a ``group``.

    Args:
        source: It must have ``__len__`` and ``__getitem__``.

    Raises:
        DataError: It has no length, or no item.
    """

    def __init__(self, source: Any) -> None:
        try:
            self._length = len(source)
        except TypeError:
            raise DataError(
                f"a data set must have a length and numbered items, but {type(source).__name__} "
                "has no length"
            ) from None
        if not self._length:
            raise DataError("the data set has no item")
        self.source = source
        self.name = type(source).__name__
        classes = getattr(source, "classes", None)
        self._classes = tuple(map(str, classes)) if isinstance(classes, list | tuple) else ()
        self.labels = self._classes
        try:
            self.has_masks = self[0].mask is not None
        except CamError:
            # The first picture is broken; the others may have masks.
            self.has_masks = True

    def __len__(self) -> int:
        """Return the source's length."""
        return self._length

    def identifier(self, index: int) -> str:
        """Name an item by its number, as ``item-00000007``."""
        return f"item-{index:08d}"

    def __getitem__(self, index: int) -> Item:
        """Read an item; see :meth:`cam._data.dataset.Dataset.__getitem__`."""
        if not 0 <= index < self._length:
            raise IndexError(f"there are {self._length} items, so there is no number {index}")
        try:
            content = self.source[index]
        except CamError:
            raise
        except Exception as error:
            # It is somebody's own code: whatever it raises is about this item.
            raise DataError(f"its data set raised {type(error).__name__}: {error}") from error
        if isinstance(content, Item):
            return content
        parts: list[Any] = [content]
        group = ""
        if isinstance(content, Mapping):
            if "group" in content:
                group = name_group(content["group"])
                if not group:
                    raise DataError("its group is missing; give every item a group, or none")
            parts = [content.get(name) for name in ("image", "target", "mask")]
        elif isinstance(content, tuple | list):
            parts = list(content)
        picture, target, mask = [*parts, None, None][:3]
        image = _convert_image(picture)
        label = self._label(target)
        mask = _convert_mask(mask, image)
        return Item(self.identifier(index), image, label, mask, group=group)

    def _label(self, target: Any) -> int | str | None:
        """Replace a class by its name, where the source names its classes."""
        index = _convert_target(target)
        if not isinstance(index, int) or not self._classes:
            return index
        if not 0 <= index < len(self._classes):
            raise DataError(f"its class {index} is none of its {len(self._classes)} classes")
        return self._classes[index]

    @cached_property
    def _looked(self) -> list[tuple[int, str, int | str | None]]:
        """Number, hash of the pixels or why there are none, and class of a few items."""
        count = min(LOOKED_AT, self._length)
        facts: list[tuple[int, str, int | str | None]] = []
        for number in range(count):
            index = number * self._length // count
            try:
                item = self[index]
            except CamError as error:
                facts.append((index, str(error), None))
                continue
            pixels = np.ascontiguousarray(np.asarray(item.image))
            facts.append((index, hashlib.sha256(pixels.tobytes()).hexdigest(), item.target))
        return facts

    @cached_property
    def examples(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of 16 items' classes, evenly spaced, where the source does not list them."""
        names = {target for _, _, target in self._looked if isinstance(target, str)}
        return () if self.labels else tuple(sorted(names))

    @cached_property
    def fingerprint(self) -> str:
        """Of the type, the length, and the pixels and classes of those 16 items."""
        return digest(self.name, self._length, self._classes, self._looked)


def _convert_image(picture: Any) -> Image.Image | Tensor:
    if isinstance(picture, Tensor):
        if picture.ndim != 3 or picture.shape[0] != 3:
            raise DataError(f"an image's tensor is (3, H, W), not {tuple(picture.shape)}")
        if picture.dtype == torch.uint8:
            return Image.fromarray(picture.movedim(0, -1).contiguous().cpu().numpy())
        if not picture.is_floating_point():
            raise DataError(f"an image's tensor is uint8 or floating, not {picture.dtype}")
        return picture
    return read_image(picture).image


def _convert_target(target: Any) -> int | str | None:
    if target is None or isinstance(target, str):
        return target
    try:
        return int(target.__index__())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        kind = type(target).__name__
        raise DataError(f"a class is a whole number or a label, not {kind}") from None


def _convert_mask(mask: Any, image: Image.Image | Tensor) -> np.ndarray | None:
    if mask is None:
        return None
    inside: np.ndarray = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) != 0
    inside = inside[0] if inside.ndim == 3 and inside.shape[0] == 1 else inside
    size = tuple(image.shape[1:]) if isinstance(image, Tensor) else image.size[::-1]
    if inside.shape != size:
        raise DataError(f"its mask is {inside.shape}, but the image is {size}")
    return inside
