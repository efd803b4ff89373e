"""View a layer's output, in any layout, as feature maps.

Networks return features of a picture as (B, C, h, w), as (B, h, w, C) (Swin and others), or as
(B, N, C), where the N tokens are the h·w cells of a grid, row by row, and others without a
position: a class token, registers. A layout views each of them as maps (B, C, h, w), without a
copy, and writes maps back. Of a volume or a clip there is one more axis: (B, C, d, h, w),
(B, d, h, w, C), and N = d·h·w tubelets.
"""

from dataclasses import dataclass

from torch import Tensor, nn

# Class, distillation and register tokens; DINOv3 has five in all.
MOST_EXTRA = 16


@dataclass(frozen=True)
class Layout:
    """Where the maps of a picture lie in an output.

    Attributes:
        kind: ``"maps"`` (B, C, h, w), ``"rows"`` (B, h, w, C) or ``"tokens"`` (B, N, C).
        grid: (h, w), or (d, h, w) of a volume.
        before: Number of tokens before the grid; 0 for maps and rows.
        after: Number of tokens after it.
    """

    kind: str
    grid: tuple[int, ...]
    before: int = 0
    after: int = 0

    def maps(self, output: Tensor) -> Tensor:
        """View the output, or its gradient, as (B, C, *grid)."""
        if self.kind == "maps":
            return output
        if self.kind == "rows":
            return output.movedim(-1, 1)
        cells = output[:, self.before : output.shape[1] - self.after]
        return cells.transpose(1, 2).view(len(cells), -1, *self.grid)

    def output(self, maps: Tensor, like: Tensor) -> Tensor:
        """Convert maps (N, C, *grid) to the layer's layout.

        Args:
            maps: For N inputs.
            like: An output of the layer, for N or for 1, whose tokens outside the grid are copied.

        Returns:
            A new tensor, which may be changed in place.
        """
        if self.kind == "maps":
            return maps.clone()
        if self.kind == "rows":
            return maps.movedim(1, -1).clone()
        whole = like.expand(len(maps), -1, -1).clone()
        whole[:, self.before : like.shape[1] - self.after] = maps.flatten(2).transpose(1, 2)
        return whole


def find_layout(output: Tensor, picture: Tensor, before: int | None = None) -> Layout | None:
    """Infer an output's layout from the picture's proportions, which maps share.

    Args:
        output: Of a layer, with the batch first.
        picture: (B, C, H, W) or (B, C, D, H, W) input of the network.
        before: Number of tokens before the grid, where the network says so.

    Returns:
        None where no part of the output can be a map of the picture.
    """
    if not output.is_floating_point() or output.shape[:1] != picture.shape[:1]:
        return None
    if picture.ndim == 5:
        return _find_volume_layout(output, picture)
    if output.ndim == 4:
        first, second, third = output.shape[1:]
        rows = _difference(first, second, picture)
        # Where both would do it is what convolutions give.
        if is_map_of(first, second, picture) and rows < _difference(second, third, picture):
            return Layout("rows", (first, second))
        return Layout("maps", (second, third))
    if output.ndim == 3:
        return _find_token_layout(output.shape[1], picture, before)
    return None


def count_prefix_tokens(module: nn.Module) -> int | None:
    """Return how many tokens timm's networks say come before the grid."""
    for child in module.modules():
        count = getattr(child, "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return None


def is_volume_map(grid: tuple[int, ...], volume: Tensor) -> bool:
    """Test whether a grid (d, h, w) has the proportions of a volume's planes, roughly.

    The strides along the planes and across them may differ, so of the depth only its size counts.
    """
    return grid[0] <= volume.shape[-3] and is_map_of(grid[1], grid[2], volume)


def name_maps(picture: Tensor) -> str:
    """Name the shape of feature maps of a batch, for errors."""
    return "(B, C, h, w)" if picture.ndim == 4 else "(B, C, d, h, w)"


def _find_volume_layout(output: Tensor, volume: Tensor) -> Layout | None:
    """Return the layout of an output (B, C, d, h, w); of tokens only a grid can tell."""
    if output.ndim != 5:
        return None
    maps, rows = tuple(output.shape[2:]), tuple(output.shape[1:4])
    if is_volume_map(maps, volume):
        return Layout("maps", maps)
    return Layout("rows", rows) if is_volume_map(rows, volume) else None


def is_map_of(rows: int, columns: int, picture: Tensor) -> bool:
    """Test whether a grid has a picture's proportions, roughly."""
    return _difference(rows, columns, picture) <= 2 * max(picture.shape[-2:])


def _difference(rows: int, columns: int, picture: Tensor) -> int:
    height, width = picture.shape[-2:]
    return abs(rows * width - columns * height)


def _find_token_layout(count: int, picture: Tensor, before: int | None) -> Layout | None:
    """Return the layout whose grid holds the most tokens."""
    height, width = picture.shape[-2:]
    best: Layout | None = None
    for stride in range(1, max(height, width) + 1):
        # The rest at the edge is cut off or padded.
        for rows, columns in {
            (height // stride, width // stride),
            (-(-height // stride), -(-width // stride)),
        }:
            extra = count - rows * columns
            if rows * columns < 2 or not 0 <= extra <= MOST_EXTRA:
                continue
            # What the network says counts, unless it is of another part of the network.
            first = before if before is not None and before <= extra else extra
            layout = Layout("tokens", (rows, columns), first, extra - first)
            if before == extra:
                return layout
            if best is None or extra < best.before + best.after:
                best = layout
    return best


def main_output(output: object) -> object:
    """Return the first of a tuple, beside which attention may be."""
    return output[0] if isinstance(output, tuple) and output else output


def replace_main_output(output: object, tensor: Tensor) -> object:
    """Return an output with another tensor in place of the main one."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor
