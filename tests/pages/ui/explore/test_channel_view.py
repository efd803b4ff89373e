"""Test what is claimed of channels: sum, order and part."""

import pytest
import torch
from torch import nn

import cam
from cam.pages.ui.explore.channel_view import MOST, find_bias, rank_channels, scale_region
from tests.support.networks import Curved, Layered, pictures


class TwoHeads(Layered):
    """A second head of the same shape stands behind the classifier, and is not asked."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.Sequential(*list(self)[:-1])(x)


class Scaled(Layered):
    """What the classifier gives is halved: its bias is not what is left."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 2


class Convolved(nn.Sequential):
    """The classifier is a convolution, as SqueezeNet's."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            *list(Layered())[:4], nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 5, 1), nn.Flatten()
        )


def read_bias(module: nn.Module, layer: str, target: int = 2) -> tuple[float | None, float]:
    """Return what is claimed, and what is left of the score in float64."""
    module = module.eval()
    steps = cam.anatomy(module, pictures()[:1], target, layer)
    double = steps.gradients.double() * steps.activations.double()
    return find_bias(cam.Model(module), steps, target), float(steps.scores[0]) - float(double.sum())


@pytest.mark.parametrize("network", [Layered, TwoHeads, Convolved])
def test_the_bias_is_the_classifiers(network):
    claimed, rest = read_bias(network(), "3")
    assert claimed == pytest.approx(rest, abs=1e-5) and claimed != 0


def test_without_a_bias_nothing_is_left():
    module = Layered()
    module[-1].bias = None
    assert read_bias(module, "3")[0] == 0


@pytest.mark.parametrize(
    ("network", "layer"),
    [(Layered, "1"), (Scaled, "3"), (Curved, "0")],
    ids=["an earlier layer", "scaled logits", "not linear"],
)
def test_nothing_is_claimed_where_more_than_the_bias_is_left(network, layer):
    assert read_bias(network(), layer)[0] is None


def test_a_similar_last_layer_is_not_taken_for_the_classifier():
    """Biases are small beside a score of hundreds: it may not be the size that tells."""
    module = TwoHeads()
    with torch.no_grad():
        module[-2].weight *= 1000
        module.auxiliary.bias.copy_(module[-2].bias + 0.01)
    claimed, _ = read_bias(module, "3")
    assert claimed is None or claimed == pytest.approx(module[-2].bias[2].item())


def test_orders():
    values, weights = torch.tensor([3.0, -1, 0, 5, -4]), torch.tensor([1.0, -9, 2, 3, 0])
    assert rank_channels(values, weights, "for") == [3, 0]
    assert rank_channels(values, weights, "against") == [4, 1]
    assert rank_channels(values, weights, "weight") == [1, 3, 2, 0, 4]
    assert rank_channels(-torch.ones(5), weights, "for") == []
    assert len(rank_channels(torch.ones(99), torch.ones(99), "for")) == MOST


def test_a_region_is_scaled_by_area():
    steps = cam.anatomy(Layered(), torch.randn(1, 3, 8, 8), 0, "3")
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:2, :3] = True
    region = scale_region(mask.numpy(), steps)
    # A place of the layer is two by two samples of the mask.
    assert region.shape == (8, 8) and float(region.sum()) == 1.5
    assert region[0, 0] == 1 and region[0, 1] == 0.5
