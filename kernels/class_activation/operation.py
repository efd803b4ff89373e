"""Compute class activation maps from one layer's activations and gradients."""

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from ..launch.argument_checks import check_alike, check_content, check_shape, unknown_name
from ..launch.dispatch import backend_across_programs
from ..launch.operators import operator, skips_operator
from . import reference
from .reference import CamMaps
from .rules import NUMBERS, RULES, Rule


@overload
def fused_cam(
    activations: Tensor, gradients: Tensor, rules: Sequence[str] = ..., normalise: bool = ...
) -> Tensor: ...


@overload
def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ...,
    normalise: bool = ...,
    *,
    return_signed: Literal[True],
    return_weights: bool = ...,
) -> tuple[Tensor, ...]: ...


@overload
def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ...,
    normalise: bool = ...,
    *,
    return_weights: Literal[True],
) -> tuple[Tensor, ...]: ...


def fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str] = ("gradcam",),
    normalise: bool = True,
    return_signed: bool = False,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Compute class activation maps from a layer's activations and gradients.

    The rules, with ΣA the sum over the places s of a channel:

    - gradcam: w_c = mean_s G_cs (Selvaraju et al. 2017, eq. 1),
    - xgradcam: w_c = Σ_s A_cs G_cs / (ΣA + 1e-7) (Fu et al. 2020, eq. 8),
    - gradcam_plus_plus: w_c = Σ_s α_cs max(G_cs, 0), α = G² / (2G² + G³ ΣA), 0 where G = 0
      (Chattopadhay et al. 2018, eq. 19),
    - for these three map_s = Σ_c w_c A_cs;
    - layercam: map_s = Σ_c max(G_cs, 0) A_cs (Jiang et al. 2021, eq. 5 and 6),
    - hirescam: map_s = Σ_c G_cs A_cs (Draelos and Carin 2020, eq. 3),
    - gradcam_elementwise: map_s = Σ_c max(G_cs A_cs, 0) (pytorch-grad-cam's GradCAMElementWise).

    With `normalise`, each map then passes ReLU and pytorch-grad-cam's min-max:
    (x - min) / (1e-7 + (max - min)). A map with nothing above zero gives zeros. A map that is not
    finite everywhere, because NaN or Inf came in, gives NaN everywhere: it is reported, and not
    spread to the other images of the batch.

    Of volumes and clips a place s is one of d·h·w, whose planes follow one another.

    On a GPU this is one Triton launch whatever the number of rules. For h·w up to 1,024 it loads
    every element of A and G once; above that at most twice. Beside them it writes what is asked
    for, and writes and reads B · K · h · w float32 values of partial maps for every 64 channels or
    so, which stay in the cache. The result has the same bits every time, and an image the same
    bits in any batch. It never belongs to an autograd graph. To the compiler it is
    `torch.ops.cam_kernels.fused_cam`, and it can be captured in a CUDA graph.

    Args:
        activations: (B, C, h, w), or (B, C, d, h, w) of volumes, float32, float16, bfloat16 or
            float64. Contiguous and channels-last are read in place; so is any layout whose rows
            follow one another.
        gradients: The same shape, dtype and device; the layout may differ.
        rules: Names out of `kernels.RULES`, each once; K of them.
        normalise: Whether maps are brought to [0, 1]; otherwise they are signed, before ReLU.
        return_signed: Whether to return the signed maps too.
        return_weights: Whether to return the channel weights too.

    Returns:
        Maps (B, K, h, w), of volumes (B, K, d, h, w); or a tuple of the maps, then the signed maps
        of the same shape if asked for, then the weights (B, K, C) if asked for, NaN for the last
        three rules, which give channels none. All float32, or float64 for float64.

    Raises:
        ValueError: A shape, dtype, device or rule that does not fit; the message says which.
    """
    shape = "(B, C, h, w) or (B, C, d, h, w)"
    check_shape(activations, "activations", shape, activations.dim() in (4, 5))
    check_alike(gradients, "gradients", activations, "activations")
    check_content(activations, "activations")
    numbers = [NUMBERS[name] for name in check_rules(rules)]
    wanted_parts = normalise, return_signed or not normalise, return_weights
    depths = activations.shape[2:-2]
    # A view, where the planes of a volume follow one another.
    activations, gradients = activations.flatten(2, -2), gradients.flatten(2, -2)
    with torch.no_grad():
        if skips_operator(activations):
            results = reference.fused_cam(activations, gradients, numbers, *wanted_parts)
        else:
            tensors = iter(_fused_cam(activations, gradients, numbers, *wanted_parts))
            results = CamMaps(*[next(tensors) if part else None for part in wanted_parts])
    maps, signed, weights = results
    returned = (
        maps if normalise else signed,
        signed if return_signed else None,
        weights if return_weights else None,
    )
    present = tuple(tensor for tensor in returned if tensor is not None)
    if depths:
        sides = (*depths, -1, activations.shape[-1])
        present = tuple(
            part.reshape(*part.shape[:2], *sides) if part.dim() == 4 else part for part in present
        )
    return present if len(present) > 1 else present[0]


@operator("fused_cam")
def _fused_cam(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[int],
    maps: bool,
    signed: bool,
    weights: bool,
) -> list[Tensor]:
    """Compute the requested maps, signed maps and weights, in this order."""
    numbers = [Rule(rule) for rule in rules]
    if backend_across_programs(activations) == "triton":
        # Imported here, because Triton is not there on every system that has torch.
        from . import launcher

        launch, results = launcher.plan(
            activations, gradients, numbers, maps=maps, signed=signed, weights=weights
        )
        launch.run()
    else:
        results = reference.fused_cam(activations, gradients, numbers, maps, signed, weights)
    return [result for result in results if result is not None]


def check_rules(rules: Sequence[str]) -> tuple[str, ...]:
    """Check the names of rules, each once.

    Raises:
        ValueError: No rule, one that there is not, or one twice.
    """
    if isinstance(rules, str):
        raise ValueError(f"rules must be a sequence of names, such as ({rules!r},), not a string.")
    if not rules:
        raise ValueError(f"rules is empty; name at least one of {', '.join(RULES)}.")
    for rule in rules:
        if rule not in RULES:
            raise ValueError(unknown_name("rule", rule, RULES))
    if len(set(rules)) != len(rules):
        raise ValueError(f"rules must be named once each, but are {', '.join(rules)}.")
    return tuple(rules)
