"""Measure whether a heatmap depends on what the network has learned."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from cam._metrics.base.batch_noise import NoisyPictures
from cam._metrics.base.map_ranking import is_constant, is_dead, spearman, structural_similarity
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam._metrics.randomisation.random_networks import ORDERS, randomise_in_stages
from cam.parameters import SEED, integer, number, one_of
from cam.polarity import as_heatmap

SIMILAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman": spearman,
    "ssim": lambda maps, reference: structural_similarity(as_heatmap(maps), as_heatmap(reference)),
}
_RULES = {
    "stages": integer(1),
    "order": one_of(ORDERS),
    "similarity": one_of(SIMILAR),
    "seed": SEED,
}
_register = partial(register_metric, family="randomisation", needs_method=True)
_register_similarity = partial(
    _register,
    direction=-1,
    range=(-1, 1),
    baseline="a method that does not look at the parameters scores 1; a map of chance 0",
)


@_register_similarity(
    "randomisation",
    title="Model parameter randomisation",
    definition="mean over stages of the similarity of A(x) and A_k(x), k of the stages random",
    cost="1 forward and 8 explanations by default",
    rules=_RULES,
)
def randomisation(
    subject: Subject,
    *,
    stages: int = 8,
    order: str = "top_down",
    similarity: str = "spearman",
    seed: int = 0,
) -> Tensor:
    """How alike the heatmap stays while the network forgets, layer by layer.

    All layers with parameters are drawn anew in copies of the network, in equal steps, the last
    first, and the image is explained again after each. The comparison with the network itself,
    which is 1 for every method, is not part of the mean. The random networks are kept alive
    (:func:`.random_networks.randomise_in_stages`). A map of theirs that is dead, the same
    everywhere, says nothing of the method and is left out, which a remark tells.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        stages: How often it is explained again; no more than there are layers.
        order: "top_down", from the last layer to the first, "bottom_up", from the first to the
            last, or "independent", the layers of a stage alone, all others trained.
        similarity: "spearman", of the pixels' order, or "ssim", of the images the maps make.
        seed: Of the parameters.

    Returns:
        (B,); NaN where the heatmap is the same everywhere, which has no order, or more than half of
        the maps of random networks are.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3, cascading and
        independent randomisation
    """
    return _compare_stages(
        subject,
        lambda network: _explain_mean(subject, network),
        subject.importance,
        (stages, seed, order),
        similarity,
    )


@_register_similarity(
    "smooth_randomisation",
    title="Smooth model parameter randomisation (sMPRT)",
    definition="as randomisation, of means of A(x + σ(max x - min x) ε) over noisy images",
    cost="1 forward and 90 explanations by default",
    rules=_RULES | {"samples": integer(1), "noise": number(above=0)},
)
def smooth_randomisation(
    subject: Subject,
    *,
    stages: int = 8,
    order: str = "top_down",
    similarity: str = "spearman",
    samples: int = 10,
    noise: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """As randomisation, without the noise of gradients that makes any two maps look different.

    The authors' program (Quantus 0.6) goes bottom up by default and takes 50 noisy images:
    ``order="bottom_up", samples=50``; here the order is that of :func:`randomisation`, and 10
    images make it affordable.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        stages: As for :func:`randomisation`.
        order: As for :func:`randomisation`.
        similarity: As for :func:`randomisation`.
        samples: Noisy copies of each image, whose heatmaps are averaged.
        noise: σ, as a share of the image's own range.
        seed: Of parameters and noise.

    Returns:
        (B,); NaN as for :func:`randomisation`.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Hedström et al., Sanity Checks Revisited: An Exploration to Repair the Model Parameter
        Randomisation Test, XAI in Action workshop at NeurIPS 2023 (2024), section 4.1
    """
    pictures = NoisyPictures(subject.inputs, samples, seed, noise)

    def smooth(network: nn.Module) -> Tensor:
        return _explain_mean(subject, network, pictures, samples)

    trained = smooth(subject.network)
    return _compare_stages(subject, smooth, trained, (stages, seed, order), similarity)


@_register(
    "efficient_randomisation",
    title="Efficient model parameter randomisation (eMPRT)",
    definition="(H(A_random) - H(A)) / H(A), H: entropy of the histogram of a map's values",
    direction=1,
    range=(-1, float("inf")),
    baseline="a method that does not look at the parameters scores 0",
    cost="1 forward and 1 explanation",
    rules={"bins": integer(2), "seed": SEED},
)
def efficient_randomisation(subject: Subject, *, bins: int = 100, seed: int = 0) -> Tensor:
    """How much more complex the heatmap becomes when all that was learned is gone.

    All layers are random at once, so that no order matters; the authors' program (Quantus 0.6)
    goes bottom up by default and takes the last network, which is the same. The random network is
    kept alive (:func:`.random_networks.randomise_in_stages`).

    Args:
        subject: A batch with its heatmaps, and how they were made.
        bins: Of the histogram, between a map's smallest and largest value.
        seed: Of the parameters.

    Returns:
        (B,); NaN where the map has one value only, or two without any between, or that of the
        random network is the same everywhere.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Hedström et al., Sanity Checks Revisited: An Exploration to Repair the Model Parameter
        Randomisation Test, XAI in Action workshop at NeurIPS 2023 (2024), section 4.2
    """
    before = _histogram_entropy(subject.importance, bins)
    subject.refuse(before == 0, "the map is the same everywhere, so its entropy is 0")
    (network,) = randomise_in_stages(
        subject.network, subject.inputs, 1, seed, colours=subject.colours
    )
    maps = _explain_mean(subject, network)
    dead = is_dead(maps, subject.importance)
    subject.refuse(dead, "the map of the random network is the same everywhere: it is dead")
    return (_histogram_entropy(maps, bins) - before) / before


def _compare_stages(
    subject: Subject,
    explain: Callable[[nn.Module], Tensor],
    trained: Tensor,
    stages: tuple[int, int, str],
    similarity: str,
) -> Tensor:
    """Average over random networks how like the trained one's map theirs are, (B,)."""
    subject.refuse(is_constant(subject.importance), "the map is the same everywhere")
    similarities, dead = [], []
    for network in randomise_in_stages(
        subject.network, subject.inputs, *stages, colours=subject.colours
    ):
        maps = explain(network)
        similarities.append(SIMILAR[similarity](maps, trained))
        dead.append(is_dead(maps, trained))
    return average_alive(subject, torch.stack(similarities, 1), torch.stack(dead, 1))


