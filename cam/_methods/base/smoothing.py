"""Smooth any CAM: by a principal component, or over changed pictures.

They are parameters of every CAM: ``cam.method("gradcam", eigen_smooth=True, aug_smooth=True)``.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from cam._engine.method_sources import LayerActivations, Source
from cam._engine.passes import Passes
from cam._methods.base.maps import normalise_maps
from cam._methods.base.principal_component import first_component
from cam._targets.places import mirror_target
from cam.types import Maps

# As pytorch-grad-cam's: whether the picture is mirrored, and what its values are multiplied by.
VIEWS = tuple((mirrored, factor) for mirrored in (False, True) for factor in (0.9, 1.0, 1.1))


def with_smoothing(function: Callable[..., Maps], fused: bool) -> Callable[..., Maps]:
    """Wrap a CAM, so that it takes ``eigen_smooth`` and ``aug_smooth``.

    ``aug_smooth`` changes pictures and not the map of one, so it is left to :func:`over_views`.

    Args:
        function: From what the method reads to maps.
        fused: Whether the method fixes how layers are fused, which takes maps without signs.
    """

    def run(
        *sources: Any, eigen_smooth: bool = False, aug_smooth: bool = False, **parameters: Any
    ) -> Maps:
        maps = function(*sources, **parameters)
        return by_principal_component(maps, fused) if eigen_smooth else maps

    return run


def by_principal_component(maps: Maps, fused: bool) -> Maps:
    """Replace a map's sum over terms by their first principal component.

    With E = w ⊙ A the weighted feature maps whose sum over the channels is the map:
    map_s = Σ_c v_c (E_cs - mean_s E_cs), v the first principal axis of the h·w vectors E_s, in the
    direction in which their sum grows. It is pytorch-grad-cam's ``eigen_smooth``, which takes
    either direction.

    Args:
        maps: (B, h, w) of a layer, with its terms.
        fused: Whether the method fixes how layers are fused.

    Returns:
        Maps (B, h, w) float32.
    """
    if maps.terms is None:
        raise TypeError("a method that is registered as a sum returns Maps with terms")
    raw = first_component(maps.terms())
    positive = normalise_maps(raw)
    # Where layers are multiplied, a map that is negative means nothing.
    return replace(maps, raw=positive if fused else raw, normalised=positive, error=None)


def over_views(
    passes: Passes,
    reads: type[Source],
    rules: tuple[str, ...],
    explain: Callable[[], tuple[Tensor, Tensor]],
) -> tuple[Tensor, Tensor]:
    """Average the maps of a picture and of five variants of it.

    The pictures are x and its mirror image, times 0.9, 1 and 1.1; the maps of mirror images are
    mirrored back. The target of x is explained in all: pytorch-grad-cam, whose ``aug_smooth`` this
    is, takes each picture's top class where no target was given. Boxes and masks of segments are
    mirrored with the picture; another callable that reads positions of the output is not.

    Args:
        passes: They explain x before and after.
        reads: What the method reads of each picture.
        rules: Kernel rules whose maps it reads.
        explain: Returns heatmap (B, H, W) and raw map (B, h, w) of what the passes explain.

    Returns:
        The same, as means.

    Raises:
        CamError: As for the method, and for :func:`cam._engine.capture.capture`.
    """
    pixels, layers = passes.pixels, passes.captured.read(LayerActivations)
    heatmaps, raws = explain()
    for mirrored, factor in VIEWS:
        if not mirrored and factor == 1:
            continue  # x itself
        inputs = (pixels.inputs.flip(-1) if mirrored else pixels.inputs) * factor
        targets = pixels.targets
        if mirrored and not isinstance(targets, Tensor):
            targets = tuple(mirror_target(target, inputs.shape[-1]) for target in targets)
        parts = []
        for captured in passes.captures(inputs, targets, reads, layers, rules):
            with passes.explaining(captured):
                parts.append(explain())
        heatmap, raw = (torch.cat(several) for several in zip(*parts, strict=True))
        heatmaps = heatmaps + (heatmap.flip(-1) if mirrored else heatmap)
        raws = raws + (raw.flip(-1) if mirrored else raw)
    return heatmaps / len(VIEWS), raws / len(VIEWS)
