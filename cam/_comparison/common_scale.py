"""Maps of one method on one scale, so that a weak one looks weak."""

from collections.abc import Sequence

from torch import Tensor

from cam._methods.base.method_registry import methods
from cam.errors import MetricError
from cam.types import Attribution


def common_scale(found: Sequence[Attribution]) -> list[Tensor]:
    """Heatmaps that keep their strength beside each other.

    A heatmap is stretched to [0, 1] whatever its map's values are. Here each is multiplied by its
    raw map's highest value (for gradients at the pixels: the largest without its sign) times the
    number of the map's places, and divided by the highest of all, image by image. That makes sense
    within one method and one model, between layers or classes. Evidence is so counted by area: a
    layer with more places spreads the same evidence over more of them.

    Args:
        found: What one method made of the same batch, at several layers or for several classes.

    Returns:
        One (B, H, W) float32 in [0, 1] for each; all zero where nothing speaks for the target.

    Raises:
        MetricError: There is none, or they are of several methods, whose units differ.
    """
    names = {one.method for one in found}
    if len(names) != 1:
        raise MetricError(
            f"a common scale is of one method, and these are {', '.join(sorted(names)) or 'none'}"
        )
    signless = methods()[names.pop()].family == "gradient"
    peaks = [
        (one.raw.abs() if signless else one.raw.clamp(min=0)).flatten(1).amax(1)
        * one.raw[0].numel()
        for one in found
    ]
    highest = peaks[0]
    for peak in peaks[1:]:
        highest = highest.maximum(peak)
    highest = highest.where(highest > 0, 1)
    return [
        one.heatmap * (peak / highest)[:, None, None]
        for one, peak in zip(found, peaks, strict=True)
    ]
