"""Colour tables of 256 entries, stored beside this file.

`colormaps.txt` has one line a map: its name, a space, and 256 RGB bytes as hexadecimal digits,
the bytes that matplotlib itself paints with:
`matplotlib.colormaps[name](range(256), bytes=True)[:, :3]`. To write the file again, run
`python -m tests.support.make_colormaps`; a test compares it with matplotlib.
"""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..launch.argument_checks import unknown_name

FILE = Path(__file__).with_name("colormaps.txt")
_LINES = dict(line.split() for line in FILE.read_text(encoding="ascii").splitlines())
COLORMAPS = tuple(_LINES)


def colormap_table(name: str) -> Tensor:
    """Give the 256 colours of a map, by matplotlib's name for it.

    Args:
        name: One of `COLORMAPS`.

    Returns:
        (256, 3) uint8 RGB on the CPU. The tensor is shared by all callers: copy it to change it.

    Raises:
        ValueError: The name is not known; the message gives the nearest.
    """
    if name not in COLORMAPS:
        raise ValueError(unknown_name("colour map", name, COLORMAPS))
    return _table(name)


@cache
def _table(name: str) -> Tensor:
    return torch.tensor(list(bytes.fromhex(_LINES[name])), dtype=torch.uint8).view(256, 3)
