"""Maps must change when what the network learned is taken away.

Source: Adebayo et al. 2018. Guided backpropagation's hardly do: it restores the picture, whatever
the class and the weights of the upper half. That finding is reproduced here on the bundled model.
"""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import cam

UPPER_HALF = ("blocks.5", "blocks.6", "conv_head", "classifier")
EGYPTIAN_CAT = 285
# Fewer passes than usual: what is asked is far above their noise.
SMALLER = {
    "smoothgrad": {"samples": 4},
    "integrated_gradients": {"steps": 6},
    "occlusion": {"window": 64, "stride": 32},
}
# Without RISE: with the few masks that a test can afford, both maps show the masks themselves.
CHANGES = [
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "deeplift",
    "lrp",
    "gradcam",
    "gradcam_plus_plus",
    "layercam",
    "hirescam",
    "eigencam",
    "fullgrad",
    "shapleycam",
    "finercam",
    "occlusion",
]


@pytest.fixture(scope="module")
def photo(bundled) -> torch.Tensor:
    return bundled.prepare(cam.sample("chelsea"))


@pytest.fixture(scope="module")
def randomised(bundled) -> nn.Module:
    """The upper half as it was before training."""
    network = copy.deepcopy(bundled.module)
    torch.manual_seed(0)
    for name, child in network.named_modules():
        if name.startswith(UPPER_HALF) and isinstance(child, nn.Conv2d | nn.Linear):
            child.reset_parameters()
    return network


def alike(name: str, bundled: cam.Model, randomised: nn.Module, photo: torch.Tensor) -> float:
    """Spearman correlation of a method's maps before and after."""
    method = cam.method(name, **SMALLER.get(name, {}))
    maps = [
        cam.attribute(network, photo, method, EGYPTIAN_CAT, "bn2")[name].heatmap.flatten()
        for network in (bundled.module, randomised)
    ]
    return float(spearmanr(*maps)[0])


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_learned_matters(name, bundled, randomised, photo):
    likeness = alike(name, bundled, randomised, photo)
    # A map of zeros, where all evidence is against the class now, is no likeness either.
    assert not likeness > 0.7, name


def test_guided_backpropagation_hardly_notices(bundled, randomised, photo):
    guided = alike("guided_backprop", bundled, randomised, photo)
    plain = alike("saliency", bundled, randomised, photo)
    assert guided > 0.9
    assert plain < 0.5


def test_random_weights_of_channels_do_not_ask_for_the_class(bundled, photo):
    """randomcam is the floor: it knows the feature maps and nothing of the score."""
    first, second = (
        cam.attribute(bundled, photo, "randomcam", target)["randomcam"].raw
        for target in (EGYPTIAN_CAT, 7)
    )
    assert torch.equal(first, second)
