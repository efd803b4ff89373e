"""Measure how far a method keeps each axiom."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

import cam
from cam._truth.known_networks import CELL, KnownNetwork, PatchNetwork, stripes
from cam.polarity import as_heatmap

# Of the random networks' pictures.
SMALL = 32
# The last feature maps before pooling, of the random convolutional network.
LAYER = "6"
TARGET = 0
# Cells a side of the picture with two equal patterns.
GRID = 4


@dataclass(frozen=True)
class Axiom:
    """A property that a method may have.

    Attributes:
        title: For a table.
        sentence: What it says.
        paper: Who asked for it.
        measured: How it is measured, in words.
        tolerance: Up to which figure it holds; for a correlation, from which.
        measure: From a method to the figure; None where it does not apply.
        correlation: Whether the figure is a correlation, and not an error.
    """

    title: str
    sentence: str
    paper: str
    measured: str
    tolerance: float
    measure: Callable[[cam.Method], float | None]
    correlation: bool = False

    def holds(self, figure: float) -> bool:
        """Judge a figure."""
        return figure >= self.tolerance if self.correlation else figure <= self.tolerance


def explain(
    method: cam.Method, network: nn.Module, batch: Tensor, targets: Any = TARGET, layer: Any = None
) -> cam.Attribution:
    """Explain without warnings, at a layer where the method has one."""
    at = layer if method.info.layer else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cam.CamWarning)
        maps = cam.attribute(network, batch, method, targets, at, batch_size=64)
    return maps[method.name]


def raw(attribution: cam.Attribution) -> Tensor:
    """Return the raw maps (B, h, w) in float64."""
    return attribution.raw.double()


@lru_cache(maxsize=1)
def random_network() -> nn.Sequential:
    """Make a convolutional network with what real ones have, at random, in float64.

    Biases, batch norms with statistics as after training, pooling, and scores of different sizes.
    """
    state = torch.get_rng_state()
    torch.manual_seed(0)
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 4),
    )
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(8, 3, SMALL, SMALL))
        for norm in (network[1], network[5]):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.3)
        network[9].weight.mul_(4)
    torch.set_rng_state(state)
    finished: nn.Sequential = network.double().eval()
    return finished


@lru_cache(maxsize=1)
def random_transformer() -> nn.Module:
    """Make a vision transformer of two blocks at random, in float64."""
    import timm

    state = torch.get_rng_state()
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        "test_vit", img_size=SMALL, patch_size=8, depth=2, num_classes=4
    )
    torch.set_rng_state(state)
    return network.double().eval()


def network_for(method: cam.Method) -> nn.Module:
    """Return the random network that a method can read."""
    return random_transformer() if method.info.attention else random_network()


@lru_cache(maxsize=1)
def pictures() -> Tensor:
    """Draw smooth pictures with grain, (3, 3, 32, 32) float64."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(3, 3, 4, 4, generator=generator, dtype=torch.float64)
    grain = torch.randn(3, 3, SMALL, SMALL, generator=generator, dtype=torch.float64)
    return functional.interpolate(coarse, size=(SMALL, SMALL), mode="bicubic") + 0.1 * grain


@lru_cache(maxsize=8)
def open_known(name: str) -> tuple[KnownNetwork, Tensor, int]:
    """Return a network with known answers, its first picture (1, 3, H, W), and the class."""
    model = cam.load_model(f"known/{name}")
    item = cam.dataset("known", network=name, size=1)[0]
    assert isinstance(model.module, KnownNetwork) and isinstance(item.target, int)
    picture: Any = item.image
    return model.module, model.prepare([picture]), item.target


@lru_cache(maxsize=8)
def explain_known(method: cam.Method, name: str) -> cam.Attribution:
    """Explain that picture once for all who ask."""
    network, batch, target = open_known(name)
    return explain(method, network, batch, target, network.layer)


def score(network: nn.Module, batch: Tensor, target: int = TARGET) -> Tensor:
    """Compute the raw scores (B,) of a class."""
    with torch.no_grad():
        logits: Tensor = network(batch)[:, target]
    return logits


