"""Measure how the score falls and rises as pixels go by importance."""

from functools import partial

import torch
from torch import Tensor

from cam import kernels
from cam._metrics.base.map_ranking import ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import Baseline, Filler, baseline_rule, refuse_misfit
from cam.errors import MetricError
from cam.parameters import integer

# Two runs of the same picture differ by less.
ROUNDING = 1e-6
_register = partial(
    register_metric,
    family="faithfulness",
    cost="29 forwards by default",
    rules={"steps": integer(1), "baseline": baseline_rule()},
)


@_register(
    "deletion",
    title="Deletion",
    range=(0, 1),
    definition="(Σ s_k - s_0/2 - s_n/2) / n, s_k: p with the k/n most important pixels hidden",
    direction=-1,
    baseline="hidden pixels show 0, the mean colour of a normalised image",
)
def deletion(subject: Subject, *, steps: int = 28, baseline: Baseline = 0.0) -> Tensor:
    """How soon the class's probability falls when the most important pixels are hidden first.

    The area under the curve of p over the share of hidden pixels, by the trapezoidal rule over n
    equal steps, the whole image and the empty one included. All channels of a pixel go together;
    pixels of equal importance go in a fixed random order. 28 steps of an image of 224 × 224 are
    the 224·8 pixels a step of the authors' program.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: What hidden pixels show, after normalisation: a number, one a channel, a tensor
            that broadcasts to the batch, or a name: "mean", the mean colour of each image,
            "black", "blur", the authors' blurred image, "uniform", noise between the smallest and
            the largest value of each channel, or "neighbours", the weighted mean of the pixels in
            view around them, as in ROAD.

    Returns:
        (B,); in [0, 1] where p is a probability.

    References:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
        Models, BMVC 2018, section 4.1 and algorithm 1
    """
    return integrate(trace_curve(subject, steps, baseline, insert=False))


@_register(
    "insertion",
    title="Insertion",
    range=(0, 1),
    definition="(Σ s_k - s_0/2 - s_n/2) / n, s_k: p with only the k/n most important pixels sharp",
    direction=1,
    baseline="hidden pixels show the image blurred by 11 × 11 pixels, σ = 5",
)
def insertion(subject: Subject, *, steps: int = 28, baseline: Baseline = "blur") -> Tensor:
    """How soon the class's probability rises when the most important pixels come into view first.

    As :func:`deletion`, from the baseline to the image.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.

    Returns:
        (B,); in [0, 1] where p is a probability.

    References:
        Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box
        Models, BMVC 2018, section 4.1 and algorithm 1
    """
    return integrate(trace_curve(subject, steps, baseline, insert=True))


@_register(
    "aopc_morf",
    title="AOPC, most relevant first",
    definition="Σ_k (p - s_k) / (n + 1), k = 0 … n, s_k: p with k/n hidden, the most important",
    direction=1,
    range=(-1, 1),
    baseline="hidden pixels show the mean colour of each image",
)
def aopc_morf(subject: Subject, *, steps: int = 28, baseline: Baseline = "mean") -> Tensor:
    """How much of the class's probability is lost, on average, as the most important pixels go.

    Pixel by pixel; :func:`.region_removal.region_perturbation` is that of regions.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.

    Returns:
        (B,).

    References:
        Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE
        TNNLS 2017, the area over the perturbation curve
    """
    curves = trace_curve(subject, steps, baseline, insert=False)
    return (curves[:, :1] - curves).mean(1)


@_register(
    "aopc_lerf",
    title="AOPC, least relevant first",
    definition="Σ_k (p - s_k) / (n + 1), k = 0 … n, s_k: p with k/n hidden, the least important",
    direction=-1,
    range=(-1, 1),
    baseline="hidden pixels show the mean colour of each image",
)
def aopc_lerf(subject: Subject, *, steps: int = 28, baseline: Baseline = "mean") -> Tensor:
    """How much of the class's probability is lost, on average, as the least important pixels go.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.

    Returns:
        (B,).

    References:
        Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE
        TNNLS 2017, the area over the perturbation curve, in the opposite order
    """
    # What comes into view by importance, read backwards.
    curves = trace_curve(subject, steps, baseline, insert=True)
    return (curves[:, -1:] - curves).mean(1)


