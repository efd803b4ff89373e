"""Track a map while the network is made random, layer by layer."""

import warnings
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cam._attribution.attribution import attribute
from cam._comparison.progress_shares import Parts, Tell
from cam._engine.layers import Layers, resolve_layers
from cam._methods.base.method_registry import Method
from cam._methods.base.method_registry import method as named
from cam._metrics.base.map_ranking import is_constant, is_dead
from cam._metrics.randomisation.model_randomisation import SIMILAR
from cam._metrics.randomisation.random_networks import layers_in_stages, randomise_in_stages
from cam._models.model import Model
from cam._models.network import Network
from cam._models.preprocessing import mean_and_std
from cam.errors import CamWarning, MetricError, require_known
from cam.parameters import integer
from cam.polarity import POLARITIES, polarise
from cam.targets import Targets


@dataclass(frozen=True, eq=False)
class Cascade:
    """One method's maps of one batch, stage by stage.

    Attributes:
        depths: One a stage: the name of the layer down to which all is random, counted from the
            network's end; the first one is "", the network itself.
        shares: One a stage: how many of the layers with parameters are random, from 0 to 1.
        heatmaps: (stages + 1, B, H, W) float32, on the CPU.
        signed: The signed maps, of the same shape.
        likeness: (stages + 1, B) float64: how like the network's own map it is; 1 at first, NaN
            where that one is the same everywhere, or a later one, whose network is dead.
    """

    depths: tuple[str, ...]
    shares: tuple[float, ...]
    heatmaps: Tensor
    signed: Tensor
    likeness: Tensor


def cascade(
    model: Model | nn.Module,
    batch: Tensor,
    method: str | Method,
    targets: Targets = None,
    layers: Layers = None,
    *,
    stages: int = 8,
    similarity: str = "spearman",
    polarity: str = "signed",
    seed: int = 0,
    tell: Tell | None = None,
) -> Cascade:
    """Make the network random from its end, and watch the map.

    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3: a map that stays as
    it was does not show what the network has learned. It happens in a copy. The mean of
    ``likeness`` without its first is what the metric "randomisation" gives.

    Args:
        model: A :class:`cam.Model` or any classifier; it comes back as it was.
        batch: (B, 3, H, W) floats on the model's device.
        method: A name, or :func:`cam.method` with parameters.
        targets: What is explained, as for :func:`cam.attribute`; the class that is found at first
            is explained to the end.
        layers: As for :func:`cam.attribute`.
        stages: In how many steps; no more than there are layers with parameters.
        similarity: "spearman", of the pixels' order, or "ssim", of the pictures the maps make.
        polarity: How signed maps are read, of :data:`cam.polarity.POLARITIES`.
        seed: Of the random parameters.
        tell: Called with the share that is done and a note; an answer of False cancels.

    Raises:
        CamError: One of its subclasses, with one sentence on what was wrong.
    """
    require_known(similarity, SIMILAR, "likeness", MetricError)
    require_known(polarity, POLARITIES, "polarity", MetricError)
    if not integer(1).holds(stages):
        raise MetricError(f"stages must be a whole number of at least 1, but is {stages!r}")
    how = named(method) if isinstance(method, str) else method
    explained = Network.of(model)
    network = explained.module
    in_stages = layers_in_stages(network, stages)
    parts = Parts(tell, 1 + len(in_stages))
    at: tuple[str, ...] | None = None
    if how.info.layer:
        layers = explained.default_layers(batch) if layers is None else layers
        at = tuple(name for name, _ in resolve_layers(network, layers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CamWarning)
        parts.begin("the network itself")
        (trained,) = attribute(model, batch, how, targets, at, progress=parts.report).values()
        colours = mean_and_std(model.transform) if isinstance(model, Model) else None
        networks = randomise_in_stages(network, batch, stages, seed, colours=colours)
        maps = [trained]
        for names in in_stages:
            parts.begin(f"random down to {names[-1]}")
            # Only the copy needs the model to itself, and it is made with the first stage.
            with model.lock if isinstance(model, Model) and len(maps) == 1 else nullcontext():
                forgetful = next(networks)
            (random,) = attribute(
                forgetful, batch, how, trained.targets, at, progress=parts.report
            ).values()
            maps.append(random)
    importance = [polarise(each.signed, polarity, each.kind) for each in maps]
    alike = torch.stack([SIMILAR[similarity](later, importance[0]) for later in importance])
    dead = torch.stack([is_dead(later, importance[0]) for later in importance])
    alike = alike.masked_fill(dead | is_constant(importance[0]), torch.nan)
    sizes = torch.tensor([0, *map(len, in_stages)]).cumsum(0)
    return Cascade(
        ("", *(names[-1] for names in in_stages)),
        tuple((sizes / sizes[-1]).tolist()),
        torch.stack([each.heatmap for each in maps]).cpu(),
        torch.stack([each.signed for each in maps]).cpu(),
        alike.cpu(),
    )
