"""Layers through the depth of networks that we know."""

import pytest
import torch
from torch import nn

import cam
from cam.pages.ui.subject.network_depth import choose_instructive, sample_depth


def halve(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU())


class Halving(nn.Module):
    """Three blocks, each at half of the resolution before, and one that keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(halve(4), halve(4), nn.Conv2d(4, 4, 1), halve(4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Level(nn.Sequential):
    """Six convolutions of one resolution."""

    def __init__(self) -> None:
        convolutions = (nn.Conv2d(3 if not i else 4, 4, 3, padding=1) for i in range(6))
        super().__init__(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def test_the_last_layer_of_each_resolution():
    names = sample_depth(cam.Model(Halving().eval()))
    # Each is the end of what runs at its resolution; a row of blocks ends with its last one.
    assert names == ["stem", "blocks.0", "blocks.2", "blocks"]


def test_of_one_resolution_evenly_spaced_ones():
    names = sample_depth(cam.Model(Level().eval()))
    assert len(names) == 5 == len(set(names)) and names == sorted(names, key=int)
    assert names[0] == "0" and int(names[-1]) >= 5


def test_at_the_instructive_layer_there_is_a_mean_to_take(bundled):
    """Gradients differ from place to place there; at the default layer they do not."""
    layer = choose_instructive(bundled)
    assert layer == "blocks.4"
    batch = bundled.prepare(cam.sample("coffee"))
    spreads = []
    for at in (layer, None):
        steps = cam.anatomy(bundled, batch, None, at)
        gradients = steps.gradients[0].double().flatten(1)
        spreads.append(float((gradients.std(1) / gradients.abs().amax(1).clamp(min=1e-12)).mean()))
    assert spreads[0] > 0.05 and spreads[1] < 1e-4


def test_a_network_of_one_layer_has_nothing_better_than_its_default():
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.only = nn.Conv2d(3, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.only(x).mean((2, 3))

    assert choose_instructive(cam.Model(Single().eval())) is None


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/vgg11"])
def test_resolutions_fall_from_layer_to_layer(name):
    torch.manual_seed(0)
    model = cam.load_model(name, weights=None)
    shapes = {layer.name: layer.shape for layer in model.feature_layers}
    sides = [shapes[layer][-1] for layer in sample_depth(model)]
    assert len(sides) >= 4 and sides == sorted(set(sides), reverse=True)
