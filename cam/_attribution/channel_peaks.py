"""Find where over many images each channel of a layer is highest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cam._engine.capture import check_batch
from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.layers import resolve_layers
from cam._engine.token_layout import count_prefix_tokens, find_layout, main_output
from cam._models.model import Model
from cam.errors import LayerError


@dataclass(frozen=True, eq=False)
class ChannelPeaks:
    """The highest activations of each channel, at most one an image, the highest first.

    With C channels and K images at most:

    Attributes:
        values: (C, K) float32.
        images: (C, K) int64, numbers of the images.
        cells: (C, K) int64, row × columns + column of the feature grid.
        grid: Rows and columns of the feature grid.
    """

    values: Tensor
    images: Tensor
    cells: Tensor
    grid: tuple[int, int]


def find_peaks(
    model: Model,
    batch: Tensor,
    numbers: Sequence[int],
    layer: str,
    most: int,
    before: ChannelPeaks | None = None,
) -> ChannelPeaks:
    """Find the peaks of a batch, joined with those of images before; one pass up to the layer.

    Args:
        model: Whose layer.
        batch: (B, 3, H, W), as ``model.prepare`` gives.
        numbers: One an image, which the result names.
        layer: Dotted name of a layer with feature maps.
        most: How many images each channel keeps.
        before: The peaks so far.

    Raises:
        LayerError: There is no such layer, it does not run, or it has no feature maps.
        InputError: The batch does not fit the model.
    """
    check_batch(model.module, batch)
    [(name, module)] = resolve_layers(model.module, layer)
    prefix = count_prefix_tokens(model.module)
    maps: list[Tensor] = []

    def record(_module: object, _inputs: object, output: object) -> None:
        tensor = main_output(output)
        layout = find_layout(tensor, batch, prefix) if isinstance(tensor, Tensor) else None
        if layout is None or not isinstance(tensor, Tensor):
            raise LayerError(f"layer {name!r} has no feature maps; choose another layer")
        maps.append(layout.maps(tensor).float())  # (B, C, h, w)
        raise _ReachedError

    with model.lock, evaluation_mode(model.module), torch.no_grad():
        try:
            with attach([module.register_forward_hook(record)]):
                model.module(batch.clone())
        except _ReachedError:
            pass
    if not maps:
        raise LayerError(f"layer {name!r} did not run in the forward pass; choose one that does")
    grid = (int(maps[0].shape[2]), int(maps[0].shape[3]))
    values, cells = maps[0].flatten(2).max(2)  # (B, C) each
    images = torch.tensor(numbers, device=values.device)[:, None].expand_as(values)
    parts = [values.T, images.T, cells.T]
    if before is not None:
        older = (before.values, before.images, before.cells)
        parts = [torch.cat(pair, 1) for pair in zip(older, parts, strict=True)]
    order = parts[0].argsort(dim=1, descending=True, stable=True)[:, :most]
    values, images, cells = (part.gather(1, order) for part in parts)
    return ChannelPeaks(values, images, cells, grid)


class _ReachedError(Exception):
    """What lies behind the layer need not run."""
