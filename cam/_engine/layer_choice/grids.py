"""Know the grids that a network lays over a picture."""

from collections.abc import Collection
from math import isqrt

from torch import Tensor, nn

from cam._engine.token_layout import MOST_EXTRA, Layout, is_map_of

Grid = tuple[int, int]

# These compute (B, C, h, w), whatever stands around them.
SPATIAL = (
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Upsample,
    nn.ConvTranspose2d,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
)
# Class tokens, registers, and the detection tokens of YOLOS.
_MOST_TOKENS_BESIDE = 128


def find_patch_grids(module: nn.Module, picture: Tensor) -> set[Grid]:
    """Return the grids (h, w) of the patches that a network cuts the picture into.

    Read from its convolutions whose stride is their size, and from linear layers that take all
    pixels of a patch; no pass is made.
    """
    channels, height, width = picture.shape[1:]
    patches: set[Grid] = set()
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and child.in_channels == channels:
            rows, columns = child.kernel_size
            if child.stride == child.kernel_size and max(rows, columns) > 1:
                patches.add((rows, columns))
        elif isinstance(child, nn.Linear) and not child.in_features % channels:
            side = isqrt(child.in_features // channels)
            if side > 1 and side * side * channels == child.in_features:
                patches.add((side, side))
    grids = {(height // rows, width // columns) for rows, columns in patches}
    # What does not fit is padded.
    grids |= {(-(-height // rows), -(-width // columns)) for rows, columns in patches}
    return {grid for grid in grids if is_grid(grid, picture)}


def is_grid(grid: Grid, picture: Tensor) -> bool:
    """Test whether a grid has the picture's proportions, and more than one cell."""
    return grid[0] * grid[1] > 1 and is_map_of(*grid, picture)


def spatial_grid(child: nn.Module, output: object, picture: Tensor) -> Grid | None:
    """Return the grid of what a convolution or a pooling returned; None where it has none."""
    if not isinstance(child, SPATIAL) or not isinstance(output, Tensor) or output.ndim != 4:
        return None
    grid = (output.shape[2], output.shape[3])
    return grid if is_grid(grid, picture) else None


def with_merged(grids: Collection[Grid]) -> set[Grid]:
    """Add what merging 2 × 2 cells, once or more, makes of grids."""
    every = set(grids)
    for rows, columns in grids:
        while rows > 1 and columns > 1:
            rows, columns = -(-rows // 2), -(-columns // 2)
            every.add((rows, columns))
    return every


def possible_layouts(
    shape: tuple[int, ...], picture: Tensor, grids: Collection[Grid]
) -> list[Layout]:
    """List every way in which an output may lie on the picture.

    Args:
        shape: (B, C, h, w), (B, h, w, C) or (B, N, C).
        picture: (B, C, H, W), of the same batch.
        grids: Those that the network really had; tokens lie on one of them.
    """
    if len(shape) == 4:
        maps = Layout("maps", (shape[2], shape[3]))
        rows = Layout("rows", (shape[1], shape[2]))
        return [layout for layout in (maps, rows) if is_grid(layout.grid, picture)]
    if len(shape) != 3:
        return []
    layouts = []
    # Tokens may be the pixels themselves, as Perceiver reads them.
    for rows_, columns in {*with_merged(grids), (picture.shape[-2], picture.shape[-1])}:
        beside = shape[1] - rows_ * columns
        # Less than half of them beside it: a small grid inside of many tokens is none.
        if 0 <= beside <= min(_MOST_TOKENS_BESIDE, rows_ * columns):
            layouts += [
                Layout("tokens", (rows_, columns), first, beside - first)
                for first in range(beside + 1)
                # A class token and registers in front, or behind; never many on both sides.
                if min(first, beside - first) <= MOST_EXTRA
            ]
    return layouts