@_register(
    "srg",
    title="Symmetric relevance gain (SRG)",
    definition=(
        "∫ p(least important pixels hidden) - ∫ p(most important pixels hidden), both over the "
        "share of hidden pixels, from 0 to 1"
    ),
    direction=1,
    range=(-1, 1),
    baseline="hidden pixels show the mean colour of each image; a map of chance scores 0",
    cost="57 forwards by default",
)
def srg(subject: Subject, *, steps: int = 28, baseline: Baseline = "mean") -> Tensor:
    """How far the curves of both orders are apart, which a fragile network cannot feign.

    What hiding alone does to the network, whatever is hidden, is in both areas and cancels: the
    ranking of methods depends less on the baseline than with one order. The areas are those of
    :func:`deletion` and :func:`insertion`.

    Args:
        subject: A batch with its heatmaps.
        steps: n, of the trapezoidal rule.
        baseline: As for :func:`deletion`.

    Returns:
        (B,).

    References:
        Blücher, Vielhaben and Strodthoff, Decoupling Pixel Flipping and Occlusion Strategy for
        Consistent XAI Benchmarks, TMLR 2024
    """
    least, most = (trace_curve(subject, steps, baseline, insert) for insert in (True, False))
    return integrate(least) - integrate(most)


@_register(
    "monotonicity",
    title="Monotonicity",
    definition="1 if p never falls as pixels come into view, the least important first, else 0",
    direction=1,
    range=(0, 1),
    baseline="hidden pixels show 0, the mean colour of a normalised image",
)
def monotonicity(subject: Subject, *, steps: int = 28, baseline: Baseline = 0.0) -> Tensor:
    """Whether the class's probability never falls while the image is built up by importance.

    A weak test: where no pixel speaks against the class every map passes, and where pixels do no
    map that puts them in its order does. It tells maps apart only where a pixel helps or harms
    according to what is in view already. :func:`.correlations.monotonicity_correlation` asks more.

    Args:
        subject: A batch with its heatmaps.
        steps: In how many equal steps.
        baseline: As for :func:`deletion`.

    Returns:
        (B,), 0 or 1; a fall of less than 10⁻⁶ is rounding.

    References:
        Arya et al., One Explanation Does Not Fit All: A Toolkit and Taxonomy of AI Explainability
        Techniques, 2019, and Luss et al., Leveraging Latent Features for Local
        Explanations, KDD 2021
    """
    # What goes by importance, read backwards.
    curves = trace_curve(subject, steps, baseline, insert=False)
    falls = curves.diff(dim=1) > ROUNDING
    return (~falls.any(1)).float().where(curves.isfinite().all(1), torch.nan)


def integrate(curves: Tensor) -> Tensor:
    """Integrate curves of equal steps over [0, 1], (B, n + 1) to (B,)."""
    ends = curves[:, 0] + curves[:, -1]
    return (curves.sum(1) - ends / 2) / (curves.shape[1] - 1)


def trace_curve(subject: Subject, steps: int, baseline: Baseline, insert: bool) -> Tensor:
    """Score while pixels are hidden, or come into view, by importance.

    Args:
        subject: A batch with its heatmaps.
        steps: n.
        baseline: As for :func:`deletion`.
        insert: Whether they come into view.

    Returns:
        (B, n + 1), from none of the pixels to all of them.

    Raises:
        MetricError: There are fewer pixels than steps, or the baseline does not fit.
    """
    if steps > subject.pixels:
        raise MetricError(f"the image has {subject.pixels} pixels, too few for {steps} steps")
    order = ranks(subject.importance)
    at = torch.arange(steps + 1, device=order.device)
    counts = (at * subject.pixels / steps).round().int()
    return trace_order(subject, order, counts, baseline, insert)


def trace_order(
    subject: Subject,
    order: Tensor,
    counts: Tensor,
    baseline: Baseline,
    insert: bool = False,
    seed: int = 0,
) -> Tensor:
    """Score while pixels are hidden, or come into view, in a given order.

    Args:
        subject: A batch.
        order: (B, H, W) int32, the rank of each pixel, 0 first; pixels of a rank go together.
        counts: (n + 1,) int32, the rank from which pixels are as they were; growing, the first 0
            and the last, where pixels come into view, above all ranks.
        baseline: As for :func:`deletion`.
        insert: Whether they come into view.
        seed: Of a baseline that is random.

    Returns:
        (B, n + 1).
    """
    fill = Filler(subject, baseline, seed)
    # The step at which nothing is hidden is the whole picture, whose score is known.
    tried = counts[:-1] if insert else counts[1:]

    def write(owner: Tensor, step: Tensor) -> Tensor:
        if fill.fixed is None:
            before = order[owner] < tried[step, None, None]
            return fill(owner, ~before if insert else before)
        return kernels.ranked_batch(
            subject.inputs, order, tried[step], fill.fixed, owner=owner, rank_owner=owner,
            insert=insert, channels_last=True,
        )  # fmt: skip

    with refuse_misfit():
        scores = subject.try_steps(len(tried), write)  # (B, n)
    whole_picture = subject.p[:, None]
    return torch.cat([scores, whole_picture] if insert else [whole_picture, scores], 1)
