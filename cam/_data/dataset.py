"""Define a data set: items in a fixed order, with a fingerprint."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from cam._media.images import read_image
from cam.errors import DataError
from cam.parameters import integer

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in the picture's pixels, from 0, the right and lower edge not in it."""


@dataclass(frozen=True, eq=False)
class Item:
    """One question to a model: a picture, a class, and where that class is.

    Attributes:
        id: Its name, unlike that of any other item of the data set.
        image: A picture in RGB, or a model's finished input (3, H, W), float.
        target: The class, as an index of the model's output or as a label; None where unknown.
        mask: (H, W) bool at the image's size, where the class is; None where unknown.
        boxes: The boxes of that class; empty where unknown.
        path: The file it came from.
        group: What it shares with items that say no more than one of them does: the photo, the
            scene, the patient. "": nothing, and then it is its ``id``.
    """

    id: str
    image: Image.Image | Tensor
    target: int | str | None = None
    mask: np.ndarray | None = None
    boxes: tuple[Box, ...] = ()
    path: str | None = None
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.id)


@dataclass(frozen=True)
class DataOrigin:
    """The arguments of :func:`cam.dataset` that open a data set again.

    Attributes:
        source: "photo-grid", "known", or an absolute path.
        options: Those that were given.
        limit: Of :meth:`Dataset.limit`; None: all items.
    """

    source: str
    options: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None