def shares_the_score(info: cam.MethodInfo) -> bool:
    """Test whether a method's values are shares of the score, as relevance is."""
    return "lrp" in info.name


def completeness(method: cam.Method) -> float | None:
    """Compare the sum of a map of the pixels with the difference of two scores."""
    info = method.info
    if info.kind != "contribution" or info.layer or info.attention or shares_the_score(info):
        return None
    batch, network = pictures()[:2], random_network()
    blank = score(network, torch.zeros_like(batch))
    if info.name == "blur_integrated_gradients":
        widths = (0, 0, info.parameters["sigma"], info.parameters["sigma"])
        blurred = gaussian_filter(batch.numpy(), widths, mode="constant", truncate=4.0)
        blank = score(network, torch.from_numpy(blurred))
    references = next((key for key in info.parameters if key in ("references", "background")), None)
    if references is not None:
        others = pictures()[2:].flip(3)
        method = cam.method(method.name, **{**method.parameters, references: others})
        blank = score(network, others).mean()
    values = explain(method, network, batch).signed.double()
    return _miss(values, score(network, batch) - blank)


def conservation(method: cam.Method) -> float | None:
    """Compare the sum of a map with the score, or with what a layer adds to it."""
    info = method.info
    batch, network = pictures()[:2], network_for(method)
    if shares_the_score(info):
        return _miss(raw(explain(method, network, batch)), score(network, batch))
    if info.kind != "contribution" or not info.layer or info.attention:
        return None
    tail = random_network()[int(LAYER) + 1 :]
    with torch.no_grad():
        maps = random_network()[: int(LAYER) + 1](batch)
    added = score(tail, maps) - score(tail, torch.zeros_like(maps))
    return _miss(raw(explain(method, network, batch, layer=LAYER)), added)


def linearity(method: cam.Method) -> float | None:
    """Compare the map of a weighted sum of two scores with the weighted sum of their maps."""
    if method.info.kind == "sensitivity":
        return None
    network, batch = network_for(method), pictures()[:1]
    targets = [cam.targets.Logit(0), cam.targets.Logit(1), lambda output: 2 * output[0] - output[1]]
    first, second, both = (
        raw(explain(method, network, batch, target, LAYER)) for target in targets
    )
    return float((both - (2 * first - second)).norm() / (2 * first.norm() + second.norm()))


def dummy(method: cam.Method) -> float | None:
    """Look inside of a square that the network ignores, a cell away from its edge."""
    if method.info.attention:
        return None
    _, batch, _ = open_known("distractor")
    attribution = explain_known(method, "distractor")
    signed = attribution.signed.double()
    values = as_heatmap(signed, attribution.kind) if attribution.kind == "evidence" else signed
    # The square is yellow: red is bright. Eroded by a cell, the middle one of three remains.
    dark = (batch[:, :1] < 0.5).double()
    inner = functional.max_pool2d(dark, 2 * CELL + 1, 1, CELL)[:, 0] == 0
    largest = values.abs().amax((1, 2)).clamp(min=1e-300)
    return float(((values.abs() * inner).amax((1, 2)) / largest).max())


def symmetry(method: cam.Method) -> float | None:
    """Compare the values of two patterns, each pixel of which does the same."""
    if method.info.attention:
        return None
    batch = torch.zeros(1, 3, GRID * CELL, GRID * CELL)
    cells = ((0, 1), (2, 2))
    for cell in cells:
        _crop(batch[0], *cell)[...] = stripes(CELL)
    network = PatchNetwork(GRID * CELL, CELL).eval()
    attribution = explain(method, network, batch, 0, network.layer)
    # A layer's cells are those of the patterns; upsampled, they would run into each other.
    values = (attribution.raw if method.info.layer else attribution.signed)[0].double()
    inside = torch.cat([_crop(values, *cell).flatten() for cell in cells])
    # A map of zeros says nothing of anybody.
    return float((inside.max() - inside.min()) / values.abs().max().clamp(min=1e-300))


def _crop(maps: Tensor, row: int, column: int) -> Tensor:
    """Return a cell of maps (…, h, w) of any resolution, as a view."""
    size = maps.shape[-1] // GRID
    return maps[..., row * size : (row + 1) * size, column * size : (column + 1) * size]


