"""Reduce an input gradient to one map for each image."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from ..launch.argument_checks import check_alike, check_content, check_shape, unknown_name
from ..launch.dispatch import backend, backend_across_programs
from ..launch.operators import operator
from . import reference

REDUCTIONS = ("max", "sum", "l2")


@overload
def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = ...,
    reduce: str = ...,
    normalise: bool = ...,
    *,
    signed: bool | None = ...,
    percentile: float = ...,
    return_raw: Literal[False] = ...,
) -> Tensor: ...


@overload
def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = ...,
    reduce: str = ...,
    normalise: bool = ...,
    *,
    signed: bool | None = ...,
    percentile: float = ...,
    return_raw: bool,
) -> Any: ...


def gradient_map(
    gradient: Tensor,
    inputs: Tensor | None = None,
    reduce: str = "max",
    normalise: bool = False,
    *,
    signed: bool | None = None,
    percentile: float = 100.0,
    return_raw: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Reduce an input gradient over its channels.

    With x = G, or G·I where inputs are given:

    | reduce | signed=False | signed=True                                    | signed=None     |
    | ------ | ------------ | ---------------------------------------------- | --------------- |
    | "max"  | max_c |x_c|  | the x_c of the largest |x_c|; of equals, first | as signed=False |
    | "sum"  | Σ_c |x_c|    | Σ_c x_c                                        | see below       |
    | "l2"   | √Σ_c x_c²    | refused, because a root has no sign            | as signed=False |

    "max" without sign is the saliency map of Simonyan et al. 2013, "Deep Inside Convolutional
    Networks: Visualising Image Classification Models and Saliency Maps", section 3. The raw "sum"
    of `signed=None` is Σ_c x_c with its sign, and its normalised map shows |Σ_c x_c|.

    With `normalise`, a map m without sign becomes (min(|m|, P) - min |m|) / (P - min |m|), in
    [0, 1], and a signed one clip(m / P, -1, 1), in which 0 stays 0. P is that percentile of the
    image's |m| which `numpy.percentile` gives, so 100 is its largest value and the scale is plain
    min-max; 99 lets the few largest values of a noisy gradient burn out, instead of darkening all
    the others. PAIR's `saliency` package does the same without sign (`VisualizeImageGrayscale` is
    reduce="sum", signed=False, percentile=99). With sign it takes the percentile of the signed
    values, which would scale a map by its positive side alone; here it is always that of |m|.

    There is no ε, which would dim the small numbers that gradients by pixels are. Where P is no
    more than what becomes 0, all that is above it becomes 1, so a map that is the same everywhere
    gives zeros. A map that is not finite everywhere gives NaN everywhere: it is reported, and not
    spread to the other images of the batch.

    On a GPU this is one Triton launch. The result has the same bits every time, and an image the
    same bits in any batch. It never belongs to an autograd graph.

    Args:
        gradient: (B, C, H, W), or (B, C, D, H, W) of volumes, float32, float16, bfloat16 or
            float64. Contiguous and channels-last are read in place; so is any layout whose rows
            follow one another.
        inputs: What the gradient is multiplied by: the same shape, dtype and device, or None.
        reduce: "max", "sum" or "l2".
        normalise: Whether maps are brought to [0, 1], or to [-1, 1] if they are signed.
        signed: Whether maps keep their sign; None as the table says.
        percentile: Where the scale of normalised maps ends, from 0 to 100.
        return_raw: Whether to return the map before normalisation too.

    Returns:
        Maps (B, H, W), of volumes (B, D, H, W); with `return_raw` a tuple of the maps and the raw
        maps. All float32, or float64 for float64.

    Raises:
        ValueError: A shape, dtype, device, reduction or percentile that does not fit; the message
            says which.
    """
    _check(gradient, inputs, reduce)
    _check_scale(reduce, normalise, signed, percentile)
    depths = gradient.shape[2:-2]
    # A view, where the planes of a volume follow one another.
    gradient = gradient.flatten(2, -2)
    inputs = None if inputs is None else inputs.flatten(2, -2)
    with torch.no_grad():
        maps, raw = _gradient_map(gradient, inputs, reduce, signed, normalise, float(percentile))
    if depths:
        raw = raw.unflatten(1, (*depths, -1))
        maps = maps.unflatten(1, (*depths, -1)) if normalise else maps
    first = maps if normalise else raw
    return (first, raw) if return_raw else first


@operator("gradient_map")
def _gradient_map(
    gradient: Tensor,
    inputs: Tensor | None,
    reduce: str,
    signed: bool | None,
    normalise: bool,
    percentile: float,
) -> tuple[Tensor, Tensor]:
    choose = backend_across_programs if normalise else backend
    if choose(gradient) == "triton":
        # Imported here, because Triton is not there on every system that has torch.
        from . import launcher

        launch, raw, maps = launcher.plan(
            gradient, inputs, reduce, signed=signed, maps=normalise, percentile=percentile
        )
        launch.run()
    else:
        raw = reference.gradient_map(gradient, inputs, reduce, signed)
        maps = reference.stretch(raw, signed is True, percentile) if normalise else None
    # Two results of an operator never share memory.
    return (raw.new_empty(0) if maps is None else maps), raw


def _check(gradient: Tensor, inputs: Tensor | None, reduce: str) -> None:
    shape = "(B, C, H, W) or (B, C, D, H, W)"
    check_shape(gradient, "gradient", shape, gradient.dim() in (4, 5))
    check_content(gradient, "gradient")
    if inputs is not None:
        check_alike(inputs, "inputs", gradient, "gradient")
    if reduce not in REDUCTIONS:
        raise ValueError(unknown_name("reduction", reduce, REDUCTIONS))


def _check_scale(reduce: str, normalise: bool, signed: object, percentile: object) -> None:
    if signed is not None and not isinstance(signed, bool):
        raise ValueError(f"signed must be True, False or None, but is {signed!r}.")
    if signed and reduce == "l2":
        raise ValueError('reduce="l2" is a root, which has no sign; leave signed at None or False.')
    if isinstance(percentile, bool) or not isinstance(percentile, int | float):
        raise ValueError(f"percentile must be a number, but is {percentile!r}.")
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must be from 0 to 100, but is {percentile}.")
    if percentile < 100 and not normalise:
        raise ValueError(
            f"percentile={percentile} scales normalised maps only; pass normalise=True, "
            "or leave it at 100."
        )