def average_alive(
    subject: Subject, similarities: Tensor, dead: Tensor, whose: str = "of the random networks"
) -> Tensor:
    """Average similarities (B, K) but those of dead maps, which say nothing of the method, (B,).

    An image of which more than half are dead is refused; a remark tells of fewer.
    """
    for count in range(1, dead.shape[1] + 1):
        images = dead.sum(1) == count
        sentence = f"{count} of {dead.shape[1]} maps {whose} are the same everywhere"
        if 2 * count > dead.shape[1]:
            subject.refuse(images, f"{sentence}, which says nothing of the method")
        else:
            subject.remark(images, f"{sentence} and left out")
    unsound = (similarities.isnan() & ~dead).any(1)
    subject.refuse(unsound, f"a map {whose} is not finite")
    return similarities.masked_fill(dead, torch.nan).nanmean(1)


def _explain_mean(
    subject: Subject,
    network: nn.Module,
    write: Callable[[Tensor, Tensor], Tensor] | None = None,
    samples: int = 1,
) -> Tensor:
    """Explain each picture, or variants of it, in a network: the mean map, (B, H, W) float64."""
    total = torch.zeros_like(subject.importance, dtype=torch.float64)

    def add(maps: Tensor, owner: Tensor, _: Tensor) -> Tensor:
        total.index_add_(0, owner, maps.double())
        return owner

    subject.explain_steps(samples, write or (lambda owner, _: subject.inputs[owner]), add, network)
    return total / samples


def _histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """Compute the entropy of maps' histograms in nats, (N,)."""
    flat = maps.double().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    scaled = (flat - low) / torch.where(high == low, 1, high - low)
    bin_index = (scaled.nan_to_num() * bins).long().clamp(0, bins - 1)
    counts = torch.zeros(len(flat), bins, dtype=torch.float64, device=maps.device)
    counts.scatter_add_(1, bin_index, torch.ones_like(scaled))
    share = counts / flat.shape[1]
    return -torch.xlogy(share, share).sum(1).where(flat.isfinite().all(1), torch.nan)
