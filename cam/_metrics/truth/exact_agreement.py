"""Measure how far a map is the network's exact attribution."""

from functools import partial

import torch
from torch import Tensor

from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._truth.known_networks import NETWORKS, KnownNetwork
from cam.errors import MetricError
from cam.polarity import polarise

# A map whose values differ by less of its largest one is the same everywhere.
FLAT = 1e-7
_register = partial(register_metric, family="truth", direction=1, cost="1 forward")


@_register(
    "truth_correlation",
    title="Correlation with the exact attribution",
    definition="Pearson(a, φ), φ: the exact attribution, read by the polarity as a is",
    range=(-1, 1),
    baseline="a map of chance, or an even one, scores 0",
)
def truth_correlation(subject: Subject) -> Tensor:
    """Whether the map is high and low where the exact attribution is, signs included.

    φ is what :meth:`KnownNetwork.exact` computes: the Shapley value of each pixel, from an image
    of zeros. A sensitivity has no sign, so it is compared with |φ|. Only the networks of
    ``cam.load_model("known/…")`` have it.

    Returns:
        (B,); 0 for a map that is the same everywhere; NaN where φ is 0 everywhere or not known.

    Raises:
        MetricError: The network has no exact attribution, or a callable was explained.

    References:
        Shapley, A Value for n-Person Games, 1953; agreement with a known attribution as in Agarwal
        et al., OpenXAI: Towards a Transparent Evaluation of Post hoc Model Explanations, NeurIPS
        2022, section 3
    """
    exact = polarise(_compute_exact(subject), subject.polarity, subject.kind)
    values, truth = (maps.flatten(1).double() for maps in (subject.importance, exact))
    largest = values.abs().amax(1)
    values = values - values.mean(1, keepdim=True)
    truth = truth - truth.mean(1, keepdim=True)
    flat = values.abs().amax(1) <= FLAT * largest
    lengths = values.norm(dim=1) * truth.norm(dim=1)
    return torch.where(flat, 0, (values * truth).sum(1) / lengths)


@_register(
    "truth_mass",
    title="Mass on what matters",
    definition="Σ|a| over the pixels with φ ≠ 0 / Σ|a|, φ: the exact attribution",
    range=(0, 1),
    baseline="a map of chance, or an even one, scores the share of pixels with φ ≠ 0",
)
def truth_mass(subject: Subject) -> Tensor:
    """Which share of the map lies on pixels that matter to the score, for or against.

    What it lacks to 1 is what the map says of pixels that change nothing, whatever else is hidden.

    Returns:
        (B,); 0 for a map of zeros; NaN where φ is 0 everywhere or not known.

    Raises:
        MetricError: As of truth_correlation.

    References:
        The dummy axiom of Shapley, A Value for n-Person Games, 1953; the share as in Arras, Osman
        and Samek, CLEVR-XAI, Information Fusion 2022, relevance mass accuracy
    """
    matters = _compute_exact(subject) != 0
    mass = subject.importance.abs().double()
    total = mass.sum((1, 2))
    return torch.where(total == 0, 0, (mass * matters).sum((1, 2)) / total)


def _compute_exact(subject: Subject) -> Tensor:
    """Compute φ (B, H, W), and refuse pictures without it."""
    network = subject.network
    if not isinstance(network, KnownNetwork):
        names = ", ".join(f"'known/{name}'" for name in NETWORKS)
        raise MetricError(
            f"only networks built by hand have an exact attribution to compare with; take one of "
            f"cam.load_model's {names}, with the images of cam.dataset('known', network=…)"
        )
    targets = subject.passes.pixels.targets
    if not isinstance(targets, Tensor):
        raise MetricError(
            "the exact attribution is that of a class, and a callable was explained; take a class"
        )
    exact = network.exact(subject.inputs, targets)
    subject.refuse(
        exact.isnan().flatten(1).any(1),
        f"the exact attribution of this image is not known; take images of "
        f"cam.dataset('known', network={network.name!r})",
    )
    subject.refuse(
        (exact == 0).flatten(1).all(1),
        "the exact attribution is 0 everywhere, so nothing can agree with it",
    )
    return exact
