"""Correlate what a map says of pixels with what hiding them does."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import is_constant, mean_ranks, pearson, ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import Baseline, Filler, baseline_rule
from cam.errors import MetricError
from cam.parameters import SEED, fractions, integer

_register = partial(
    register_metric,
    family="faithfulness",
    direction=1,
    range=(-1, 1),
)
_SHARES = (0.01, 0.05, 0.2, 0.5, 0.8)


@_register(
    "faithfulness_correlation",
    title="Faithfulness correlation",
    definition=(
        "Pearson over random S of Σ a over S and y(x) - y(x without S), |S| = n, y: the explained "
        "score"
    ),
    baseline="hidden pixels show 0, the mean colour of a normalised image; chance scores 0",
    cost="101 forwards by default",
    rules={
        "pixels": integer(1),
        "samples": integer(2),
        "baseline": baseline_rule(),
        "seed": SEED,
    },
)
def faithfulness_correlation(
    subject: Subject,
    *,
    pixels: int = 224,
    samples: int = 100,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> Tensor:
    """Whether the pixels of a random set add up to what the score loses without them.

    y is the raw score that was explained, and not its probability: that is what contributions add
    up to.

    Args:
        subject: A batch with its maps.
        pixels: n, of each set, all channels of a pixel together.
        samples: How many sets are tried, the same for every image.
        baseline: As for :func:`.pixel_removal.deletion`.
        seed: Of the sets.

    Returns:
        (B,); NaN where the map is the same everywhere, or hiding pixels changes no score.

    Raises:
        MetricError: The image has no more than n pixels.

    References:
        Bhatt, Weller and Moura, Evaluating and Aggregating Feature-based Model Explanations, IJCAI
        2020, definition 3
    """
    if pixels >= subject.pixels:
        raise MetricError(
            f"faithfulness_correlation hides {pixels} pixels, but the image has "
            f"{subject.pixels}; take fewer"
        )
    return _correlate_sets(subject, [pixels], samples, baseline, seed)


@_register(
    "sensitivity_n",
    title="Sensitivity-n",
    definition=(
        "mean over n of the Pearson over random S of Σ a over S and y(x) - y(x without S), |S| = n"
    ),
    baseline="hidden pixels show 0, the mean colour of a normalised image; chance scores 0",
    cost="101 forwards by default",
    rules={
        "shares": fractions(),
        "samples": integer(2),
        "baseline": baseline_rule(),
        "seed": SEED,
    },
)
def sensitivity_n(
    subject: Subject,
    *,
    shares: Sequence[float] = _SHARES,
    samples: int = 20,
    baseline: Baseline = 0.0,
    seed: int = 0,
) -> Tensor:
    """Whether random sets of pixels, of few up to most, add up to what the score loses.

    :func:`faithfulness_correlation` at several sizes. Quantus 0.6 hides the most important pixels
    instead of random ones, and correlates over the images of a batch.

    Args:
        subject: A batch with its maps.
        shares: n as shares of the image.
        samples: How many sets of each size are tried, the same for every image.
        baseline: As for :func:`.pixel_removal.deletion`.
        seed: Of the sets.

    Returns:
        (B,); NaN where the map is the same everywhere, or hiding pixels changes no score.

    References:
        Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods for Deep
        Neural Networks, ICLR 2018, section 4
    """
    counts = [min(max(1, round(share * subject.pixels)), subject.pixels - 1) for share in shares]
    return _correlate_sets(subject, counts, samples, baseline, seed)


def _correlate_sets(
    subject: Subject, counts: Sequence[int], samples: int, baseline: Baseline, seed: int
) -> Tensor:
    """Correlate sums over random sets with falls of the score, the mean over their sizes, (B,)."""
    fill = Filler(subject, baseline, seed)
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (len(counts) * samples,), generator=generator).tolist()
    sums = []

    def draw(step: int) -> Tensor:
        order = torch.randperm(subject.pixels, generator=generator.manual_seed(seeds[step]))
        hidden = torch.zeros(subject.pixels, dtype=torch.bool)
        hidden[order[: counts[step // samples]]] = True
        return hidden.view(subject.importance.shape[1:])

    def write(owner: Tensor, step: Tensor) -> Tensor:
        sets = {number: draw(number) for number in set(step.tolist())}
        hidden = torch.stack([sets[number] for number in step.tolist()]).to(owner.device)
        products = subject.importance[owner].double() * hidden
        sums.append(products.flatten(1).sum(1))
        return fill(owner, hidden)

    with subject.passes.through(subject.network):
        scores = subject.try_steps(len(seeds), write).double()
    falls = subject.passes.pixels.scores.double()[:, None] - scores
    shape = (len(falls), len(counts), samples)
    return _correlate(subject, torch.cat(sums).view(shape), falls.view(shape))


@_register(
    "faithfulness_estimate",
    title="Faithfulness estimate",
    definition=(
        "Pearson over n groups of pixels, by importance, of Σ a over a group and p(x) - p(x "
        "without it)"
    ),
    baseline="hidden pixels show 0, the mean colour of a normalised image; chance scores 0",
    cost="29 forwards by default",
    rules={"steps": integer(2), "baseline": baseline_rule()},
)
def faithfulness_estimate(subject: Subject, *, steps: int = 28, baseline: Baseline = 0.0) -> Tensor:
    """Whether the probability falls by as much as the hidden pixels are said to matter.

    Groups of neighbours in the order of importance are hidden one at a time.

    Args:
        subject: A batch with its maps.
        steps: n, groups of the same size.
        baseline: As for :func:`.pixel_removal.deletion`.

    Returns:
        (B,); NaN where the map is the same everywhere, or hiding pixels changes nothing.

    Raises:
        MetricError: There are fewer pixels than groups.

    References:
        Alvarez-Melis and Jaakkola, Towards Robust Interpretability with Self-Explaining Neural
        Networks, NeurIPS 2018, section 5; groups as in Quantus 0.6, FaithfulnessEstimate
    """
    sums, scores = _hide_groups(subject, subject.importance, steps, Filler(subject, baseline), 1)
    falls = subject.p.double()[:, None] - scores[:, :, 0]
    return _correlate(subject, sums[:, None], falls[:, None])


@_register(
    "monotonicity_correlation",
    title="Monotonicity correlation",
    definition=(
        "Spearman over n groups of pixels, by |a|, of Σ |a| over a group and the mean of (p(x) - "
        "p(x with the group drawn anew))²"
    ),
    baseline="hidden pixels show noise of each channel's range; chance scores 0",
    cost="141 forwards by default",
    rules={
        "steps": integer(2),
        "samples": integer(1),
        "baseline": baseline_rule(),
        "seed": SEED,
    },
)
def monotonicity_correlation(
    subject: Subject,
    *,
    steps: int = 28,
    samples: int = 5,
    baseline: Baseline = "uniform",
    seed: int = 0,
) -> Tensor:
    """Whether the more important pixels are, for or against, the less sure the model is of them.

    Args:
        subject: A batch with its maps, of which the absolute values count.
        steps: n, groups of the same size.
        samples: How often a group is drawn anew.
        baseline: As for :func:`.pixel_removal.deletion`; where nothing is random a single sample
            suffices.
        seed: Of the noise, which is the same for every image but for its range.

    Returns:
        (B,); NaN where the map is the same everywhere, or changing pixels changes nothing.

    Raises:
        MetricError: There are fewer pixels than groups.

    References:
        Nguyen and Rodríguez Martínez, On quantitative aspects of model interpretability, 2020,
        section 3; groups as in Quantus 0.6, MonotonicityCorrelation
    """
    fill = Filler(subject, baseline, seed, samples)
    sums, scores = _hide_groups(subject, subject.importance.abs(), steps, fill, samples)
    changes = ((scores - subject.p.double()[:, None, None]) ** 2).mean(2)
    # The probabilities are of float32: what differs by rounding is the same.
    changes = changes.where(changes > 1e-12, 0)
    unsound = ~changes.isfinite()
    ordered = mean_ranks(changes.masked_fill(unsound, 0)).masked_fill(unsound, torch.nan)
    return _correlate(subject, mean_ranks(sums)[:, None], ordered[:, None])


def _hide_groups(
    subject: Subject, values: Tensor, steps: int, fill: Filler, samples: int
) -> tuple[Tensor, Tensor]:
    """Hide groups of pixels one at a time, the highest values first.

    Returns:
        Sums of the values (B, steps) and scores (B, steps, samples), float64.
    """
    if steps > subject.pixels:
        raise MetricError(f"the image has {subject.pixels} pixels, too few for {steps} groups")
    order = ranks(values)
    at = torch.arange(steps + 1, device=order.device)
    ends = (at * subject.pixels / steps).round().int()
    ordered = values.flatten(1).double().sort(dim=1, descending=True).values
    total = torch.nn.functional.pad(ordered.cumsum(1), (1, 0))
    sums = total[:, ends].diff(dim=1)

    def write(owner: Tensor, step: Tensor) -> Tensor:
        group, rank = step // samples, order[owner]
        first, last = (end[group, None, None] for end in (ends[:-1], ends[1:]))
        return fill(owner, (rank >= first) & (rank < last), step % samples)

    scores = subject.try_steps(steps * samples, write)
    return sums, scores.double().view(-1, steps, samples)


def _correlate(subject: Subject, sums: Tensor, falls: Tensor) -> Tensor:
    """Correlate rows (B, R, K) by Pearson and average over R, (B,)."""
    subject.refuse(is_constant(subject.importance), "the map is the same everywhere")
    changeless = (falls.amax(2) == falls.amin(2)).any(1)
    subject.refuse(changeless, "hiding pixels does not change the model's score")
    rows = pearson(sums.flatten(0, 1), falls.flatten(0, 1))
    return rows.view(sums.shape[:2]).mean(1)
