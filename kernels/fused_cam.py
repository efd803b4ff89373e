"""Activations and gradients of one layer to class activation maps, in one read of both."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor

from kernels import reference
from kernels.checks import check_content, unknown_name
from kernels.dispatch import backend
from kernels.launch import Results


@overload
def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ...,
    normalise: bool = ...,
    return_signed: Literal[False] = ...,
    return_weights: Literal[False] = ...,
) -> Tensor: ...


@overload
def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ...,
    normalise: bool = ...,
    *,
    return_signed: bool = ...,
    return_weights: bool = ...,
) -> Any: ...


def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ("gradcam",),
    normalise: bool = True,
    return_signed: bool = False,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Compute class activation maps from a layer's activations and gradients.

    gradcam: w_c = mean_s G_cs; map_s = Σ_c w_c A_cs (Selvaraju et al. 2017, "Grad-CAM: Visual
    Explanations from Deep Networks via Gradient-based Localization", eq. 1 and 2).

    With `normalise`, each map then passes ReLU and pytorch-grad-cam's min-max:
    (x - min) / (1e-7 + (max - min)). A map with nothing above zero gives zeros. A map that is not
    finite everywhere, because NaN or Inf came in, gives NaN everywhere: it is reported, and not
    spread to the other images of the batch.

    On a GPU this is one Triton launch after a fill of B counters. The result has the same bits
    every time, and an image the same bits in any batch. It never belongs to an autograd graph.

    Args:
        activations: (B, C, h, w), float32, float16, bfloat16 or float64. Contiguous and
            channels-last are read in place; so is any layout whose rows follow one another.
        gradients: The same shape, dtype and device; the layout may differ.
        rules: Names out of `kernels.RULES`, each once; K of them.
        normalise: Whether maps are brought to [0, 1]; otherwise they are signed, before ReLU.
        return_signed: Whether to return the signed maps too.
        return_weights: Whether to return the channel weights too.

    Returns:
        Maps (B, K, h, w); or a tuple of the maps, then the signed maps (B, K, h, w) if asked for,
        then the weights (B, K, C) if asked for. All float32, or float64 for float64.

    Raises:
        ValueError: A shape, dtype, device or rule that does not fit; the message says which.
    """
    _check_tensors(activations, gradients)
    names = _check_rules(rules)
    with torch.no_grad():
        if backend(activations) == "triton":
            results = _launch(activations, gradients, normalise, return_signed, return_weights)
        else:
            results = _compute(activations, gradients, names, normalise)
    first = results.maps if normalise else results.signed
    second = results.signed if return_signed else None
    third = results.weights if return_weights else None
    asked = tuple(result for result in (first, second, third) if result is not None)
    return asked if len(asked) > 1 else asked[0]


def _launch(
    activations: Tensor, gradients: Tensor, normalise: bool, signed: bool, weights: bool
) -> Results:
    # Imported here, because Triton is not there on every system that has torch.
    from kernels import triton_cam

    launch, results = triton_cam.plan(
        activations, gradients, maps=normalise, signed=signed or not normalise, weights=weights
    )
    launch.run(activations.device)
    return results


def _compute(
    activations: Tensor, gradients: Tensor, rules: tuple[str, ...], normalise: bool
) -> Results:
    found = [reference.RULE_FUNCTIONS[rule](activations, gradients) for rule in rules]
    signed = torch.stack([one.signed for one in found], dim=1)  # (B, K, h, w)
    weights = torch.stack([one.weights for one in found], dim=1)  # (B, K, C)
    return Results(reference.normalise(signed) if normalise else None, signed, weights)


def _check_tensors(activations: Tensor, gradients: Tensor) -> None:
    if activations.dim() != 4:
        raise ValueError(
            f"activations must be (B, C, h, w), but have shape {tuple(activations.shape)}."
        )
    if gradients.shape != activations.shape:
        raise ValueError(
            "gradients must have the shape of the activations, "
            f"{tuple(activations.shape)}, but have {tuple(gradients.shape)}."
        )
    check_content(activations, "activations")
    if gradients.dtype != activations.dtype:
        raise ValueError(
            f"gradients must have the dtype of the activations, {activations.dtype}, "
            f"but have {gradients.dtype}."
        )
    if gradients.device != activations.device:
        raise ValueError(
            f"gradients must be on the device of the activations, {activations.device}, "
            f"but are on {gradients.device}."
        )


def _check_rules(rules: Sequence[str]) -> tuple[str, ...]:
    if isinstance(rules, str):
        raise ValueError(f"rules must be a sequence of names, such as ({rules!r},), not a string.")
    if not rules:
        raise ValueError(f"rules is empty; name at least one of {', '.join(reference.RULES)}.")
    for rule in rules:
        if rule not in reference.RULES:
            raise ValueError(unknown_name("rule", rule, reference.RULES))
    if len(set(rules)) != len(rules):
        raise ValueError(f"rules must be named once each, but are {', '.join(rules)}.")
    return tuple(rules)
