"""Generate pictures for networks whose exact attributions are known."""

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np
import torch
from PIL import Image

from cam._data.dataset import DataOrigin, Dataset, Item, digest
from cam._truth import known_networks
from cam._truth.known_networks import CELL, NETWORKS, SIDE, KnownNetwork, stripes
from cam.errors import DataError, nearest
from cam.parameters import integer

# Grey, which the networks' transform maps to 0; 0 and 254 become -1 and 1.
GREY = 127
GRID = SIDE // CELL
# Contrasts of patterns in grey levels: full, weaker, faint; and of the noise behind them.
FULL, WEAKER, NOISE, FAINT_NOISE = 127, 108, 12, 3
FAINT = round(known_networks.FAINT * GREY)
# The distractor's side in cells.
YELLOW = 3
# Raised when the same seed gives other pixels than before.
VERSION = 1
RULES = {"size": integer(1, 10_000_000), "seed": integer(0, 2**63)}


class KnownPictures(Dataset):
    """Pictures for a network of ``cam.load_model("known/…")``, whose attribution is known.

    An item's target is the class that the network sees, its mask the pixels that speak for it:
    those whose exact attribution is above 0. Where there are none, as in every fourth picture for
    the network of XOR, the mask is empty and what measures against it is undefined.

    Args:
        network: "linear", "additive", "patch", "xor" or "distractor".
        size: How many pictures.
        seed: Another one gives other pictures; a picture does not depend on how many there are.

    Raises:
        DataError: There is no such network, or a number is out of range.
    """

    has_masks = True

    def __init__(self, network: str = "patch", size: int = 16, seed: int = 0) -> None:
        if network not in NETWORKS:
            raise DataError(
                f"there is no network {network!r} of known answers; {nearest(network, NETWORKS)}"
            )
        parameters = {"size": size, "seed": seed}
        for name, value in parameters.items():
            if not RULES[name].holds(value):
                raise DataError(
                    f"{name} of known images must be {RULES[name].words}, but is {value!r}"
                )
        self.network, self.size, self.seed = network, size, seed
        self.name = f"known-{network}"
        self.origin = DataOrigin("known", {"network": network, **parameters})

    def __len__(self) -> int:
        """Count the pictures."""
        return self.size

    def identifier(self, index: int) -> str:
        """Name a picture by its number, as ``patch-00007``."""
        return f"{self.network}-{index:05d}"

    @property
    def fingerprint(self) -> str:
        """Of the parameters."""
        return digest("known", VERSION, self.network, self.size, self.seed)

    def limit(self, count: int) -> Dataset:
        """Keep the first pictures; evenly spaced ones would lack some classes."""
        return KnownPictures(self.network, min(count, self.size), self.seed)

    def __getitem__(self, index: int) -> Item:
        """Draw a picture of 128 × 128 pixels, and compute where its class is."""
        if not 0 <= index < self.size:
            raise IndexError(f"there are {self.size} images, so there is no number {index}")
        number = list(NETWORKS).index(self.network)
        random = np.random.default_rng([self.seed, number, index])
        pixels = DRAWERS[self.network](random, index)  # (SIDE, SIDE, 3) uint8
        batch = torch.from_numpy((pixels.astype(np.float32) - GREY) / GREY).movedim(2, 0)[None]
        with torch.no_grad():
            targets = self._module(batch).argmax(1)
            mask = self._module.exact(batch, targets)[0] > 0
        image = Image.fromarray(pixels)
        return Item(self.identifier(index), image, int(targets), mask.numpy())

    @cached_property
    def _module(self) -> KnownNetwork:
        return known_networks.make_known_network(self.network)


def _draw_clouds(random: np.random.Generator, index: int) -> np.ndarray:
    """Draw coloured clouds with grain."""
    coarse = Image.fromarray(random.integers(0, 255, (6, 6, 3), np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + random.integers(-20, 21, (SIDE, SIDE, 3))).clip(0, 254).astype(np.uint8)


def _draw_patches(random: np.random.Generator, index: int) -> np.ndarray:
    """Draw the stripes of one class, and weaker ones of the other."""
    pixels = _draw_noise(random)
    contrasts = (FULL, WEAKER) if index % 2 == 0 else (WEAKER, FULL)
    for vertical, (contrast, at) in enumerate(zip(contrasts, _choose_cells(random), strict=True)):
        _paint(pixels, at, contrast * stripes(CELL, bool(vertical)))
    return pixels


def _draw_one_or_both(random: np.random.Generator, index: int) -> np.ndarray:
    """Draw horizontal stripes, vertical ones, horizontal ones, and both in every fourth picture."""
    pixels = _draw_noise(random)
    for vertical, at in enumerate(_choose_cells(random)):
        if index % 4 == 3 or index % 2 == vertical:
            _paint(pixels, at, FULL * stripes(CELL, bool(vertical)))
    return pixels


def _draw_distractor(random: np.random.Generator, index: int) -> np.ndarray:
    """Draw a bright yellow square and, outside of it, faint stripes in blue."""
    pixels = _draw_noise(random)
    pixels[..., 2] = GREY + random.integers(-FAINT_NOISE, FAINT_NOISE + 1, (SIDE, SIDE))
    row, column = random.integers(0, GRID - YELLOW + 1, 2)
    square = (
        slice(row * CELL, (row + YELLOW) * CELL),
        slice(column * CELL, (column + YELLOW) * CELL),
    )
    pixels[square][..., :2] = random.integers(220, 255, (YELLOW * CELL, YELLOW * CELL, 2))
    free = np.ones((GRID, GRID), bool)
    # Its neighbours too, so that a coarse map can tell them apart.
    free[max(0, row - 1) : row + YELLOW + 1, max(0, column - 1) : column + YELLOW + 1] = False
    _paint(pixels, random.choice(np.argwhere(free)), FAINT * stripes(CELL), (2,))
    return pixels


def _draw_noise(random: np.random.Generator) -> np.ndarray:
    return (GREY + random.integers(-NOISE, NOISE + 1, (SIDE, SIDE, 3))).astype(np.uint8)


def _choose_cells(random: np.random.Generator) -> np.ndarray:
    """Choose two cells, (2, 2): the rows and columns of each, at least two apart."""
    while True:
        cells = random.integers(0, GRID, (2, 2))
        if np.abs(cells[0] - cells[1]).max() >= 2:
            return cells


def _paint(
    pixels: np.ndarray, at: np.ndarray, levels: torch.Tensor, channels: tuple[int, ...] = (0, 1, 2)
) -> None:
    """Write a pattern of levels (CELL, CELL) around grey into some channels of a cell."""
    row, column = at * CELL
    for channel in channels:
        pixels[row : row + CELL, column : column + CELL, channel] = GREY + levels.numpy()


DRAWERS: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "linear": _draw_clouds,
    "additive": _draw_clouds,
    "patch": _draw_patches,
    "xor": _draw_one_or_both,
    "distractor": _draw_distractor,
}
