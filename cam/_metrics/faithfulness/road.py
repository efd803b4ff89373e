"""ROAD: remove pixels and fill them in from their neighbours."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from cam._metrics.base.map_ranking import ranks
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.faithfulness.imputation import Imputer
from cam.parameters import SEED, fractions, number

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Of a picture's largest value: far less than the noise that is added, and than a network sees.
_TOLERANCE = 1e-3
_BASELINE = "hidden pixels show the weighted mean of their neighbours, and noise"
_register = partial(
    register_metric,
    family="faithfulness",
    rules={"shares": fractions(), "noise": number(0), "seed": SEED},
)


@_register(
    "road",
    title="ROAD, combined",
    definition="(LeRF - MoRF) / 2, the mean p with the least and the most important pixels removed",
    direction=1,
    range=(-0.5, 0.5),
    baseline=_BASELINE + "; a map of chance scores 0",
    cost="19 forwards by default",
)
def road(
    subject: Subject, *, shares: Sequence[float] = SHARES, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """How much more the most important pixels are missed than the least important ones.

    Removed pixels become the weighted mean of their neighbours, which are partly removed
    themselves (:class:`.imputation.Imputer`), and get normal noise on top. Pixels of equal
    importance are removed in a fixed random order, so that the given share is removed exactly.

    Args:
        subject: A batch with its heatmaps.
        shares: Of the image that is removed; the mean over them is taken.
        noise: Its standard deviation, after normalisation.
        seed: Of the noise, which is the same for every image.

    Returns:
        (B,).

    References:
        Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
        2022, section 4; combined as in pytorch-grad-cam 1.5.7, ROADCombined
    """
    scores = score_removals(subject, shares, noise, seed, ("morf", "lerf"))
    most, least = scores.chunk(2, dim=1)
    return (least.mean(1) - most.mean(1)) / 2


@_register(
    "road_morf",
    title="ROAD, most relevant first",
    definition="the mean p with 10 % … 90 % of the most important pixels removed",
    direction=-1,
    range=(0, 1),
    baseline=_BASELINE,
    cost="10 forwards by default",
)
def road_morf(
    subject: Subject, *, shares: Sequence[float] = SHARES, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """The class's probability when the most important pixels are removed.

    Returns:
        (B,).

    References:
        Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
        2022, section 4
    """
    return score_removals(subject, shares, noise, seed, ("morf",)).mean(1)


@_register(
    "road_lerf",
    title="ROAD, least relevant first",
    definition="the mean p with 10 % … 90 % of the least important pixels removed",
    direction=1,
    range=(0, 1),
    baseline=_BASELINE,
    cost="10 forwards by default",
)
def road_lerf(
    subject: Subject, *, shares: Sequence[float] = SHARES, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """The class's probability when the least important pixels are removed.

    Returns:
        (B,).

    References:
        Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
        2022, section 4
    """
    return score_removals(subject, shares, noise, seed, ("lerf",)).mean(1)


def score_removals(
    subject: Subject, shares: Sequence[float], noise: float, seed: int, orders: Sequence[str]
) -> Tensor:
    """Score each share of each order, (B, orders · shares)."""
    inputs = subject.inputs
    order = ranks(subject.importance)
    pixels = subject.pixels
    # One pixel at least is known, or nothing would say what the others are.
    counts = [min(round(share * pixels), pixels - 1) for share in shares]
    # The ranks that are removed: from the first, or up to the last.
    spans = [
        (0, count) if name == "morf" else (pixels - count, pixels)
        for name in orders
        for count in counts
    ]
    first, last = torch.tensor(spans, device=inputs.device, dtype=torch.int32).unbind(1)
    # Drawn on the CPU: the same on every device, in any batch and for either order.
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(len(counts), *inputs.shape[1:], generator=generator) * noise
    draws = draws.to(inputs.device, torch.promote_types(inputs.dtype, torch.float32))
    impute = Imputer(inputs.shape[1:], inputs.dtype, inputs.device)

    def write(owner: Tensor, step: Tensor) -> Tensor:
        rank = order[owner]
        removed = (rank >= first[step, None, None]) & (rank < last[step, None, None])
        filled = impute(inputs[owner], removed, _TOLERANCE)
        filled.addcmul_(draws[step % len(counts)], removed[:, None].to(filled.dtype))
        return filled.to(inputs.dtype)

    return subject.try_steps(len(spans), write)
