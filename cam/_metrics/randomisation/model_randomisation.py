"""Measure whether a heatmap depends on what the network has learned."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from cam._engine.evaluation_mode import device_of
from cam._metrics.base.batch_noise import NoisyPictures
from cam._metrics.base.map_ranking import is_constant, rank_agreement, structural_similarity
from cam._metrics.base.metric_registry import register_metric
from cam._metrics.base.subject import Subject
from cam.errors import MetricError
from cam.parameters import SEED, integer, number, one_of
from cam.polarity import as_heatmap

SIMILAR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman": rank_agreement,
    "ssim": lambda maps, reference: structural_similarity(as_heatmap(maps), as_heatmap(reference)),
}
_RULES = {"stages": integer(1), "similarity": one_of(SIMILAR), "seed": SEED}
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
    definition="mean over stages of the similarity of A(x) and A_k(x), the layers random down to k",
    cost="1 forward and 8 explanations by default",
    rules=_RULES,
)
def randomisation(
    subject: Subject, *, stages: int = 8, similarity: str = "spearman", seed: int = 0
) -> Tensor:
    """How alike the heatmap stays while the network forgets, from the last layer to the first.

    All layers with parameters are drawn anew in a copy of the network, the last first, until all
    are random; in between, at equal steps, the picture is explained again. The comparison with the
    network itself, which is 1 for every method, is not part of the mean.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        stages: How often it is explained again; no more than there are layers.
        similarity: "spearman", of the pixels' order, or "ssim", of the pictures the maps make.
        seed: Of the parameters.

    Returns:
        (B,); NaN where the heatmap is the same everywhere, which has no order; a map of a random
        network that is so counts as 0.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 3, cascading
        randomisation
    """
    compare = SIMILAR[similarity]

    def measure(maps: Tensor, owner: Tensor, _: Tensor) -> Tensor:
        return compare(maps, subject.importance[owner])

    similarities = [
        _explain_again(subject, measure, network)
        for network in randomise_in_stages(subject.network, stages, seed)
    ]
    return _average(subject, torch.stack(similarities, 1))


@_register_similarity(
    "smooth_randomisation",
    title="Smooth model parameter randomisation (sMPRT)",
    definition="as randomisation, of means of A(x + σ(max x - min x) ε) over noisy pictures",
    cost="1 forward and 90 explanations by default",
    rules=_RULES | {"samples": integer(1), "noise": number(above=0)},
)
def smooth_randomisation(
    subject: Subject,
    *,
    stages: int = 8,
    similarity: str = "spearman",
    samples: int = 10,
    noise: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """As randomisation, without the noise of gradients that makes any two maps look different.

    Args:
        subject: A batch with its heatmaps, and how they were made.
        stages: As for :func:`randomisation`.
        similarity: As for :func:`randomisation`.
        samples: Noisy copies of each picture, whose heatmaps are averaged.
        noise: σ, as a share of the picture's own range.
        seed: Of parameters and noise.

    Returns:
        (B,); NaN where the heatmap is the same everywhere, which has no order; a map of a random
        network that is so counts as 0.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Hedström et al., Sanity Checks Revisited: An Exploration to Repair the Model Parameter
        Randomisation Test, XAI in Action workshop at NeurIPS 2023 (2024), section 4.1
    """
    pictures = NoisyPictures(subject.inputs, samples, seed, noise)

    def smooth(network: nn.Module) -> Tensor:
        total = torch.zeros_like(subject.importance, dtype=torch.float64)

        def add(maps: Tensor, owner: Tensor, _: Tensor) -> Tensor:
            total.index_add_(0, owner, maps.double())
            return owner

        subject.explain_steps(samples, pictures, add, network)
        return total / samples

    trained = smooth(subject.network)
    similarities = [
        SIMILAR[similarity](smooth(network), trained)
        for network in randomise_in_stages(subject.network, stages, seed)
    ]
    return _average(subject, torch.stack(similarities, 1))


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

    Args:
        subject: A batch with its heatmaps, and how they were made.
        bins: Of the histogram, between a map's smallest and largest value.
        seed: Of the parameters.

    Returns:
        (B,); NaN where the map has one value only, or two without any between.

    Raises:
        MetricError: The network has no parameters, or cannot be copied.

    References:
        Hedström et al., Sanity Checks Revisited: An Exploration to Repair the Model Parameter
        Randomisation Test, XAI in Action workshop at NeurIPS 2023 (2024), section 4.2
    """
    (network,) = randomise_in_stages(subject.network, 1, seed)
    before = _histogram_entropy(subject.importance, bins)
    subject.refuse(before == 0, "the map is the same everywhere, so its entropy is 0")
    after = _explain_again(
        subject, lambda maps, _owner, _step: _histogram_entropy(maps, bins), network
    )
    return (after - before) / before


def _explain_again(
    subject: Subject, measure: Callable[[Tensor, Tensor, Tensor], Tensor], network: nn.Module
) -> Tensor:
    """Explain the pictures in another network and measure the maps, (B,)."""
    return subject.explain_steps(1, lambda owner, _: subject.inputs[owner], measure, network)[:, 0]


def _average(subject: Subject, similarities: Tensor) -> Tensor:
    subject.refuse(is_constant(subject.importance), "the map is the same everywhere")
    subject.refuse(similarities.isnan().any(1), "a map of the random network is not finite")
    return similarities.mean(1)


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


def layers_in_stages(network: nn.Module, stages: int) -> list[list[str]]:
    """List each stage's layers, the last of the network first.

    Raises:
        MetricError: The network has no parameters.
    """
    names = [
        name
        for name, child in network.named_modules()
        if next(child.parameters(recurse=False), None) is not None
    ][::-1]
    if not names:
        raise MetricError("the model has no parameters that could be made random")
    stages = min(stages, len(names))
    ends = [round(len(names) * stage / stages) for stage in range(stages + 1)]
    return [names[start:end] for start, end in pairwise(ends)]


def randomise_in_stages(network: nn.Module, stages: int, seed: int) -> Iterator[nn.Module]:
    """Yield a copy of a network after each stage of randomisation."""
    in_stages = layers_in_stages(network, stages)
    try:
        randomised = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise MetricError(f"the model cannot be copied to be randomised: {reason}") from error
    seeds = torch.Generator().manual_seed(seed)
    for names in in_stages:
        for name in names:
            layer_seed = int(torch.randint(2**62, (), generator=seeds))
            _make_random(randomised.get_submodule(name), layer_seed)
        yield randomised


def _make_random(layer: nn.Module, seed: int) -> None:
    """Initialise a layer's direct parameters again, or else shuffle them."""
    device = device_of(layer)
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()
            return
        for parameter in layer.parameters(recurse=False):
            order = torch.randperm(parameter.numel()).to(device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
