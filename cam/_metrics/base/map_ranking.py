"""Order pixels by importance, and correlate maps."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def ranks(heatmap: Tensor) -> Tensor:
    """Rank pixels by importance, 0 for the most important.

    Pixels of the same value go in a random order, the same for every map and everywhere, so that
    each rank there is once: by rows, the pixels that a map says nothing about would be taken from
    the top of the picture.

    Args:
        heatmap: (B, H, W).

    Returns:
        (B, H, W) int32.
    """
    flat = heatmap.flatten(1)
    shuffle = _shuffle(flat.shape[1]).to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    rank = torch.arange(flat.shape[1], dtype=torch.int32, device=flat.device).expand_as(order)
    return torch.empty_like(rank).scatter_(1, order, rank).view(heatmap.shape)


@lru_cache(maxsize=8)
def _shuffle(pixels: int) -> Tensor:
    """Draw the order in which pixels of the same value go."""
    return torch.randperm(pixels, generator=torch.Generator().manual_seed(0))


def mean_ranks(values: Tensor) -> Tensor:
    """Rank values from the smallest on; equal values share their mean rank.

    Args:
        values: (N, K).

    Returns:
        (N, K) float64, from 0 to K - 1.
    """
    ordered, order = values.sort(dim=1)
    changes = ordered[:, 1:] != ordered[:, :-1]
    group = functional.pad(changes.long().cumsum(1), (1, 0))  # (N, K), 0 for the smallest
    rank = torch.arange(values.shape[1], dtype=torch.float64, device=values.device)
    rank = rank.expand(values.shape)
    zeros = torch.zeros_like(rank)
    total = zeros.scatter_add(1, group, rank)
    number = zeros.scatter_add(1, group, torch.ones_like(rank))
    mean = (total / number).gather(1, group)  # of empty groups nothing is taken
    return torch.empty_like(mean).scatter_(1, order, mean)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Correlate pairs of rows by Pearson; NaN where a row is constant.

    Args:
        first: (N, K).
        second: (N, K).

    Returns:
        (N,) float64.
    """
    first, second = (row.double() - row.double().mean(1, keepdim=True) for row in (first, second))
    # A row whose values are all equal may still differ from its mean by rounding.
    constant = [row.amax(1) == row.amin(1) for row in (first, second)]
    product: Tensor = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))
    return product.clamp(-1, 1).masked_fill(constant[0] | constant[1], torch.nan)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Correlate each pair of maps by Spearman, ties at their mean rank.

    Args:
        first: (N, H, W).
        second: (N, H, W).

    Returns:
        (N,) float64; NaN where a map is the same everywhere or not finite.
    """
    first, second = first.flatten(1), second.flatten(1)
    finite = first.isfinite().all(1) & second.isfinite().all(1)
    return pearson(mean_ranks(first), mean_ranks(second)).masked_fill(~finite, torch.nan)


def brightest_overlap(first: Tensor, second: Tensor, share: float = 0.05) -> Tensor:
    """Return the share of the highest values that two maps share.

    Args:
        first: (N, H, W).
        second: (N, H, W).
        share: How many values count as the highest.

    Returns:
        (N,) float64 in [0, 1].
    """
    first, second = first.flatten(1), second.flatten(1)
    count = round(first.shape[1] * share)
    marks = [
        torch.zeros_like(values, dtype=torch.bool).scatter_(1, values.topk(count).indices, True)
        for values in (first, second)
    ]
    return (marks[0] & marks[1]).sum(1).double() / count


def rank_agreement(maps: Tensor, reference: Tensor) -> Tensor:
    """Correlate maps with a reference by Spearman; constant maps count as 0.

    Such a map puts no pixel before another, so it agrees in nothing; left out, it would let pass
    the methods that have it.

    Args:
        maps: (N, H, W).
        reference: (N, H, W).

    Returns:
        (N,) float64; NaN where a map is not finite.
    """
    return spearman(maps, reference).masked_fill(is_constant(maps), 0)


def is_constant(maps: Tensor) -> Tensor:
    """Tell which maps (N, H, W) are the same everywhere, (N,) bool."""
    flat = maps.flatten(1)
    return flat.amax(1) == flat.amin(1)


def scale_to_1(maps: Tensor) -> Tensor:
    """Divide each map (N, H, W) by its largest absolute value, in float64; zeros stay zeros."""
    maps = maps.double()
    largest = maps.abs().amax((1, 2), keepdim=True)
    return maps / torch.where(largest == 0, 1, largest)


def is_dead(maps: Tensor, reference: Tensor) -> Tensor:
    """Tell which maps are the same everywhere but for rounding.

    Such is a map whose values differ by less than a millionth of its largest absolute value, or of
    the range of the map that it is compared with.

    Args:
        maps: (N, H, W).
        reference: (N, H, W).

    Returns:
        (N,) bool; False for maps that are not finite.
    """
    low, high = maps.flatten(1).double().aminmax(dim=1)
    least, most = reference.flatten(1).double().aminmax(dim=1)
    scale = torch.maximum(torch.maximum(high.abs(), low.abs()), most - least)
    return high - low <= 1e-6 * scale


def structural_similarity(first: Tensor, second: Tensor, window: int = 7) -> Tensor:
    """Compute SSIM of each pair of maps with values in [0, 1].

    The mean of ((2 μ₁μ₂ + c₁)(2 σ₁₂ + c₂)) / ((μ₁² + μ₂² + c₁)(σ₁² + σ₂² + c₂)) over all windows
    that lie inside, with c₁ = 0.01², c₂ = 0.03² and the sample covariance (Wang et al. 2004,
    "Image Quality Assessment: From Error Visibility to Structural Similarity", equation 13; a
    uniform window as in scikit-image).

    Args:
        first: (N, H, W).
        second: (N, H, W).
        window: Its side, at most the map's.

    Returns:
        (N,) float64.
    """
    window = min(window, *first.shape[1:])
    first, second = first.double(), second.double()
    products = torch.stack([first, second, first * first, second * second, first * second], 1)
    means = functional.avg_pool2d(products, window, stride=1)
    mean_1, mean_2, square_1, square_2, product = means.unbind(1)
    sample = window**2 / max(window**2 - 1, 1)
    variance_1, variance_2 = ((square_1 - mean_1**2) * sample, (square_2 - mean_2**2) * sample)
    covariance = (product - mean_1 * mean_2) * sample
    small_1, small_2 = 0.01**2, 0.03**2
    above = (2 * mean_1 * mean_2 + small_1) * (2 * covariance + small_2)
    below = (mean_1**2 + mean_2**2 + small_1) * (variance_1 + variance_2 + small_2)
    return (above / below).mean((1, 2))