class Dataset(ABC):
    """Items in a fixed order.

    Attributes:
        name: What to call it in results.
        labels: Its classes' names, sorted; empty where its targets are a model's indices, none, or
            names that it does not list.
        examples: Some of the names that it does not list.
        has_masks: Whether its items know where their class is.
        refused: (name, reason) of what was found but cannot be an item at all.
        caution: What its results do not allow to conclude, in one sentence; "" where nothing is.
        origin: What opens it again; None for data in memory.
    """

    name: str
    labels: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    has_masks: bool = False
    refused: tuple[tuple[str, str], ...] = ()
    caution: str = ""
    origin: DataOrigin | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Count the items."""

    @abstractmethod
    def __getitem__(self, index: int) -> Item:
        """Read an item.

        Raises:
            IndexError: There is none of that number.
            ImageError: Its picture cannot be read.
            DataError: What is known of it does not fit its picture.
        """

    @abstractmethod
    def identifier(self, index: int) -> str:
        """Return an item's ``id`` without reading it."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Hexadecimal digits that change when an item, its truth or the order does."""

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))

    def limit(self, count: int) -> "Dataset":
        """Take at most ``count`` items, evenly spaced, so that classes stay.

        Raises:
            DataError: ``count`` is less than 1.
        """
        if not integer(1).holds(count):
            raise DataError(f"a limit is a whole number of at least 1, not {count!r}")
        total = len(self)
        if count >= total:
            return self
        part = Part(self, [number * total // count for number in range(count)])
        if self.origin is not None and self.origin.limit is None:
            part.origin = replace(self.origin, limit=count)
        return part


class Part(Dataset):
    """Some items of another data set."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self.whole, self.indices = whole, list(indices)
        self.name, self.labels, self.examples = whole.name, whole.labels, whole.examples
        self.has_masks, self.refused = whole.has_masks, whole.refused
        self.caution = whole.caution

    def __len__(self) -> int:
        """Count the items."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Item:
        """Read the whole's item; see :meth:`Dataset.__getitem__`."""
        return self.whole[self.indices[index]]

    def identifier(self, index: int) -> str:
        """Return the whole's ``id``."""
        return self.whole.identifier(self.indices[index])

    @cached_property
    def fingerprint(self) -> str:
        """Of the whole and of which items these are."""
        return digest(self.whole.fingerprint, self.indices)


class Truth(Protocol):
    """Where an item's class is, as its annotation says; nothing is drawn before."""

    @property
    def boxes(self) -> tuple[Box, ...]:
        """As of the item."""

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Draw the mask, (H, W) bool for a picture of (width, height).

        Raises:
            DataError: The annotation is missing, damaged, or made for another size.
        """

    def facts(self) -> object:
        """List what determines it, ready for JSON, for the fingerprint."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An item that has not been read: its picture's path relative to the root, and its truth.

    Its group is its picture unless another is given: two classes of one picture, or two rows of a
    list that name it, are no two pictures.
    """

    id: str
    path: str
    target: int | str | None = None
    truth: Truth | None = None
    group: str = ""


class Files(Dataset):
    """Picture files below a folder.

    Args:
        name: What to call it in results.
        root: The folder that the entries' paths are relative to.
        entries: In the order of the items.
        refused: (name, reason) of what cannot be an entry.

    Attributes:
        roots: Folders that every file must lie in, whatever links and lists say; None: anywhere.
    """

    roots: tuple[Path, ...] | None = None

    def __init__(
        self,
        name: str,
        root: Path,
        entries: Sequence[Entry],
        refused: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.name, self.root, self.refused = name, root, tuple(refused)
        self._entries = list(entries)
        if not self._entries:
            why = f" ({self.refused[0][0]}: {self.refused[0][1]})" if self.refused else ""
            raise DataError(f"no image was found in {name!r}{why}")
        self.labels = tuple(
            sorted({entry.target for entry in entries if isinstance(entry.target, str)})
        )
        self.has_masks = any(entry.truth is not None for entry in entries)

    def __len__(self) -> int:
        """Count the entries."""
        return len(self._entries)

    def identifier(self, index: int) -> str:
        """Return the entry's ``id``."""
        return self._entries[index].id

    def __getitem__(self, index: int) -> Item:
        """Read the picture and draw its mask; see :meth:`Dataset.__getitem__`."""
        entry = self._entries[index]
        path = self.root / entry.path
        if self.roots is not None:
            for file in (path, getattr(entry.truth, "path", None)):
                if file is not None:
                    require_inside(file, self.roots)
        image = read_image(path, entry.path).image
        mask = entry.truth.mask(image.size) if entry.truth is not None else None
        boxes = entry.truth.boxes if entry.truth is not None else ()
        group = entry.group or entry.path
        return Item(entry.id, image, entry.target, mask, boxes, str(path), group)

    @cached_property
    def fingerprint(self) -> str:
        """Of every entry's name, size in bytes, class, truth and group.

        Not of the bytes: a million pictures would be read twice. Nor of their times, which a copy
        changes. A picture that is exchanged for one of the very same size is not noticed.
        """
        facts = []
        for entry in self._entries:
            truth = entry.truth.facts() if entry.truth is not None else None
            size = _file_size(self.root / entry.path)
            facts.append((entry.id, size, entry.target, truth, entry.group))
        return digest(facts)


@dataclass(frozen=True)
class BoxTruth:
    """Boxes, filled."""

    boxes: tuple[Box, ...]
    size: tuple[int, int] | None = None

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Fill the union of the boxes; see :class:`Truth`."""
        require_size(self.size, size)
        mask = np.zeros((size[1], size[0]), bool)
        for left, top, right, bottom in self.boxes:
            mask[round(top) : round(bottom), round(left) : round(right)] = True
        return mask

    def facts(self) -> object:
        """List the boxes."""
        return [self.boxes, self.size]


@dataclass(frozen=True)
class FileTruth:
    """A picture whose pixels say where the class is.

    Attributes:
        path: The file.
        values: The pixel values that mean it; None: all but 0.
        boxes: As of the item.
    """

    path: str
    values: tuple[int, ...] | None = None
    boxes: tuple[Box, ...] = ()

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """Select the file's pixels that have one of the values."""
        try:
            with Image.open(self.path) as picture:
                require_size(picture.size, size)
                # A palette's numbers are the classes; colours are not wanted.
                grey = picture if picture.mode in ("P", "L", "1") else picture.convert("L")
                pixels = np.asarray(grey).astype(int)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"the mask {self.path!r} cannot be read: {error}") from None
        return pixels != 0 if self.values is None else np.isin(pixels, self.values)

    def facts(self) -> object:
        """List the file's name and size, and the values."""
        path = Path(self.path)
        return [path.name, _file_size(path), self.values, self.boxes]


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def require_truth(truth: str) -> None:
    """Refuse what a mask cannot be made of.

    Raises:
        DataError: It is neither "segments" nor "boxes".
    """
    if truth not in ("segments", "boxes"):
        raise DataError(f"truth is 'segments' or 'boxes', not {truth!r}")


def require_size(annotated: tuple[int, int] | None, actual: tuple[int, int]) -> None:
    """Refuse an annotation of another size, as of a turned picture.

    Raises:
        DataError: The sizes differ.
    """
    if annotated is not None and tuple(annotated) != tuple(actual):
        raise DataError(
            f"its annotation is for {annotated[0]} × {annotated[1]} pixels, but the image has "
            f"{actual[0]} × {actual[1]}"
        )


def require_inside(path: str | os.PathLike[str], roots: Sequence[Path]) -> Path:
    """Resolve a path, and refuse it if it leads outside the folders.

    It is refused in the same words whether or not there is something outside.

    Returns:
        The path without links and without ``..``.

    Raises:
        DataError: It leads outside.
    """
    try:
        target = Path(path).expanduser().resolve()
        if any(target.is_relative_to(root.resolve()) for root in roots):
            return target
    except (OSError, RuntimeError, ValueError):
        # A loop of links, a name that is too long, a NUL in it: it leads nowhere.
        pass
    allowed = ", ".join(map(str, roots)) or "none"
    raise DataError(f"{str(path)!r} lies outside of the folders that are allowed here ({allowed})")


def digest(*facts: object) -> str:
    """Hash anything that JSON can hold: SHA-256, 64 hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
