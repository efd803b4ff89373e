"""Guided and blur IG against PAIR's saliency, by hand, and their axioms."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from saliency.core.blur_ig import BlurIG
from saliency.core.guided_ig import GuidedIG
from scipy import ndimage
from torch import nn

import cam
from cam._methods.gradients.path_gradients import blur

GUIDED, BLUR = "guided_integrated_gradients", "blur_integrated_gradients"
NAMES = [GUIDED, BLUR]


def small(kink: type[nn.Module] = nn.ReLU) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        kink(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 9, 11, generator=torch.Generator().manual_seed(5))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def called(network: nn.Module, target: int):
    """The network as PAIR's package calls it, with the channels last."""

    def call(pictures, call_model_args=None, expected_keys=None):
        leaf = torch.from_numpy(np.asarray(pictures, dtype=np.float64)).movedim(-1, 1)
        leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf)[:, target].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: gradient.movedim(1, -1).numpy()}

    return call


@pytest.fixture
def quantile(monkeypatch):
    """PAIR's package calls numpy's quantile by a parameter's former name."""
    real = np.quantile
    monkeypatch.setattr(
        np, "quantile", lambda a, q, interpolation: real(a, q, method=interpolation)
    )


def pairs(peer, network, batch, targets, **options) -> torch.Tensor:
    actual = [
        peer.GetMask(picture.movedim(0, -1).numpy(), called(network, target), **options)
        for picture, target in zip(batch, targets, strict=True)
    ]
    return torch.from_numpy(np.stack(actual)).sum(-1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 20, "fraction": 0.1, "distance": 0.1},
        {"steps": 7, "fraction": 1.0, "distance": 1.0},
        {"steps": 5, "fraction": 0.7, "distance": 0.0},
        {"steps": 9, "fraction": 0.001, "distance": 0.3, "baseline": -0.4},
    ],
    ids=str,
)
def test_guided_is_pairs(options, quantile):
    network, batch, targets = small().double(), pictures(2).double(), [0, 3]
    batch[0, :, 4, 4] = options.get("baseline", 0)  # values that have no way to go
    attribution = cam.attribute(network, batch, cam.method(GUIDED, **options), targets)[GUIDED]
    expected = pairs(
        GuidedIG(),
        network,
        batch,
        targets,
        x_steps=options.get("steps", 200),
        fraction=options.get("fraction", 0.25),
        max_dist=options.get("distance", 0.02),
        x_baseline=np.full((9, 11, 3), options.get("baseline", 0.0)),
    )
    assert error(attribution.raw.double(), expected) <= 1e-6


@pytest.mark.parametrize(
    "options", [{"steps": 9, "sigma": 3.0}, {"steps": 4, "sigma": 30}], ids=str
)
def test_blur_is_pairs(options):
    network, batch, targets = small().double(), pictures(2).double(), [0, 3]
    attribution = cam.attribute(network, batch, cam.method(BLUR, **options), targets)[BLUR]
    expected = pairs(
        BlurIG(), network, batch, targets, max_sigma=options["sigma"], steps=options["steps"]
    )
    assert error(attribution.raw.double(), expected) <= 1e-6


@pytest.fixture(scope="module")
def exact(bundled) -> nn.Module:
    """The bundled network in double precision: its kinks would magnify the rounding of singles."""
    return deepcopy(bundled.module).double()


@pytest.mark.slow
def test_both_are_pairs_on_photos(exact, batch, quantile):
    targets, batch = [281, 7], batch[:2, :, 64:128, 64:128].double()
    methods = [cam.method(GUIDED, steps=4, distance=0.2), cam.method(BLUR, steps=3, sigma=8.0)]
    attributions = cam.attribute(exact, batch, methods, targets)
    expected = pairs(GuidedIG(), exact, batch, targets, x_steps=4, max_dist=0.2)
    assert error(attributions[GUIDED].raw.double(), expected) <= 1e-4
    expected = pairs(BlurIG(), exact, batch, targets, steps=3, max_sigma=8)
    assert error(attributions[BLUR].raw.double(), expected) <= 1e-4


@pytest.mark.parametrize("sigma", [0, 0.01, 0.3, 1.0, 2.7, 40])
def test_blur_is_scipys(sigma):
    picture = pictures(1)[0].double()
    expected = ndimage.gaussian_filter(picture.numpy(), [0, sigma, sigma], mode="constant")
    assert np.allclose(blur(picture, sigma), expected, atol=1e-12)


