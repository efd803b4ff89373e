"""Find the layer that torchcam takes where none is named."""

from functools import partial

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import attach, device_of, evaluation_mode
from cam.errors import LayerError


def locate_layer(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Return the last layer whose maps have more than a place, as torchcam does."""
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def record(_module: nn.Module, _inputs: object, output: object, name: str) -> None:
        if isinstance(output, Tensor):
            shapes.append((name, tuple(output.shape)))

    handles = (
        module.register_forward_hook(partial(record, name=name))
        for name, module in model.named_modules()
    )
    with evaluation_mode(model), torch.no_grad(), attach(handles):
        model(torch.zeros(1, *input_shape, device=device_of(model)))
    for name, shape in reversed(shapes):
        if len(shape) == len(input_shape) + 1 and any(side != 1 for side in shape[2:]):
            return name
    raise LayerError(f"no layer returns maps for inputs of {input_shape}; name one")
