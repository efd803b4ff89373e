"""Hide regions of a picture by importance: patches, superpixels."""

from functools import partial

import torch
from torch import Tensor

from cam._methods.perturbation.region_game import find_superpixels
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.baselines import Baseline, baseline_rule
from cam._metrics.faithfulness.pixel_removal import trace_order
from cam.parameters import SEED, integer, one_of

_register = partial(register_metric, family="faithfulness", direction=1)


@_register(
    "region_perturbation",
    title="Region perturbation (AOPC of patches)",
    definition="Σ_k (p - s_k) / (L + 1), k = 0 … L, s_k: p with the k first patches replaced",
    range=(-1, 1),
    baseline="hidden patches show noise of each channel's range",
    cost="101 forwards by default, fewer where the image has fewer patches",
    rules={
        "size": integer(1),
        "regions": integer(1),
        "order": one_of(("morf", "lerf")),
        "baseline": baseline_rule(),
        "seed": SEED,
    },
)
def region_perturbation(
    subject: Subject,
    *,
    size: int = 9,
    regions: int = 100,
    order: str = "morf",
    baseline: Baseline = "uniform",
    seed: int = 0,
) -> Tensor:
    """How much of the class's probability is lost, on average, as patches go by importance.

    The patches lie in a grid that begins at the top left and is cut at the other edges; a patch is
    as important as its pixels' sum.

    Args:
        subject: A batch with its heatmaps.
        size: Side of a patch, in pixels.
        regions: L, how many patches are replaced, one after the other; all, if there are fewer.
        order: "morf", the most relevant first, or "lerf", the least relevant first, where lower is
            better.
        baseline: As for :func:`.pixel_removal.deletion`; "uniform" is the paper's.
        seed: Of the noise.

    Returns:
        (B,).

    References:
        Samek et al., Evaluating the Visualization of What a Deep Neural Network Has Learned, IEEE
        TNNLS 2017, region perturbation
    """
    height, width = subject.importance.shape[1:]
    rows, columns = (torch.arange(side) // size for side in (height, width))
    grid = (rows[:, None] * (int(columns[-1]) + 1) + columns).to(subject.inputs.device)
    labels = grid.expand(len(subject.inputs), -1, -1)
    sums, _ = _sum_regions(subject, labels)
    steps = min(regions, sums.shape[1])
    curves = _trace_regions(
        subject, labels, sums if order == "morf" else -sums, steps, baseline, seed
    )
    return (curves[:, :1] - curves).mean(1)


@_register(
    "irof",
    title="Iterative removal of features (IROF)",
    definition=(
        "1 - (Σ r_k - r_0/2 - r_L/2) / L, r_k: p with the k most important of L superpixels "
        "hidden, divided by p"
    ),
    range=(-float("inf"), 1),
    baseline="hidden superpixels show the mean colour of each image",
    cost="1 forward, and one for each superpixel: about 50 by default",
    rules={"segments": integer(2), "baseline": baseline_rule(), "seed": SEED},
)
def irof(
    subject: Subject, *, segments: int = 50, baseline: Baseline = "mean", seed: int = 0
) -> Tensor:
    """How much of the class's probability is lost, on average, as superpixels go by importance.

    A superpixel is as important as its pixels are on average. The area over the curve is divided by
    the number of superpixels, and the whole image is part of it: Quantus 0.6 does neither.

    Args:
        subject: A batch with its heatmaps.
        segments: About how many superpixels (SLIC, by scikit-image).
        baseline: As for :func:`.pixel_removal.deletion`; "mean" is the paper's.
        seed: Of a baseline that is random.

    Returns:
        (B,); NaN where p is not above 0, or the image is one superpixel.

    References:
        Rieger and Hansen, IROF: A Low Resource Evaluation Metric for Explanation Methods, workshop
        at ICLR 2020
    """
    subject.refuse(subject.p <= 0, "the target's score is not above 0, so it has no share to lose")
    labels = torch.stack([find_superpixels(picture, segments) for picture in subject.inputs])
    count = labels.flatten(1).amax(1) + 1  # (B,)
    subject.refuse(count < 2, "the image is one superpixel, so there is no order")
    sums, sizes = _sum_regions(subject, labels)
    # Those that a picture does not have come last.
    means = (sums / sizes.clamp(min=1)).masked_fill(sizes == 0, -float("inf"))
    curves = _trace_regions(subject, labels, means, int(count.max()), baseline, seed).double()
    share = curves / subject.p.double()[:, None]
    step = torch.arange(share.shape[1], device=share.device)
    weight = (step <= count[:, None]).double()
    weight = weight.masked_fill((step == 0) | (step == count[:, None]), 0.5)
    return 1 - (share * weight).sum(1) / count


def _sum_regions(subject: Subject, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sum importance and pixels over regions (B, H, W), both (B, R) float64."""
    flat = labels.flatten(1)
    sums = subject.importance.new_zeros(len(flat), int(flat.max()) + 1, dtype=torch.float64)
    sizes = sums.scatter_add(1, flat, torch.ones_like(flat, dtype=torch.float64))
    return sums.scatter_add(1, flat, subject.importance.flatten(1).double()), sizes


def _trace_regions(
    subject: Subject, labels: Tensor, values: Tensor, steps: int, baseline: Baseline, seed: int
) -> Tensor:
    """Score while regions are hidden one after the other, the highest values first."""
    rank = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1).int()
    order = rank.gather(1, labels.flatten(1)).view(labels.shape)
    counts = torch.arange(steps + 1, device=labels.device, dtype=torch.int32)
    return trace_order(subject, order, counts, baseline, seed=seed)
