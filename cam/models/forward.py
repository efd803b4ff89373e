"""Calling a network, whatever it puts its logits in."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cam.errors import ModelError


def run_model(module: nn.Module, pixels: Tensor) -> Tensor:
    """Run a model on a batch and give its logits.

    They are the output itself, the first tensor of a tuple or list, or what a mapping or an object
    such as Hugging Face's outputs calls "logits", or "out" (torchvision's segmentation models).

    Raises:
        ModelError: It fails on the batch, or does not put out a tensor.
    """
    try:
        output = module(pixels)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError, TypeError, ValueError, LookupError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"the model failed on a {pixels.dtype} batch of shape {tuple(pixels.shape)}: {reason}"
        ) from error
    logits = _logits(output)
    if logits is None:
        raise ModelError(
            f"the model puts out a {type(output).__name__} without logits; wrap it in a module "
            "that returns them as a tensor"
        )
    return logits


def _logits(output: object) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out"):
        inside = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(inside, Tensor):
            return inside
    if isinstance(output, tuple | list):
        return next((one for one in output if isinstance(one, Tensor)), None)
    return None
