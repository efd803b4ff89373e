"""Show where each attention head of a transformer looks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cam._attribution.image_batch import prepare_images
from cam._engine.attention.attention_capture import record_attention
from cam._engine.capture import check_batch
from cam._engine.evaluation_mode import evaluation_mode
from cam._engine.forward import run_model
from cam._media.images import ImageSource
from cam._models.model import Model
from cam._models.network import Network
from cam.errors import InputError


def attention_heads(
    model: Model | nn.Module,
    images: Tensor | ImageSource | Sequence[ImageSource],
    block: int = -1,
) -> Tensor:
    """Show how much each head of a block attends to each patch.

    From the class token, as Caron et al., Emerging Properties in Self-Supervised Vision
    Transformers, ICCV 2021, figure 1; in networks without one, the mean over all patches. It asks
    for no class: where a head looks is not what the score depends on.

    Args:
        model: A :class:`cam.Model` or any transformer that attends over all of its tokens.
        images: As of :func:`cam.attribute`.
        block: Which attention, in the order in which they run; -1 is the last.

    Returns:
        (B, heads, rows, columns) float32: what part of its attention goes to each patch; what goes
        to class and register tokens is not in it.

    Raises:
        InputError: There is no such block, or the batch does not fit the model.
        ModelError: The network has no attention over all of its tokens.
    """
    network = Network.of(model)
    batch, _ = prepare_images(model, images)
    check_batch(network.module, batch)
    with network.lock, evaluation_mode(network.module), torch.no_grad():
        with record_attention(network.module, batch, blocks=False) as reader:
            run_model(network.module, batch.clone())
        recording = reader.finish(type(network.module).__name__)
    count = len(recording.weights)
    if not -count <= block < count:
        raise InputError(f"block must be from {-count} to {count - 1}, but is {block!r}")
    weights = recording.weights[block].detach()
    by_head = weights.reshape(len(batch), -1, *weights.shape[-2:]).float()  # (B, heads, N, N)
    rows, columns = recording.grid
    before = by_head.shape[-1] - rows * columns
    read = by_head[:, :, 0] if before else by_head.mean(2)  # (B, heads, N)
    return read[:, :, before:].reshape(*read.shape[:2], rows, columns)
