"""The logits of downstream passes against whole passes."""

import pytest
import torch
from torch import nn

import cam
from cam._engine.capture import capture
from cam._engine.method_sources import LayerActivations
from cam._methods.base.downstream import ALONE, REPEATED, WHOLE, Downstream


def conv(*channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(*channels, 3, padding=1), nn.ReLU(inplace=True))


class Counting(nn.Module):
    """A convolution that counts its runs."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.inside = conv(*channels)
        self.runs = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.inside(x)


class Network(nn.Module):
    """Something goes past the layer, in one of the ways in which networks let it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front, self.layer, self.back = Counting(3, 6), conv(6, 6), conv(6, 6)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(12 if kind == "concatenated" else 6, 5)
        self.kind = kind
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        past = self.front(x)
        if self.kind == "changed in place before":
            self.relu(past.sub_(0.1))  # what a module does beside putting something out is not told
        maps = self.layer(past)
        if self.kind == "concatenated":
            joined = torch.cat([past, self.back(maps)], 1)
        elif self.kind == "added to in place":
            joined = past
            joined += maps
        elif self.kind == "changed in place behind":
            joined = self.back(maps) + past.mul_(0.5)
        elif self.kind == "its module runs again behind":
            joined = self.back(self.relu(self.front(torch.tanh(maps[:, :3]))) + past)
        elif self.kind == "random":
            joined = self.back(maps) + torch.randn(())
        else:
            joined = self.back(maps) + past
        return self.head(joined.mean((2, 3)))


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randn(1, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def behind_of(network, picture, layer="layer") -> tuple[Downstream, torch.Tensor]:
    where = [(layer, network.get_submodule(layer))]
    captured = capture(network, picture, 0, lambda label: 0, [LayerActivations], where)
    (source,) = captured.read(LayerActivations)
    return Downstream(network, source), source.activations


@torch.no_grad()
def plain(network, layer, picture, maps) -> torch.Tensor:
    """A whole pass for each map, one by one, with the layer's output replaced."""
    logits = []
    for activations in maps:
        handle = layer.register_forward_hook(
            lambda *call, activations=activations: activations[None].clone()
        )
        logits.append(network(picture.clone()))
        handle.remove()
    return torch.cat(logits)


KINDS = {
    "added": ALONE,
    "concatenated": REPEATED,
    "added to in place": REPEATED,
    "changed in place before": WHOLE,
    "changed in place behind": ALONE,
    "its module runs again behind": ALONE,
}


@pytest.mark.parametrize("kind", KINDS)
def test_gives_what_whole_passes_give(kind, picture):
    network = Network(kind)
    behind, activations = behind_of(network, picture)
    maps = activations * torch.tensor([1, 0, -2, 0.3])[:, None, None, None]
    expected = plain(network, network.layer, picture, maps)
    behind.record(picture)
    behind.choose_mode(activations)
    network.front.runs = 0
    for _ in range(2):  # what was recorded is not used up
        with torch.no_grad():
            assert (behind(maps) - expected).norm() <= 1e-5 * expected.norm()
    assert behind.mode == KINDS[kind]
    runs = kind in ("its module runs again behind", "changed in place before")
    assert network.front.runs == 2 * runs


def test_a_network_that_answers_differently_each_time_runs_whole(picture):
    network = Network("random")
    behind, activations = behind_of(network, picture)
    behind.record(picture)
    assert behind.choose_mode(activations) == 3
    assert behind.mode == WHOLE


def test_half_precision_takes_the_short_way_too(picture):
    network = Network("added")
    options = {"targets": 1, "layers": "layer", "batch_size": 6, "precision": "bf16"}
    attribution = cam.attribute(network, picture, "ablationcam", **options)["ablationcam"]
    # The shared pass, the whole way of a pair, and the recorded picture; never again.
    assert network.front.runs == 3
    assert attribution.precision == "bf16"


def test_the_way_is_found_again_for_another_picture_without_choosing(picture):
    network = Network("concatenated")
    behind, activations = behind_of(network, picture)
    behind.record(picture)
    behind.choose_mode(activations)
    other = picture.flip(3)
    behind.record(other)
    with torch.no_grad():
        logits = behind(activations)
    assert torch.allclose(logits, plain(network, network.layer, other, activations), atol=1e-6)


class Tokens(nn.Module):
    """A class token beside a grid of 4 × 5, and a layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.layer, self.head = nn.Conv2d(3, 8, 3, 3), Pair(), nn.Linear(8, 5)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.mix = nn.Linear(21, 21)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(x), -1, -1), tokens], 1)
        tokens, weight = self.layer(tokens)
        mixed = self.mix(tokens.transpose(1, 2)).relu().transpose(1, 2)
        return self.head(mixed[:, 0] * weight)


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.sin(), x.mean((1, 2))[:, None]


def test_ablation_of_tokens_leaves_the_class_token_as_it_is():
    network = Tokens().double()
    picture = torch.randn(1, 3, 12, 15, generator=torch.Generator().manual_seed(1)).double()
    attribution = cam.attribute(network, picture, "ablationcam", targets=2, layers="layer")[
        "ablationcam"
    ]
    class_tokens = []
    handle = network.layer.register_forward_hook(
        lambda module, inputs, out: class_tokens.append(out)
    )
    with torch.no_grad():
        score = network(picture)[0, 2]
    handle.remove()
    tokens, weight = class_tokens[0]
    weights = []
    for channel in range(8):
        ablated = tokens.clone()
        ablated[:, 1:, channel] = 0
        handle = network.layer.register_forward_hook(lambda *call, a=ablated: (a, weight))
        with torch.no_grad():
            weights.append((score - network(picture)[0, 2]) / score)
        handle.remove()
    expected = (tokens[0, 1:] @ torch.stack(weights)).view(4, 5)
    assert (attribution.raw[0] - expected).norm() <= 1e-4 * expected.norm()


def test_the_network_comes_back_as_it_was_also_after_an_exception(picture):
    network = Network("added")
    # As wrappers of the field do it: a forward that hangs on the instance.
    original = network.front.forward
    network.front.forward = original
    before = [dict(vars(child)) for child in network.modules()]
    with pytest.raises(RuntimeError, match="no more"):
        cam.attribute(network, picture, "ablationcam", layers="layer", progress=stop)
    cam.attribute(network, picture, "ablationcam", layers="layer")
    assert network.front.forward is original
    for child, attributes in zip(network.modules(), before, strict=True):
        changed = {"runs", "_forward_hooks", "_forward_pre_hooks"}
        assert {key for key, value in vars(child).items() if value is not attributes.get(key)} <= (
            changed
        )
        assert not child._forward_hooks and not child._forward_pre_hooks


def stop(progress) -> None:
    if progress.done:
        raise RuntimeError("no more")
