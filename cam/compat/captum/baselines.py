"""Read Captum's baselines: numbers, or tensors that fit the inputs."""

from typing import Any

import torch
from torch import Tensor

from cam.errors import InputError

Baselines = Tensor | float | tuple[Tensor | float, ...] | None


def expand_baselines(baselines: Baselines, inputs: Tensor) -> Tensor:
    """Return a baseline for each input.

    Args:
        baselines: A number, or a tensor of the inputs' shape or with one picture, or a tuple of
            one of these; None: 0.
        inputs: (B, C, H, W).

    Raises:
        InputError: They do not fit.
    """
    baselines = unwrap_baselines(baselines)
    if isinstance(baselines, Tensor):
        if baselines.shape not in (inputs.shape, (1, *inputs.shape[1:])):
            raise InputError(
                f"baselines of shape {tuple(baselines.shape)} do not fit inputs of shape "
                f"{tuple(inputs.shape)}; give a number, one image, or one for each input"
            )
        return baselines.detach().to(inputs).expand_as(inputs)
    if baselines is not None and (
        isinstance(baselines, bool) or not isinstance(baselines, int | float)
    ):
        raise InputError(f"baselines is a number or a tensor, not {type(baselines).__name__}")
    return torch.full_like(inputs, baselines or 0)


def unwrap_baselines(baselines: Any) -> Any:
    """Take baselines out of a tuple of length 1."""
    if isinstance(baselines, tuple) and len(baselines) == 1:
        return baselines[0]
    return baselines
