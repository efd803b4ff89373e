"""Colour the parts of images by the principal components of their features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cam._attribution.image_batch import prepare_images
from cam._engine.capture import check_batch
from cam._engine.evaluation_mode import attach, evaluation_mode
from cam._engine.forward import run_model
from cam._engine.layer_choice.layer_memory import find_certain_layout, probed_layouts
from cam._engine.layers import resolve_layers
from cam._engine.token_layout import main_output
from cam._media.images import ImageSource
from cam._models.model import Model
from cam._models.network import Network
from cam.errors import LayerError

_COLOURS = 3


def principal_colours(
    model: Model | nn.Module,
    images: Tensor | ImageSource | Sequence[ImageSource],
    layer: str | None = None,
) -> Tensor:
    """Colour each place by the first three principal components of its features.

    Places with alike colours have alike features, also in different images of the batch: the
    components are those of all places together (Oquab et al., DINOv2, TMLR 2024, figure 1). It asks
    for no class, so it shows what a network tells apart, not what it decides by.

    Args:
        model: A :class:`cam.Model` or any network of images.
        images: As of :func:`cam.attribute`.
        layer: Dotted name; None: the model's default.

    Returns:
        (B, h, w, 3) float32 in [0, 1], red the first component; (h, w) is the layer's grid. A
        component that the features lack is 0.

    Raises:
        LayerError: The layer does not exist, did not run, or is not shown to lie on the image.
        InputError: The batch does not fit the model.
    """
    network = Network.of(model)
    batch, _ = prepare_images(model, images)
    check_batch(network.module, batch)
    outputs: list[object] = []
    with network.lock, evaluation_mode(network.module), torch.no_grad():
        [(name, module), *_] = resolve_layers(
            network.module, network.default_layers(batch) if layer is None else layer
        )
        hook = module.register_forward_hook(lambda *call: outputs.append(main_output(call[2])))
        with attach([hook]):
            run_model(network.module, batch.clone())
        output = outputs[-1] if outputs else None
        layout = None
        if isinstance(output, Tensor) and len(output) == len(batch):
            layout = find_certain_layout(network.module, output, batch)
            layout = layout or probed_layouts(network.module, batch).get(name)
    if layout is None or not isinstance(output, Tensor):
        raise LayerError(f"layer {name!r} is not shown to lie on the image; choose another layer")
    maps = layout.maps(output).double().movedim(1, -1)  # (B, h, w, C)
    cells = maps.flatten(0, 2)
    centred = cells - cells.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    rank = int((sizes > sizes[:1] * 1e-6).sum())
    axes = directions[: min(_COLOURS, rank)]
    # A component has no sign: the largest of its entries is positive.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    values = centred @ (axes * largest.sign()).T  # (cells, components)
    low, high = values.amin(0), values.amax(0)
    colours = centred.new_zeros(len(centred), _COLOURS)
    colours[:, : len(axes)] = (values - low) / (high - low)
    return colours.reshape(*maps.shape[:3], _COLOURS).float()
