"""List the layers that return maps of the picture; look them up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam._engine.default_layer import TRANSPARENT
from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.token_layout import count_prefix_tokens, find_layout, is_map_of, main_output
from cam.errors import LayerError, nearest

Layer = str | nn.Module
Layers = Layer | Sequence[Layer] | None

_LINEAR = (nn.Linear, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Identity)
# timm's.
_POOLS = ("SelectAdaptivePool2d", "FastAdaptiveAvgPool", "GlobalAvgPool", "ClassifierHead")


@dataclass(frozen=True)
class LayerInfo:
    """A layer with feature maps.

    Attributes:
        name: Dotted, as ``named_modules()`` gives it.
        kind: The module's class name.
        shape: (C, h, w) of its output for one image.
    """

    name: str
    kind: str
    shape: tuple[int, int, int]


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

    Runs one forward pass without gradients, in evaluation mode. Listed in the order in which they
    run, so that a slider over them goes through the depth of the network.

    Args:
        module: The network.
        example: (1, 3, H, W) floats; a map of it has its proportions and more than 1 × 1 cells.
    """
    layers: dict[str, LayerInfo] = {}
    before = count_prefix_tokens(module)

    def record(name: str, child: nn.Module, output: object) -> None:
        output = main_output(output)
        if not isinstance(output, Tensor):
            return
        layout = find_layout(output, example, before)
        # What has other proportions is no map of the picture: attention, windows, heads.
        if layout and layout.grid[0] * layout.grid[1] > 1 and is_map_of(*layout.grid, example):
            layers.pop(name, None)
            channels = layout.maps(output).shape[1]
            layers[name] = LayerInfo(name, type(child).__name__, (channels, *layout.grid))

    hooks = (
        child.register_forward_hook(lambda child, _, output, name=name: record(name, child, output))
        for name, child in module.named_modules()
        if name and not isinstance(child, TRANSPARENT)
    )
    with attach(hooks), evaluation_mode(module), torch.no_grad():
        module(example)
    return list(layers.values())
