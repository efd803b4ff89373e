"""Measure how alike maps are, each with each."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import pearson, ranks, spearman, structural_similarity
from cam.errors import MetricError, require_known

TOP = 0.05


def top_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the share of the top twentieth that two maps have common.

    Chance gives 0.05. Pixels of the same value go in a fixed random order.

    Args:
        first: (N, H, W).
        second: (N, H, W).

    Returns:
        (N,) float64 in [0, 1].
    """
    count = max(1, round(TOP * first[0].numel()))
    both = (ranks(first) < count) & (ranks(second) < count)
    return both.flatten(1).sum(1).double() / count


MEASURES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "spearman": spearman,
        "pearson": lambda first, second: pearson(first.flatten(1), second.flatten(1)),
        "ssim": structural_similarity,
        "top": top_overlap,
    }
)


def agreement(maps: Tensor | Sequence[Tensor], measure: str = "spearman") -> Tensor:
    """Measure how alike maps of one picture are, each with each.

    Args:
        maps: (N, H, W) heatmaps in [0, 1], or N of (H, W).
        measure: "spearman", of the pixels' order (1: the same order, 0: chance); "pearson", of
            their values; "ssim", of local patterns, in windows of 7 × 7 (Wang et al. 2004); or
            "top", the share of the top 5 % of the pixels that is the same (chance: 0.05).

    Returns:
        (N, N) float64 on the CPU, symmetric; NaN where a map is the same everywhere, or not finite:
        it puts no pixel before another.

    Raises:
        MetricError: There is no such measure, or the maps are of different sizes.
    """
    require_known(measure, MEASURES, "measure", MetricError)
    stacked = stack(maps)
    count = len(stacked)
    rows, columns = torch.triu_indices(count, count)
    values = MEASURES[measure](stacked[rows], stacked[columns])
    flat = stacked.flatten(1)
    unsound = (flat.amax(1) == flat.amin(1)) | ~flat.isfinite().all(1)
    values = values.masked_fill(unsound[rows] | unsound[columns], torch.nan)
    table = values.new_empty(count, count)
    table[rows, columns] = values
    table[columns, rows] = values
    return table


def stack(maps: Tensor | Sequence[Tensor]) -> Tensor:
    """Stack maps as one tensor (N, H, W) float32 on the CPU.

    Raises:
        MetricError: They are none, no maps, or of different sizes.
    """
    several = [torch.as_tensor(heatmap).detach().float().cpu() for heatmap in maps]
    shapes = sorted({tuple(heatmap.shape) for heatmap in several})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise MetricError(
            f"maps must be (H, W), all of one size, but have the shapes {shapes}"
            if several
            else "there are no maps to compare; give at least one"
        )
    return torch.stack(several)