class Product(nn.Module):
    """Scores of 1 × 1 × 2 pixels (a, b): a b³ and 2a - b."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.flatten(1).unbind(1)
        return torch.stack([a * b**3, 2 * a - b], 1)


def test_guided_by_hand():
    """2a - b at (1, 2), a distance of 3, in 3 steps: b is the flatter, so it goes first.

    Whatever the way, the linear score gives a 2 and b -2. For a b³ the path decides: at (0, 0)
    no gradient, and a tie lets both move, by a third of their ways: (1/3, 2/3), for nothing. There
    the gradient is (8/27, 3·4/27 = 12/27), so a goes first, by 2/3 to 1, and as that does not
    suffice b goes by 1/3 to 1: they add 2/3·8/27 and 1/3·12/27. There it is (1, 3); a has arrived,
    and b goes by 1, which adds 3.
    """
    picture = torch.tensor([1.0, 2]).reshape(1, 1, 1, 2).double()
    method = cam.method(GUIDED, steps=3, fraction=0.5, distance=1.0)
    attribution = cam.attribute(Product().eval(), picture, method, targets=1)[GUIDED]
    assert torch.allclose(attribution.raw, torch.tensor([[[2.0, -2]]]))
    attribution = cam.attribute(Product().eval(), picture, method, targets=0)[GUIDED]
    assert torch.allclose(attribution.raw, torch.tensor([[[16 / 81, 12 / 81 + 3]]]))


def test_a_corridor_without_width_is_the_straight_way():
    network, batch = small(nn.Tanh).double(), pictures(2).double()
    method = cam.method(GUIDED, steps=300, distance=0.0)
    guided = cam.attribute(network, batch, method, targets=1)[GUIDED]
    straight = cam.attribute(network, batch, "integrated_gradients", targets=1)
    assert error(guided.raw, straight["integrated_gradients"].raw) <= 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_map_adds_up_to_the_difference_of_the_scores(name):
    network, batch = small(nn.Tanh).double(), 3 * pictures().double()
    steps, options = (800, {"sigma": 4.0}) if name == BLUR else (400, {"baseline": 0.2})
    attribution = cam.attribute(
        network, batch, cam.method(name, steps=steps, **options), targets=2
    )[name]
    start = blur(batch, 4.0) if name == BLUR else torch.full_like(batch, 0.2)
    with torch.no_grad():
        expected = (network(batch) - network(start))[:, 2]
    assert expected.abs().min() > 0.01
    # A blur's kernel is cut off, and each pixel by which it grows is a jump on the way.
    sums = attribution.raw.sum((1, 2)).double()
    assert torch.allclose(sums, expected, rtol=0.02 if name == BLUR else 0.01)
    off = (sums - expected).abs() > 0.01 * expected.abs()
    assert [image for image, _ in attribution.remarks] == off.nonzero()[:, 0].tolist()
    coarse = cam.attribute(network, batch, cam.method(name, steps=1, **options), targets=2)[name]
    off = (coarse.raw.sum((1, 2)) - expected).abs() > 0.01 * expected.abs()
    assert off.any() and [image for image, _ in coarse.remarks] == off.nonzero()[:, 0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone(name):
    network, batch = small(), pictures()
    method = cam.method(name, steps=6)
    together = cam.attribute(network, batch, method, [2, 0, 1], batch_size=2)[name]
    for image, target in enumerate([2, 0, 1]):
        alone = cam.attribute(network, batch[image : image + 1], method, target)[name]
        assert error(together.raw[image : image + 1], alone.raw) <= 1e-4
    batch[1, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 1 is NaN"):
        attribution = cam.attribute(network, batch, method, [2, 0, 1])[name]
    assert attribution.raw[1].isnan().all()
    assert error(attribution.raw[[0, 2]], together.raw[[0, 2]]) <= 1e-4


def test_a_picture_that_is_the_baseline_gets_nothing():
    batch = pictures(2)
    batch[0] = 0
    attribution = cam.attribute(small(), batch, cam.method(GUIDED, steps=3), targets=0)[GUIDED]
    assert attribution.raw[0].abs().max() == 0 and attribution.raw[1].abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_other_precisions_and_frozen_models(name):
    network, batch = small().requires_grad_(False), pictures(2)
    method = cam.method(name, steps=8)
    single = cam.attribute(network, batch, method, targets=1)[name]
    double = cam.attribute(network.double(), batch.double(), method, lambda y: y[1])[name]
    assert double.raw.dtype == torch.float32 and error(single.raw, double.raw) <= 1e-3
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), method, targets=1)[name]
    assert error(half.raw, double.raw) <= 0.2


@pytest.mark.parametrize("name", NAMES)
def test_cost_progress_and_cancelling(name):
    reports: list[cam.Progress] = []
    method = cam.method(name, steps=4)
    attribution = cam.attribute(
        small(), pictures(2), method, batch_size=8, progress=reports.append
    )[name]
    # All images share a step's batch on guided ways, all steps of an image one through blur.
    backwards = 4 if name == GUIDED else 2
    assert (attribution.cost.forwards, attribution.cost.backwards) == (backwards + 2, backwards)
    assert reports[-1].done == reports[-1].total == 10
    with pytest.raises(cam.Cancelled, match=name):
        cam.attribute(small(), pictures(2), method, batch_size=2, progress=lambda p: p.done < 4)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (GUIDED, {"steps": 0}),
        (GUIDED, {"fraction": 0}),
        (GUIDED, {"fraction": 1.5}),
        (GUIDED, {"distance": -0.1}),
        (GUIDED, {"baseline": "black"}),
        (BLUR, {"steps": True}),
        (BLUR, {"sigma": 0}),
        (BLUR, {"sigma": float("inf")}),
        (BLUR, {"sigma": 1e30}),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(name, wrong):
    [parameter] = wrong
    with pytest.raises(cam.MethodError, match=f"^{name}' {parameter} must be"):
        cam.attribute(small(), pictures(1), cam.method(name, **wrong))
