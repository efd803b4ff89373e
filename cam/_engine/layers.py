"""List the layers that return maps of the image; look them up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam._engine.clips.axis_order import in_model_order
from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.layer_choice.grids import is_grid
from cam._engine.layer_choice.layer_memory import (
    find_certain_layout,
    is_doubtful,
    probed_layouts,
    recall,
)
from cam._engine.layer_choice.structure import TRANSPARENT
from cam._engine.token_layout import Layout, main_output
from cam.errors import LayerError, nearest

Layer = str | nn.Module
Layers = Layer | Sequence[Layer] | None

_LINEAR = (
    *(nn.Linear, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Identity),
    *(nn.AdaptiveAvgPool3d, nn.AvgPool3d),
)
# timm's.
_POOLS = ("SelectAdaptivePool2d", "FastAdaptiveAvgPool", "GlobalAvgPool", "ClassifierHead")


@dataclass(frozen=True)
class LayerInfo:
    """A layer with feature maps.

    Attributes:
        name: Dotted, as ``named_modules()`` gives it.
        kind: The module's class name.
        shape: (C, h, w) of its output for one image, (C, d, h, w) for a volume or a clip.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


def resolve_layers(
    module: nn.Module, layers: Layer | Sequence[Layer]
) -> list[tuple[str, nn.Module]]:
    """Turn names or modules into (dotted name, module) pairs, without duplicates.

    Raises:
        LayerError: No such layer, or an empty list.
    """
    by_name = dict(module.named_modules())
    if not isinstance(layers, str | nn.Module | Iterable):
        raise LayerError(f"a layer is a dotted name or a module, not {type(layers).__name__}")
    requested = [layers] if isinstance(layers, str | nn.Module) else list(layers)
    if not requested:
        raise LayerError("layers is empty; name at least one layer, or leave it out")
    names = {id(child): name for name, child in module.named_modules()}
    resolved: dict[str, nn.Module] = {}
    for layer in requested:
        if isinstance(layer, str):
            if layer not in by_name or not layer:
                named = [name for name in by_name if name]
                raise LayerError(f"the model has no layer {layer!r}; {nearest(layer, named)}")
            resolved[layer] = by_name[layer]
        elif isinstance(layer, nn.Module):
            if not names.get(id(layer)):
                raise LayerError(
                    f"the given {type(layer).__name__} is not a layer of this model; "
                    "take one from model.named_modules()"
                )
            resolved[names[id(layer)]] = layer
        else:
            raise LayerError(f"a layer is a dotted name or a module, not {type(layer).__name__}")
    return list(resolved.items())


def is_linear_after(module: nn.Module, names: Sequence[str]) -> bool:
    """Test whether all modules registered after layers only pool and multiply.

    Then their gradients do not depend on which side of zero a value was rounded to.
    """
    order = list(module.named_modules())
    first = min(index for index, (name, _) in enumerate(order) if name in names)
    inside = f"{order[first][0]}."
    return all(
        isinstance(child, _LINEAR) or type(child).__name__ in _POOLS
        for name, child in order[first + 1 :]
        if not name.startswith(inside)
    )


def feature_layers(module: nn.Module, example: Tensor) -> list[LayerInfo]:
    """List the layers whose output for ``example`` is a map of it.

    Runs one forward pass without gradients, in evaluation mode, and the first time a probe where
    shapes leave doubt. Listed in the order in which they run, so that a slider over them goes
    through the depth of the network.

    Args:
        module: The network.
        example: (1, C, H, W) or (1, C, D, H, W) floats; a map of it has its proportions and more
            than 1 × 1 cells.
    """
    recall(module)
    shapes: dict[str, torch.Size] = {}
    certain: dict[str, Layout] = {}

    def record(name: str, output: object) -> None:
        output = main_output(output)
        shapes.pop(name, None)
        certain.pop(name, None)
        if isinstance(output, Tensor):
            shapes[name] = output.shape
            if layout := find_certain_layout(module, output, example):
                certain[name] = layout

    hooks = (
        child.register_forward_hook(lambda _child, _, output, name=name: record(name, output))
        for name, child in module.named_modules()
        if name and not isinstance(child, TRANSPARENT)
    )
    with attach(hooks), evaluation_mode(module), torch.no_grad():
        module(in_model_order(module, example))
    doubtful = any(
        is_doubtful(module, tuple(shape), example)
        for name, shape in shapes.items()
        if name not in certain
    )
    probed = probed_layouts(module, example) if doubtful else {}
    layers = []
    for name, shape in shapes.items():
        layout = certain.get(name) or probed.get(name)
        # What has other proportions is no map of the picture: attention, windows, heads.
        if layout and is_grid(layout.grid, example):
            channels = shape[1 if layout.kind == "maps" else -1]
            kind = type(module.get_submodule(name)).__name__
            layers.append(LayerInfo(name, kind, (channels, *layout.grid)))
    return layers
