"""Measure what is left of the score of a masked picture."""

from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import (
    FIXED,
    Baseline,
    Filler,
    baseline_rule,
    refuse_misfit,
)

_register = partial(
    register_metric,
    family="faithfulness",
    range=(0, 1),
    baseline="the image fades to 0, the mean colour of a normalised one, as A falls to 0",
    cost="2 forwards",
    rules={"baseline": baseline_rule(FIXED)},
)
# Two runs of the same picture differ by less.
ROUNDING = 1e-6


@_register(
    "average_drop",
    title="Average Drop",
    definition="relu(p - p′) / p, p′ = p(A x + (1 - A) b)",
    direction=-1,
)
def averagemeasure_drop(subject: Subject, *, baseline: Baseline = 0.0) -> Tensor:
    """Which share of the class's probability is lost when only what the heatmap shows is seen.

    It depends on how the heatmap is scaled to [0, 1]. grad-cam's metric of this name does not
    divide by p.

    Args:
        subject: A batch with its heatmaps.
        baseline: b, what the image fades to where A is 0, after normalisation: as for
            :func:`.pixel_removal.deletion`, but "neighbours". The paper multiplies the image
            itself by A, so that it fades to "black"; 0, its mean colour, is what most programs do,
            which multiply the normalised one, and their numbers are not the paper's.

    Returns:
        (B,), a share and not per cent; NaN where p is not above 0.

    References:
        Chattopadhyay et al., Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep
        Convolutional Networks, WACV 2018, section 4.1
    """
    return measure_drop(subject, score_faded(subject, baseline))


@_register(
    "increase",
    title="Increase in Confidence",
    definition="1 if p′ > p and 0 if not, p′ = p(A x + (1 - A) b)",
    direction=1,
)
def increase(subject: Subject, *, baseline: Baseline = 0.0) -> Tensor:
    """Whether the model is surer when it sees only what the heatmap shows.

    By more than 10⁻⁶, which is rounding.

    Args:
        subject: A batch with its heatmaps.
        baseline: As for :func:`average_drop`.

    Returns:
        (B,), 0 or 1; its mean over many images is the paper's number.

    References:
        Chattopadhyay et al., Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep
        Convolutional Networks, WACV 2018, section 4.1
    """
    alone = score_faded(subject, baseline)
    return (alone > subject.p + ROUNDING).float().where(alone.isfinite(), torch.nan)


@_register(
    "average_gain",
    title="Average Gain",
    definition="relu(p′ - p) / (1 - p), p′ = p(A x + (1 - A) b)",
    direction=1,
)
def average_gain(subject: Subject, *, baseline: Baseline = 0.0) -> Tensor:
    """How much surer, of what was left to gain, the model is with only what the heatmap shows.

    Args:
        subject: A batch with its heatmaps.
        baseline: As for :func:`average_drop`.

    Returns:
        (B,); NaN where p is 1 or not a probability.

    References:
        Zhang et al., Opti-CAM: Optimizing saliency maps for interpretability, CVIU 2024, section
        4.1
    """
    if not subject.is_probability:
        every = torch.ones_like(subject.p, dtype=torch.bool)
        subject.refuse(every, "the target's score is not a probability, so nothing limits it")
    subject.refuse(subject.p >= 1, "the probability is 1 already, so nothing can be gained")
    return (score_faded(subject, baseline) - subject.p).clamp(min=0) / (1 - subject.p)


def fade(subject: Subject, baseline: Baseline, owner: Tensor) -> Tensor:
    """Fade the pictures to the baseline where their heatmaps are low, A x + (1 - A) b."""
    fixed = Filler(subject, baseline).fixed
    with refuse_misfit():
        return kernels.masked_batch(
            subject.inputs, subject.heatmap[owner], fixed, owner=owner, channels_last=True
        )


def score_faded(subject: Subject, baseline: Baseline) -> Tensor:
    """Compute p(A x + (1 - A) b), (B,)."""
    return subject.try_steps(1, lambda owner, _: fade(subject, baseline, owner))[:, 0]


def measure_drop(subject: Subject, alone: Tensor) -> Tensor:
    """Measure relu(p - p′) / p, (B,)."""
    subject.refuse(subject.p <= 0, "the target's score is not above 0, so it has no share to lose")
    return (subject.p - alone).clamp(min=0) / subject.p