class Factor(nn.Module):
    """Multiply by a constant, or by one for each channel."""

    factor: float | nn.Parameter

    def __init__(self, factor: float | Tensor) -> None:
        super().__init__()
        if isinstance(factor, Tensor):
            factor = nn.Parameter(factor[:, None, None])
        self.factor = factor

    def forward(self, maps: Tensor) -> Tensor:
        """Multiply maps (B, C, h, w)."""
        return maps * self.factor


def rescaled_networks() -> list[tuple[nn.Module, str]]:
    """Write the random network in other ways that compute the same, with the layer's name."""
    plain = random_network()
    parts = copy.deepcopy(list(plain))
    doubled = nn.Sequential(*parts[:3], Factor(2.0), Factor(0.5), *parts[3:])
    factors = torch.linspace(0.25, 4, 8, dtype=torch.float64)
    scaled = nn.Sequential(*parts[:3], Factor(factors), Factor(1 / factors), *parts[3:])
    moved: Any = copy.deepcopy(plain)
    channels = torch.linspace(0.25, 4, 12, dtype=torch.float64)
    with torch.no_grad():
        moved[5].weight.mul_(channels)
        moved[5].bias.mul_(channels)
        moved[9].weight.div_(channels)
    return [
        (doubled.eval(), str(int(LAYER) + 2)),
        (scaled.eval(), str(int(LAYER) + 2)),
        (moved, LAYER),
    ]


def scale(method: cam.Method) -> float | None:
    """Compare the maps of networks that compute the same with other factors inside."""
    batch = pictures()[:1]
    if method.info.attention:
        written: Any = copy.deepcopy(random_transformer())
        with torch.no_grad():
            for block in written.blocks:
                width = block.attn.proj.in_features
                block.attn.qkv.weight[2 * width :].mul_(2)
                block.attn.qkv.bias[2 * width :].mul_(2)
                block.attn.proj.weight.div_(2)
        networks: list[tuple[nn.Module, str]] = [(written, LAYER)]
    else:
        networks = rescaled_networks()
    plain = network_for(method)
    expected = raw(explain(method, plain, batch, layer=LAYER))
    errors = []
    for network, layer in networks:
        torch.testing.assert_close(network(batch), plain(batch))
        actual = raw(explain(method, network, batch, layer=layer))
        if method.info.kind != "contribution":
            # Of evidence and sensitivity only the proportions count.
            actual = actual * (expected.norm() / actual.norm().clamp(min=1e-300))
        errors.append(float((actual - expected).norm() / expected.norm()))
    return max(errors)


def seeds(method: cam.Method) -> float | None:
    """Correlate the maps of two seeds, the least of three pictures."""
    if "seed" not in method.info.parameters:
        return None
    first, second = (
        raw(
            explain(
                cam.method(method.name, **{**method.parameters, "seed": seed}),
                network_for(method),
                pictures(),
                layer=LAYER,
            )
        ).flatten(1)
        for seed in (0, 1)
    )
    return min(
        float(np.corrcoef(a.numpy(), b.numpy())[0, 1]) for a, b in zip(first, second, strict=True)
    )


def batch(method: cam.Method) -> float | None:
    """Compare the maps of a batch with those of its pictures one by one."""
    network = network_for(method)
    whole = raw(explain(method, network, pictures(), layer=LAYER))
    alone = torch.cat(
        [raw(explain(method, network, picture[None], layer=LAYER)) for picture in pictures()]
    )
    return float((whole - alone).abs().max() / whole.abs().max())


def agreement(method: cam.Method, name: str) -> float | None:
    """Correlate with the exact attribution of a network."""
    if method.info.attention:
        return None
    network, batch, target = open_known(name)
    attribution = explain_known(method, name)
    return float(cam.metric("truth_correlation")(network, batch, attribution, target))


def _miss(maps: Tensor, expected: Tensor) -> float:
    return float(((maps.sum((1, 2)) - expected).abs() / expected.abs()).max())
