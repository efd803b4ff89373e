"""Combine measures of a map in a harmonic mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import is_constant, pearson
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import FIXED, Baseline, baseline_rule
from cam._metrics.faithfulness.masked_pictures import fade, measure_drop, score_faded
from cam._metrics.faithfulness.road import score_removals
from cam.parameters import SEED, fractions, number
from cam.polarity import as_heatmap

# Of pixels that are removed, as in pytorch-grad-cam.
SHARES = (0.2, 0.4, 0.6, 0.8)


@register_metric(
    "adcc",
    title="ADCC",
    family="faithfulness",
    definition=(
        "3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), coherency = (Pearson(A(x′), A) "
        "+ 1)/2, complexity = mean A, drop = relu(p - p(x′))/p, x′ = A x + (1 - A) b"
    ),
    direction=1,
    range=(0, 1),
    baseline="the image fades to 0, the mean colour of a normalised one, as A falls to 0",
    cost="2 forwards, and 1 explanation",
    needs_method=True,
    rules={"baseline": baseline_rule(FIXED)},
)
def adcc(subject: Subject, *, baseline: Baseline = 0.0) -> Tensor:
    """Whether a map is coherent, small and sufficient at once: the harmonic mean of the three.

    Where one of the three is 0 the harmonic mean is 0.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        baseline: As for :func:`.masked_pictures.average_drop`.

    Returns:
        (B,); NaN where a map is the same everywhere, and so correlates with nothing, or p is not
        above 0.

    References:
        Poppi et al., Revisiting The Evaluation of Class Activation Mapping for Explainability: A
        Novel Metric and Experimental Analysis, CVPR Workshops 2021, equation 6
    """
    drop = measure_drop(subject, score_faded(subject, baseline))
    parts = torch.stack([*_measure_shape(subject, baseline), 1 - drop.double()])  # (3, B)
    return _average_harmonically(parts)


@register_metric(
    "arcc",
    title="ARCC",
    family="faithfulness",
    definition=(
        "3 / (1/coherency + 1/(1 - complexity) + 1/road), coherency and complexity of ADCC, "
        "road = LeRF - MoRF of ROAD, 0 where it is below"
    ),
    direction=1,
    range=(0, 1),
    baseline=(
        "for road hidden pixels show the weighted mean of their neighbours, and noise; for "
        "coherency the image fades to 0, its mean colour, as A falls to 0"
    ),
    cost="10 forwards by default, and 1 explanation",
    needs_method=True,
    rules={
        "shares": fractions(),
        "noise": number(0),
        "seed": SEED,
        "baseline": baseline_rule(FIXED),
    },
)
def arcc(
    subject: Subject,
    *,
    shares: Sequence[float] = SHARES,
    noise: float = 0.01,
    seed: int = 0,
    baseline: Baseline = 0.0,
) -> Tensor:
    """Whether a map is coherent, small and right at once: ADCC with ROAD in place of the drop.

    The drop of ADCC asks what is left of the score when only what the heatmap shows is seen, on
    images that no network was trained on; ROAD asks it of images whose holes are filled in. Maps
    no better than chance score 0.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        shares: Of the image that is removed, as for :func:`.road.road`; the mean over them counts.
        noise: As for :func:`.road.road`.
        seed: Of the noise, which is the same for every image.
        baseline: What the image fades to for the coherency: as for
            :func:`.masked_pictures.average_drop`.

    Returns:
        (B,); NaN where a map is the same everywhere, and so correlates with nothing.

    References:
        Domeniconi et al., How to Evaluate and Refine your CAM, 2026, arXiv:2605.14641; combined as
        in pytorch-grad-cam 1.5.7, ARCC, whose shares these are
    """
    least, most = score_removals(subject, shares, noise, seed, ("lerf", "morf")).chunk(2, dim=1)
    road = least.double().mean(1) - most.double().mean(1)
    return _average_harmonically(torch.stack([*_measure_shape(subject, baseline), road]))


def _measure_shape(subject: Subject, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """Measure the coherency and 1 - the complexity of the maps, (B,) each in float64."""
    owner = torch.arange(len(subject.inputs), device=subject.inputs.device)
    subject.passes.expect(len(owner))
    again = as_heatmap(subject.explain(fade(subject, baseline, owner), owner), subject.kind)
    flat, other = subject.heatmap.flatten(1), again.flatten(1)
    subject.refuse(is_constant(subject.heatmap), "the map is the same everywhere")
    subject.refuse(is_constant(again), "the map of what it shows is the same everywhere")
    subject.refuse(~other.isfinite().all(1), "the map of what it shows is not finite")
    return (pearson(other, flat) + 1) / 2, 1 - flat.double().mean(1)


def _average_harmonically(parts: Tensor) -> Tensor:
    """Return the harmonic mean of (n, B) over n: 0 where a part is not above 0."""
    return torch.where((parts <= 0).any(0), 0, len(parts) / (1 / parts).sum(0))
