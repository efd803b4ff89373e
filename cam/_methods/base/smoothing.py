"""Two ways to smooth any CAM: by a principal component, and by a mean over changed pictures.

They are parameters of every CAM: ``cam.method("gradcam", eigen_smooth=True, aug_smooth=True)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cam._engine.passes import Passes
from cam._methods.base.method_registry import Method
from cam._methods.base.principal_component import first_component
from cam.errors import MethodError
from cam.kernels import normalise
from cam.types import Maps

# As pytorch-grad-cam's: whether the picture is mirrored, and what its values are multiplied by.
VIEWS = tuple((mirrored, factor) for mirrored in (False, True) for factor in (0.9, 1.0, 1.1))


def eigen_smoothed(one: Method, maps: Maps) -> Maps:
    """The first principal component of what a map is the sum of, in place of the sum.

    With E = w ⊙ A the weighted feature maps whose sum over the channels is the map:
    map_s = Σ_c v_c (E_cs - mean_s E_cs), v the first principal axis of the h·w vectors E_s, in the
    direction in which their sum grows. It is pytorch-grad-cam's ``eigen_smooth``, which takes
    whichever direction comes.

    Args:
        one: The method.
        maps: What it gave for a layer, (B, h, w).

    Returns:
        Maps (B, h, w) float32.

    Raises:
        MethodError: The map is no sum.
    """
    if maps.terms is None:
        raise MethodError(f"{one.name}'s map is no sum over channels, so it has no eigen_smooth")
    raw = first_component(maps.terms())
    shown = normalise(raw)
    # Where layers are multiplied, a map that is negative means nothing.
    return replace(maps, raw=shown if one.info.fusion else raw, normalised=shown)


def over_views(
    one: Method, passes: Passes, see: Callable[[], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The mean of what a method says of a picture and of five others that show the same.

    The pictures are x and its mirror image, times 0.9, 1 and 1.1; the maps of mirror images are
    mirrored back. All are asked about the target of x: pytorch-grad-cam, whose ``aug_smooth`` this
    is, takes each picture's own top class where no target was given. A target that looks at places
    of the output, such as a segment's mask, is not mirrored with the picture.

    Args:
        one: The method.
        passes: Explains x when it is given, and does so again afterwards.
        see: Heatmap (B, H, W) and raw map (B, h, w) of what the passes explain.

    Returns:
        The same, as means.

    Raises:
        CamError: As for the method, and for :func:`cam._engine.capture.capture`.
    """
    captured = passes.captured
    heatmaps, raws = see()
    for mirrored, factor in VIEWS:
        if not mirrored and factor == 1:
            continue  # it was seen already
        inputs = (captured.inputs.flip(3) if mirrored else captured.inputs) * factor
        parts = []
        for again in passes.captures(inputs, captured.targets, captured.layers, one.info.needs):
            with passes.explaining(again):
                parts.append(see())
        heatmap, raw = (torch.cat(several) for several in zip(*parts, strict=True))
        heatmaps = heatmaps + (heatmap.flip(2) if mirrored else heatmap)
        raws = raws + (raw.flip(2) if mirrored else raw)
    return heatmaps / len(VIEWS), raws / len(VIEWS)


def own(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that the method's own function takes."""
    return {key: value for key, value in parameters.items() if not key.endswith("_smooth")}
