"""Know the grids that a network lays over a picture."""

from collections.abc import Collection
from itertools import product
from math import isqrt, prod

from torch import Tensor, nn

from cam._engine.token_layout import MOST_EXTRA, Layout, is_map_of, is_volume_map

Grid = tuple[int, ...]
"""(h, w) of a picture, (d, h, w) of a volume or a clip."""

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
# And these (B, C, d, h, w).
VOLUMETRIC = (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d, nn.ConvTranspose3d)
# Class tokens, registers, and the detection tokens of YOLOS.
_MOST_TOKENS_BESIDE = 128


def find_patch_grids(module: nn.Module, picture: Tensor) -> set[Grid]:
    """Return the grids (h, w) of the patches that a network cuts the picture into.

    Read from its convolutions whose stride is their size, and from linear layers that take all
    pixels of a patch; no pass is made. Of a volume they are the grids (d, h, w) of its tubelets.
    """
    if picture.ndim == 5:
        return _find_tubelet_grids(module, picture)
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
    if len(grid) != picture.ndim - 2:
        return False
    fits = is_map_of(*grid, picture) if len(grid) == 2 else is_volume_map(grid, picture)
    return prod(grid) > 1 and fits


def _find_tubelet_grids(module: nn.Module, volume: Tensor) -> set[Grid]:
    """Return the grids of convolutions that cut a volume (B, C, D, H, W) into tubelets."""
    channels, *sides = volume.shape[1:]
    grids: set[Grid] = set()
    for child in module.modules():
        if not isinstance(child, nn.Conv3d) or child.in_channels != channels:
            continue
        if child.stride == child.kernel_size and max(child.kernel_size) > 1:
            pairs = list(zip(sides, child.kernel_size, strict=True))
            grids.add(tuple(side // length for side, length in pairs))
            # What does not fit is padded.
            grids.add(tuple(-(-side // length) for side, length in pairs))
    return {grid for grid in grids if is_grid(grid, volume)}


def spatial_grid(child: nn.Module, output: object, picture: Tensor) -> Grid | None:
    """Return the grid of what a convolution or a pooling returned; None where it has none."""
    kinds = SPATIAL if picture.ndim == 4 else VOLUMETRIC
    if not isinstance(child, kinds) or not isinstance(output, Tensor):
        return None
    if output.ndim != picture.ndim:
        return None
    grid = tuple(output.shape[2:])
    return grid if is_grid(grid, picture) else None


def with_merged(grids: Collection[Grid]) -> set[Grid]:
    """Add what merging 2 × 2 cells, once or more, makes of grids.

    In a volume the planes may be merged too, or not.
    """
    every = set(grids)
    for grid in grids:
        if len(grid) == 3:
            every |= _merge_volume(grid)
            continue
        rows, columns = grid
        while rows > 1 and columns > 1:
            rows, columns = -(-rows // 2), -(-columns // 2)
            every.add((rows, columns))
    return every


def _merge_volume(grid: Grid) -> set[Grid]:
    """List a grid (d, h, w) with its planes, its rows and columns, or all of them halved."""
    depths, planes = [grid[0]], [grid[1:]]
    while depths[-1] > 1:
        depths.append(-(-depths[-1] // 2))
    while min(planes[-1]) > 1:
        planes.append(tuple(-(-side // 2) for side in planes[-1]))
    return {(depth, *plane) for depth, plane in product(depths, planes)}


def _count_beside(grid: Grid) -> int:
    """Return how many tokens may stand beside a grid.

    Less than half of all: a small grid inside of many tokens is none. Beside tubelets less than a
    plane of them, or they may be of a grid with one plane more.
    """
    if len(grid) == 3:
        return min(MOST_EXTRA, grid[1] * grid[2] - 1)
    return min(_MOST_TOKENS_BESIDE, prod(grid))


def possible_layouts(
    shape: tuple[int, ...], picture: Tensor, grids: Collection[Grid]
) -> list[Layout]:
    """List every way in which an output may lie on the picture.

    Args:
        shape: (B, C, h, w), (B, h, w, C) or (B, N, C); with d before h for a volume.
        picture: (B, C, H, W) or (B, C, D, H, W), of the same batch.
        grids: Those that the network really had; tokens lie on one of them.
    """
    if len(shape) == picture.ndim:
        maps, rows = Layout("maps", shape[2:]), Layout("rows", shape[1:-1])
        return [layout for layout in (maps, rows) if is_grid(layout.grid, picture)]
    if len(shape) != 3:
        return []
    layouts = []
    # Tokens may be the pixels themselves, as Perceiver reads them.
    for grid in {*with_merged(grids), tuple(picture.shape[2:])}:
        beside = shape[1] - prod(grid)
        if 0 <= beside <= _count_beside(grid):
            layouts += [
                Layout("tokens", grid, first, beside - first)
                for first in range(beside + 1)
                # A class token and registers in front, or behind; never many on both sides.
                if min(first, beside - first) <= MOST_EXTRA
            ]
    return layouts
