"""Change parts of an image."""

import base64
import binascii
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from PIL import Image, ImageFilter, ImageStat

from cam._media.images import SAMPLES, sample
from cam.errors import ImageError, require_known

WAYS = ("blur", "erase", "grey", "paste")
GRID = 64
# A random part is made of cells, since what a map finds hangs together as well.
CELLS = 16
# Of the shorter side: objects are gone, and colours stay.
BLUR = 0.1
# A grid is 512 bytes, and its packed text a little longer at most.
_BYTES, _LONGEST = GRID * GRID // 8, 1024


@dataclass(frozen=True)
class Edit:
    """A change of a part of what a model sees.

    Attributes:
        way: "blur", "erase" (its mean colour), "grey" or "paste" (the part of another image).
        part: Where: "box-L-T-R-B" in thousandths of the sides, "grid-…" as of :func:`pack_mask`,
            or "random-P-S": P % of the cells, drawn with the seed S.
        source: The sample that is pasted; empty for the other ways.
    """

    way: str
    part: str
    source: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` writes.

        Raises:
            ImageError: It says nothing that can be done.
        """
        words, _, part = text.partition(".")
        way, _, source = words.partition("-")
        require_known(way, WAYS, "edit", ImageError)
        if way == "paste":
            require_known(source, SAMPLES, "sample photo", ImageError)
        elif source:
            raise ImageError(f"the edit {way!r} takes no image, but {source!r} is named")
        edit = cls(way, part, source)
        edit.draw_mask(1, 1)
        return edit

    def __str__(self) -> str:
        return f"{self.way}{'-' * bool(self.source)}{self.source}.{self.part}"

    def draw_mask(self, height: int, width: int) -> np.ndarray:
        """Draw the part over what the model sees, (height, width) bool.

        Raises:
            ImageError: The part cannot be read.
        """
        kind, _, text = self.part.partition("-")
        try:
            if kind == "box":
                return _draw_box(text, height, width)
            grid = unpack_mask(text) if kind == "grid" else _draw_cells(kind, text)
            if not grid.any():
                raise ValueError("nothing is selected")
        except (ValueError, binascii.Error, zlib.error):
            raise ImageError(f"{self.part[:60]!r} names no part of an image") from None
        rows = np.arange(height) * len(grid) // height
        columns = np.arange(width) * grid.shape[1] // width
        return np.asarray(grid[np.ix_(rows, columns)])


def pack_mask(mask: np.ndarray) -> str:
    """Write a part, (H, W) bool, as the text of :class:`Edit`: on a grid of 64 × 64.

    A cell belongs to it that is covered by half; of a part too thin for that, the fullest cells.
    """
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((GRID, GRID), Image.Resampling.BOX)
    shares = np.asarray(small)
    bits = np.packbits(shares >= np.clip(shares.max(), 1, 128)).tobytes()
    return "grid-" + base64.urlsafe_b64encode(zlib.compress(bits, 9)).decode().rstrip("=")


def unpack_mask(text: str) -> np.ndarray:
    """Read a part, (64, 64) bool.

    Raises:
        ValueError: It is no such text; also ``zlib.error`` and ``binascii.Error``.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"{len(text)} characters are no grid")
    packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    # One byte more than a grid has ends the work on a text that unfolds to megabytes.
    reader = zlib.decompressobj()
    bits = reader.decompress(packed, _BYTES + 1)
    if len(bits) != _BYTES or not reader.eof:
        raise ValueError("not one grid")
    return np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(GRID, GRID).astype(bool)


def _draw_box(text: str, height: int, width: int) -> np.ndarray:
    left, top, right, bottom = (int(side) for side in text.split("-"))
    if not (0 <= left < right <= 1000 and 0 <= top < bottom <= 1000):
        raise ValueError(text)
    mask = np.zeros((height, width), bool)
    mask[_find_pixels(top, bottom, height), _find_pixels(left, right, width)] = True
    return mask


def _find_pixels(start: int, end: int, length: int) -> slice:
    """Find the pixels between two thousandths of a side, at least one."""
    first = min(round(start * length / 1000), length - 1)
    return slice(first, max(round(end * length / 1000), first + 1))


def _draw_cells(kind: str, text: str) -> np.ndarray:
    percent, seed = (int(number) for number in text.split("-"))
    if kind != "random" or not 0 < percent <= 100:
        raise ValueError(text)
    count = round(CELLS * CELLS * percent / 100)
    mask = np.zeros(CELLS * CELLS, bool)
    mask[random.Random(seed).sample(range(CELLS * CELLS), count)] = True
    return mask.reshape(CELLS, CELLS)


def select_hottest(heatmap: np.ndarray, share: float) -> np.ndarray:
    """Select the share of an image where a map is highest.

    On the grid of :func:`pack_mask`, so that single hot pixels, such as a saliency map's, make a
    part as large as the one that is asked for.

    Args:
        heatmap: (H, W) floats; NaN and what is not above 0 is no evidence.
        share: In (0, 1].

    Returns:
        (64, 64) bool; fewer cells than the share where fewer have any evidence.
    """
    values = np.nan_to_num(heatmap.astype(np.float32), nan=0.0)
    small = Image.fromarray(values).resize((GRID, GRID), Image.Resampling.BOX)
    cells = np.asarray(small).ravel()
    order = np.argsort(-cells, kind="stable")[: round(share * cells.size)]
    mask = np.zeros(cells.size, bool)
    mask[order[cells[order] > 0]] = True
    return mask.reshape(GRID, GRID)


def edit_image(
    image: Image.Image, box: tuple[int, int, int, int], edits: Sequence[Edit | str]
) -> Image.Image:
    """Change parts of an image, one after the other.

    Args:
        image: The whole image.
        box: Left, top, right and bottom of what the model sees of it.
        edits: What is changed there, or texts of it.

    Raises:
        ImageError: An edit says nothing that can be done.
    """
    edited = image.convert("RGB").copy()
    for each in edits:
        edit = Edit.parse(each) if isinstance(each, str) else each
        part = edited.crop(box)
        mask = Image.fromarray(edit.draw_mask(part.height, part.width))
        edited.paste(Image.composite(_change(part, edit), part, mask), box[:2])
    return edited


def _change(part: Image.Image, edit: Edit) -> Image.Image:
    """Change all of a part of an image."""
    if edit.way == "blur":
        # A blur of a small copy is the same to the eye, and takes no longer for a large image.
        small = part.copy()
        small.thumbnail((256, 256))
        blurred = small.filter(ImageFilter.GaussianBlur(BLUR * min(small.size)))
        return blurred.resize(part.size, Image.Resampling.BICUBIC)
    if edit.way == "paste":
        other = sample(edit.source).convert("RGB")
        side = min(other.size)
        left, top = (other.width - side) // 2, (other.height - side) // 2
        square = other.crop((left, top, left + side, top + side))
        return square.resize(part.size, Image.Resampling.BICUBIC)
    colour = (128,) * 3 if edit.way == "grey" else tuple(map(round, ImageStat.Stat(part).mean))
    return Image.new("RGB", part.size, colour)
