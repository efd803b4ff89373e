"""Put maps of one method on one scale."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam.errors import MetricError
from cam.types import Attribution


def common_scale(maps: Sequence[Attribution]) -> list[Tensor]:
    """Scale heatmaps so that they keep their strength beside each other.

    A heatmap is stretched to [0, 1] whatever its map's values are. Here each is multiplied by its
    raw map's highest value (of contributions and sensitivities: without its sign) times the
    number of the map's places, and divided by the highest of all, image by image. That holds
    within one method and one model, between layers or classes. Evidence is so counted by area: a
    layer with more places spreads the same evidence over more of them.

    Args:
        maps: What one method made of the same batch, at several layers or for several classes.

    Returns:
        One (B, H, W) float32 for each, in [0, 1] or, of contributions, in [-1, 1]; all zero where
        nothing speaks for the target.

    Raises:
        MetricError: There is none, or they are of several methods, whose units differ.
    """
    names = {attribution.method for attribution in maps}
    if len(names) != 1:
        raise MetricError(
            f"a common scale is of one method, and these are {', '.join(sorted(names)) or 'none'}"
        )
    peaks = []
    for attribution in maps:
        evidence = attribution.kind == "evidence"
        raw = attribution.raw.clamp(min=0) if evidence else attribution.raw.abs()
        peaks.append(raw.flatten(1).amax(1) * raw[0].numel())
    highest = torch.stack(peaks).amax(0)
    highest = highest.where(highest > 0, 1)
    return [
        attribution.picture()[0] * (peak / highest).view(-1, *[1] * (attribution.raw.ndim - 1))
        for attribution, peak in zip(maps, peaks, strict=True)
    ]
