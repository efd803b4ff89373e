"""What hidden pixels show, and the curves over it, by hand."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam._metrics.faithfulness.imputation import impute
from tests.support.networks import Weighted

FOUR = Weighted([[0.5, 0.3], [0.2, 0.0]])
WHITE = torch.ones(1, 1, 2, 2)
PERFECT = torch.tensor([[[0.9, 0.5], [0.2, 0.1]]])
PICTURES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
MAPS = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(1))


class Keeping(nn.Module):
    """Writes down what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(x.clone())
        return torch.stack([x.mean((1, 2, 3)), x.sum((1, 2, 3))], 1)


class Transform:
    """As a model's: what it takes off and divides by."""

    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)

    def __call__(self, image):
        raise AssertionError("nothing is transformed here")


def hidden_half(baseline, name="deletion", model=None) -> torch.Tensor:
    """The pictures with the more important half of their pixels hidden."""
    network = Keeping()
    model = network if model is None else cam.Model(network, transform=Transform())
    cam.metric(name, steps=2, baseline=baseline)(model, PICTURES, MAPS, 0, batch_size=64)
    return network.batches[1][::2]


HIDDEN = (MAPS.flatten(1).median(1).values[:, None, None] < MAPS)[:, None].expand(-1, 3, -1, -1)


def test_mean_is_that_of_each_picture_and_channel():
    expected = PICTURES.mean((2, 3), keepdim=True).expand_as(PICTURES)
    assert torch.allclose(hidden_half("mean"), PICTURES.where(~HIDDEN, expected), atol=1e-6)


def test_black_is_what_the_models_transform_makes_of_it():
    expected = (0 - torch.tensor(Transform.mean)) / torch.tensor(Transform.std)
    expected = expected.view(1, 3, 1, 1).expand_as(PICTURES)
    actual = hidden_half("black", model=True)
    assert torch.allclose(actual, PICTURES.where(~HIDDEN, expected), atol=1e-6)
    sentence = "baseline='black' must know how the images were normalised; give a cam.Model"
    for name in ("deletion", "average_drop"):
        with pytest.raises(cam.MetricError, match=re.escape(sentence)):
            cam.metric(name, baseline="black")(Keeping(), PICTURES, MAPS, 0)


def test_uniform_fills_each_channels_range():
    actual = hidden_half("uniform")
    assert torch.equal(actual[~HIDDEN], PICTURES[~HIDDEN])
    for picture, noisy, hidden in zip(PICTURES, actual, HIDDEN, strict=True):
        for channel in range(3):
            values = noisy[channel][hidden[channel]]
            low, high = picture[channel].min(), picture[channel].max()
            assert low <= values.min() and values.max() <= high
            # 72 draws: 4 standard errors of the mean of an even distribution.
            error = 4 * (high - low) / (12 * 72) ** 0.5
            assert abs(values.mean() - (low + high) / 2) < error
    assert torch.equal(actual, hidden_half("uniform"))


def test_neighbours_are_roads_imputation():
    expected = impute(PICTURES, HIDDEN[:, 0], 1e-3)
    assert torch.allclose(hidden_half("neighbours"), expected, atol=1e-6)
    # Of what comes into view the other half is hidden.
    network = Keeping()
    cam.metric("insertion", steps=2, baseline="neighbours")(network, PICTURES, MAPS, 0)
    assert torch.allclose(
        network.batches[1][1::2], impute(PICTURES, ~HIDDEN[:, 0], 1e-3), atol=1e-6
    )


@pytest.mark.parametrize("baseline", ["mean", "blur", "uniform", 0.3, (0.1, 0.2, 0.3)])
def test_what_the_heatmap_hides_fades_to_the_baseline(baseline):
    network = Keeping()
    cam.metric("average_drop", baseline=baseline)(network, PICTURES, MAPS, 0, batch_size=64)
    scale = (MAPS / MAPS.amax((1, 2), keepdim=True))[:, None]
    every = Keeping()
    cam.metric("deletion", steps=1, baseline=baseline)(every, PICTURES, MAPS, 0, batch_size=64)
    faded = scale * PICTURES + (1 - scale) * every.batches[1]
    assert torch.allclose(network.batches[1], faded, atol=1e-6)


def test_average_drop_of_black_and_of_the_mean_colour_differ():
    """The network sees the picture less its mean colour: black is not what it takes for nothing."""

    class Normalised(Transform):
        mean, std = (0.5,), (1.0,)

    model = cam.Model(FOUR, transform=Normalised())
    nothing = torch.zeros(1, 2, 2)
    drop = cam.metric("average_drop")(model, WHITE, nothing, 0)
    black = cam.metric("average_drop", baseline="black")(model, WHITE * 0.5, nothing, 0)
    assert drop.item() == 1 and black.item() == 1
    # The other class has all of what is left of the first one's.
    assert cam.metric("increase", baseline=1.0)(model, WHITE * 0.5, nothing, 0).item() == 1


@pytest.mark.parametrize("name", ["average_drop", "increase", "average_gain", "adcc"])
def test_neighbours_cannot_fade(name):
    with pytest.raises(cam.MetricError, match="one of mean, black, blur, uniform, but is"):
        cam.metric(name, baseline="neighbours")


def test_aopc_and_srg_by_hand():
    """p is 1, 0.5, 0.2, 0, 0 with the most important first, 1, 1, 0.8, 0.5, 0 with the least."""
    options = {"steps": 4, "baseline": 0.0}
    values = {
        name: cam.metric(name, **options)(FOUR, WHITE, PERFECT, 0).item()
        for name in ("aopc_morf", "aopc_lerf", "srg")
    }
    most, least = np.array([1, 0.5, 0.2, 0, 0]), np.array([1, 1, 0.8, 0.5, 0])
    assert values["aopc_morf"] == pytest.approx((1 - most).mean(), abs=1e-6)
    assert values["aopc_lerf"] == pytest.approx((1 - least).mean(), abs=1e-6)
    areas = [np.trapezoid(curve) / 4 for curve in (least, most)]
    assert values["srg"] == pytest.approx(areas[0] - areas[1], abs=1e-6)


def test_monotonicity_by_hand():
    """The least important first p is 0, 0, 0.2, 0.5, 1; of the other class 1, 1, 0.8, 0.5, 0."""
    metric = cam.metric("monotonicity", steps=4)
    assert metric(FOUR, WHITE, PERFECT, 0).item() == 1
    assert metric(FOUR, WHITE, PERFECT, 1).item() == 0
