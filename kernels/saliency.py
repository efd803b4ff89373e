"""Gradient of a score with respect to the input, reduced to one map an image."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from kernels import reference
from kernels.checks import check_content, unknown_name
from kernels.dispatch import backend

REDUCTIONS = ("max", "sum", "l2")


@overload
def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = ...,
    reduce: str = ...,
    normalise: bool = ...,
    return_raw: Literal[False] = ...,
) -> Tensor: ...


@overload
def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = ...,
    reduce: str = ...,
    normalise: bool = ...,
    *,
    return_raw: bool,
) -> Any: ...


def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = None,
    reduce: str = "max",
    normalise: bool = False,
    return_raw: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Reduce an input gradient over its channels.

    With x = G, or G·I where inputs are given: "max" is max_c |x_c|, the saliency map of Simonyan
    et al. 2013, "Deep Inside Convolutional Networks: Visualising Image Classification Models and
    Saliency Maps", section 3; "sum" is Σ_c x_c, signed; "l2" is the root of Σ_c x_c².

    With `normalise`, the map's absolute value then passes min-max image by image,
    (x - min) / (max - min), without an ε, which would dim the small numbers that gradients by
    pixels are; a map that is the same everywhere gives zeros. A map that is not finite everywhere
    gives NaN everywhere: it is reported, and not spread to the other images of the batch.

    On a GPU this is one Triton launch, and one fill of B counters if maps are normalised. The
    result has the same bits every time, and an image the same bits in any batch. It never belongs
    to an autograd graph.

    Args:
        gradient: (B, C, H, W), float32, float16, bfloat16 or float64. Contiguous and channels-last
            are read in place; so is any layout whose rows follow one another.
        inputs: What the gradient is multiplied by: the same shape, dtype and device, or None.
        reduce: "max", "sum" or "l2".
        normalise: Whether maps are brought to [0, 1].
        return_raw: Whether to return the map before normalisation too.

    Returns:
        Maps (B, H, W); with `return_raw` a tuple of the maps and the raw maps. All float32, or
        float64 for float64.

    Raises:
        ValueError: A shape, dtype, device or reduction that does not fit; the message says which.
    """
    _check(gradient, inputs, reduce)
    with torch.no_grad():
        if backend(gradient) == "triton":
            maps, raw = _launch(gradient, inputs, reduce, normalise)
        else:
            raw = reference.gradient_map(gradient, inputs, reduce)
            maps = reference.stretch(raw) if normalise else raw
    return (maps, raw) if return_raw else maps


def _launch(
    gradient: Tensor, inputs: Tensor | None, reduce: str, normalise: bool
) -> tuple[Tensor, Tensor]:
    # Imported here, because Triton is not there on every system that has torch.
    from kernels import triton_saliency

    launch, raw, maps = triton_saliency.plan(gradient, inputs, reduce, maps=normalise)
    launch.run(gradient.device)
    return raw if maps is None else maps, raw


def _check(gradient: Tensor, inputs: Tensor | None, reduce: str) -> None:
    if gradient.dim() != 4:
        raise ValueError(f"gradient must be (B, C, H, W), but has shape {tuple(gradient.shape)}.")
    check_content(gradient, "gradient")
    if inputs is not None:
        if inputs.shape != gradient.shape:
            raise ValueError(
                f"inputs must have the shape of the gradient, {tuple(gradient.shape)}, "
                f"but have {tuple(inputs.shape)}."
            )
        if inputs.dtype != gradient.dtype:
            raise ValueError(
                f"inputs must have the dtype of the gradient, {gradient.dtype}, "
                f"but have {inputs.dtype}."
            )
        if inputs.device != gradient.device:
            raise ValueError(
                f"inputs must be on the device of the gradient, {gradient.device}, "
                f"but are on {inputs.device}."
            )
    if reduce not in REDUCTIONS:
        raise ValueError(unknown_name("reduction", reduce, REDUCTIONS))
