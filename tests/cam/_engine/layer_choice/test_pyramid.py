"""A detector's default layers are its pyramid's levels; the largest wins."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import cam
from tests.support.detectors import GridHead, make_pictures, make_torchvision

LEVELS = tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(3))


@pytest.mark.parametrize("name", ["faster r-cnn", "retinanet", "fcos"])
def test_the_levels_of_torchvisions_detectors(name):
    model = cam.Model(make_torchvision(name))
    assert model.layers[:3] == LEVELS


class Head(nn.Module):
    """Is given the levels together, as YOLO's is."""

    def __init__(self, network: GridHead) -> None:
        super().__init__()
        self.network = network

    def forward(self, levels):
        return self.network.predict(levels)


class Split(nn.Module):
    """A grid head's network in two parts."""

    def __init__(self) -> None:
        super().__init__()
        network = GridHead()
        self.stem, self.levels, self.detect = network.stem, network.levels, Head(network)

    def forward(self, pixels):
        features, levels = self.stem(pixels), []
        for level in self.levels:
            features = level(features)
            levels.append(features)
        return self.detect(levels)


def test_the_levels_of_a_grid_head():
    model = cam.Model(Split().eval())
    assert model.layers == ("levels.0", "levels.1", "levels.2")
    pictures = make_pictures(1)
    box = model.detect(pictures, 0)[0][0]
    by_default = cam.attribute(model, pictures, "layercam", [box])["layercam"]
    assert by_default.layers == model.layers
    levels = [
        cam.attribute(model, pictures, "layercam", [box], layer)["layercam"]
        for layer in model.layers
    ]
    # Each in [0, 1] at its own size, then the largest, then [0, 1] again.
    normalised = []
    for level in levels:
        raw = level.raw.relu()
        raw = raw / raw.amax().clamp(min=1e-12)
        normalised.append(functional.interpolate(raw[None], (64, 64), mode="bilinear")[0])
    expected = torch.stack(normalised).amax(0)
    expected = (expected - expected.amin()) / (expected.amax() - expected.amin())
    assert torch.allclose(by_default.heatmap, expected, atol=1e-3)
    mean = cam.attribute(model, pictures, "layercam", [box], fusion="mean")["layercam"]
    assert not torch.allclose(mean.heatmap, expected, atol=1e-2)


def test_a_classifier_has_no_pyramid():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 961, 3))
    network.eval()
    two = cam.attribute(network, make_pictures(1), "gradcam", 0, ["0", "1"])["gradcam"]
    mean = cam.attribute(network, make_pictures(1), "gradcam", 0, ["0", "1"], fusion="mean")
    assert torch.equal(two.heatmap, mean["gradcam"].heatmap)
