"""Measure how simple a heatmap is, whatever it shows."""

import torch
from torch import Tensor

from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.parameters import number


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


@register_metric(
    "effective_complexity",
    title="Effective complexity",
    family="complexity",
    definition="the share of pixels with |a| > ε max |a|",
    direction=-1,
    range=(0, 1),
    baseline="an even map scores 1, a single pixel 1/n",
    rules={"epsilon": number(0, 1)},
)
def effective_complexity(subject: Subject, *, epsilon: float = 0.01) -> Tensor:
    """Which share of the pixels matters more than a little.

    Quantus 0.6 and LATEC count the pixels; the share does not grow with the image. The paper asks
    for how many the model needs to be as sure as it is, which :func:`cam.metric` "insertion" asks.

    Args:
        subject: A batch with its heatmaps.
        epsilon: ε, what counts as a little, as a share of the largest.

    Returns:
        (B,); NaN for a map of zeros.

    References:
        Nguyen and Rodríguez Martínez, On quantitative aspects of model interpretability, 2020,
        section 3, as in Quantus 0.6, EffectiveComplexity, with maps divided by their largest value
    """
    values = _strengths(subject)
    largest = values.amax(1, keepdim=True)
    subject.refuse(largest[:, 0] == 0, "the map is zero everywhere")
    return (values > epsilon * largest).double().mean(1)


def _strengths(subject: Subject) -> Tensor:
    """Return the strength of every pixel, (B, H·W) float64, at least 0."""
    # Evidence has no zero from which it could be measured, but for its lowest value.
    maps = subject.heatmap if subject.kind == "evidence" else subject.importance.abs()
    return maps.double().flatten(1)
