"""Make mosaics of the bundled photos, whose classes' places are known.

Böhle et al. 2021, "Convolutional Dynamic Alignment Networks", section 5 (the grid pointing game):
pictures of different classes side by side, and a method is asked for the evidence of one of them.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageEnhance

from cam._data.dataset import Box, DataOrigin, Dataset, Item, digest
from cam._media.images import sample
from cam.errors import DataError
from cam.parameters import integer

# ImageNet-1k's class of each photo: Egyptian cat, espresso, missile, moped.
CLASSES = {"chelsea": 285, "coffee": 967, "rocket": 657, "motorcycle_left": 665}
# Where its subject stands: the middle of a square that holds it, in shares of width and height, and
# the square's side, in shares of the shorter one.
SUBJECTS = {
    "chelsea": (0.5, 0.45, 1.0),
    "coffee": (0.5, 0.5, 1.0),
    "rocket": (0.5, 0.5, 0.6),
    "motorcycle_left": (0.5, 0.5, 1.0),
}
# What the usual transform cuts off is outside of the mosaic: Resize 256, CenterCrop 224.
INSIDE, WHOLE = 224, 256
# Raised when the same seed gives other pixels than before.
VERSION = 1
RULES = {"size": integer(1, 10_000_000), "n": integer(2, 7), "seed": integer(0, 2**63)}


@dataclass(frozen=True)
class Cell:
    """One photo of a mosaic.

    Attributes:
        photo: Name of the sample.
        target: Its class.
        box: Where it stands, in the mosaic's pixels.
    """

    photo: str
    target: int
    box: Box


class PhotoGrid(Dataset):
    """n × n mosaics of crops of the sample photos, turned round and in another light.

    However many they are, they show four photos: all are of one group, over which there is no
    interval and no test. They try out a method or a metric, and say nothing of other pictures.

    The class asked for stands in one cell, never in two. All cells have the same size after the
    usual transform (short side to 256, centre 224); outside of that the outer cells go on as in a
    mirror, so that also a model that sees more sees nothing but cells.

    Args:
        size: How many mosaics.
        n: Cells a side.
        seed: Another one gives other mosaics; a mosaic does not depend on how many there are.

    Raises:
        DataError: A number out of range.
    """

    has_masks = True
    caution = (
        "the mosaics are recombinations of the same four photos: a smoke test, and no sample of "
        "images, so there are no intervals and no tests over them"
    )

    def __init__(self, size: int = 64, n: int = 2, seed: int = 0) -> None:
        parameters = {"size": size, "n": n, "seed": seed}
        for name, value in parameters.items():
            if not RULES[name].holds(value):
                raise DataError(
                    f"{name} of a photo grid must be {RULES[name].words}, but is {value!r}"
                )
        self.size, self.n, self.seed = size, n, seed
        self.name = "photo-grid"
        self.origin = DataOrigin("photo-grid", parameters)

    def __len__(self) -> int:
        """Count the mosaics."""
        return self.size

    def identifier(self, index: int) -> str:
        """Name a mosaic by its number, as ``grid-00007``."""
        return f"grid-{index:05d}"

    @cached_property
    def fingerprint(self) -> str:
        """Of the parameters and of the photos' pixels."""
        photos = [hashlib.sha256(sample(name).tobytes()).hexdigest() for name in CLASSES]
        return digest("photo-grid", VERSION, self.size, self.n, self.seed, photos)

    def limit(self, count: int) -> Dataset:
        """Keep the first mosaics; evenly spaced ones would lack some classes."""
        return PhotoGrid(min(count, self.size), self.n, self.seed)

    def cells(self, index: int) -> tuple[Cell, ...]:
        """List the cells of a mosaic, row by row."""
        photos, _ = self._choose_layout(self._make_generator(index), index)
        return tuple(
            Cell(name, CLASSES[name], self._locate(number)) for number, name in enumerate(photos)
        )

    def __getitem__(self, index: int) -> Item:
        """Make a mosaic of 256 × 256 pixels with one target cell."""
        if not 0 <= index < self.size:
            raise IndexError(f"there are {self.size} mosaics, so there is no number {index}")
        random = self._make_generator(index)
        photos, at = self._choose_layout(random, index)
        inside = np.zeros((INSIDE, INSIDE, 3), np.uint8)
        mask = np.zeros((INSIDE, INSIDE), bool)
        for number, name in enumerate(photos):
            left, top, right, bottom = map(int, self._locate(number, margin=0))
            inside[top:bottom, left:right] = _cut(name, (right - left, bottom - top), random)
            mask[top:bottom, left:right] = number == at
        margin = (WHOLE - INSIDE) // 2
        around = ((margin, margin), (margin, margin))
        image = Image.fromarray(np.pad(inside, (*around, (0, 0)), mode="symmetric"))
        return Item(
            self.identifier(index),
            image,
            CLASSES[photos[at]],
            np.pad(mask, around, mode="edge"),
            (self._locate(at),),
            group="+".join(CLASSES),
        )

    def _make_generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.n, index])

    def _choose_layout(self, random: np.random.Generator, index: int) -> tuple[list[str], int]:
        """Choose the photo of each cell, and the target's cell."""
        names = list(CLASSES)
        # In turn, so that every class is asked for equally often.
        target = names[index % len(names)]
        others = [name for name in names if name != target]
        cells: list[str] = []
        while len(cells) < self.n**2 - 1:
            cells += random.permutation(others).tolist()
        at = int(random.integers(self.n**2))
        del cells[self.n**2 - 1 :]
        cells.insert(at, target)
        return cells, at

    def _locate(self, number: int, margin: int = (WHOLE - INSIDE) // 2) -> Box:
        row, column = divmod(number, self.n)
        edges = [margin + round(edge * INSIDE / self.n) for edge in range(self.n + 1)]
        return (edges[column], edges[row], edges[column + 1], edges[row + 1])


def _cut(name: str, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Crop a photo around its subject, perhaps mirrored, in another light."""
    photo = sample(name)
    across, down, share = SUBJECTS[name]
    whole = min(photo.size) * share
    side = whole * random.uniform(0.85, 1.0)
    middle_x = photo.width * across + whole * random.uniform(-0.07, 0.07)
    middle_y = photo.height * down + whole * random.uniform(-0.07, 0.07)
    left = min(max(middle_x - side / 2, 0), photo.width - side)
    top = min(max(middle_y - side / 2, 0), photo.height - side)
    box = (left, top, left + side, top + side)
    cut = photo.resize(size, Image.Resampling.BICUBIC, box)
    if random.random() < 0.5:
        cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        cut = change(cut).enhance(random.uniform(0.8, 1.2))
    return np.asarray(cut)
