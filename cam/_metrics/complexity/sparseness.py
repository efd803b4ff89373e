"""Measure how simple a heatmap is, whatever it shows."""

import torch
from torch import Tensor

from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject


@register_metric(
    "sparseness",
    title="Sparseness (Gini index)",
    family="complexity",
    definition="Σ_i (2i - n - 1) a_i / (n Σ a), a = |a| in ascending order, i from 1, n pixels",
    direction=1,
    range=(0, 1),
    baseline="an even map scores 0, a single pixel 1 - 1/n; it grows with the resolution",
)
def sparseness(subject: Subject) -> Tensor:
    """How unevenly importance is spread over the pixels: the Gini index of the heatmap.

    Returns:
        (B,); NaN for a map of zeros, which has nothing to spread.

    References:
        Chalasani et al., Concise Explanations of Neural Networks using Adversarial Training, ICML
        2020, section 5; Hurley and Rickard, Comparing Measures of Sparsity, 2009, table I
    """
    values = _strengths(subject)
    total = values.sum(1)
    subject.refuse(total == 0, "the map is zero everywhere")
    count = values.shape[1]
    # Scaled first: the smallest floats would become zero when multiplied.
    ordered = (values / values.amax(1, keepdim=True)).sort(1).values
    rank = torch.arange(1, count + 1, dtype=torch.float64, device=values.device)
    return ordered @ (2 * rank - count - 1) / (count * ordered.sum(1))


@register_metric(
    "complexity",
    title="Complexity (entropy)",
    family="complexity",
    definition="-Σ q ln q, q = |a| / Σ|a|",
    direction=-1,
    range=(0, float("inf")),
    baseline="an even map scores ln n, the largest for n pixels; a single pixel 0",
)
def complexity(subject: Subject) -> Tensor:
    """Over how many pixels importance is spread: the entropy of the heatmap, in nats.

    Returns:
        (B,); NaN for a map of zeros, which has nothing to spread.

    References:
        Bhatt, Weller and Moura, Evaluating and Aggregating Feature-based Model Explanations, IJCAI
        2020, definition 6
    """
    values = _strengths(subject)
    subject.refuse(values.sum(1) == 0, "the map is zero everywhere")
    share = values / values.amax(1, keepdim=True)
    share = share / share.sum(1, keepdim=True)
    return -torch.xlogy(share, share).sum(1)


def _strengths(subject: Subject) -> Tensor:
    """Return the strength of every pixel, (B, H·W) float64, at least 0."""
    # Evidence has no zero from which it could be measured, but for its lowest value.
    maps = subject.heatmap if subject.kind == "evidence" else subject.importance.abs()
    return maps.double().flatten(1)
