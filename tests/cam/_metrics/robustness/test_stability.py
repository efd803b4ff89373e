"""Robustness: by hand, at its bounds, against peers."""

import copy

import pytest
import torch
from captum.metrics import sensitivity_max
from scipy import stats
from torch import nn

import cam
from cam._metrics.base.map_ranking import rank_agreement
from tests.support.maps import attribution_of
from tests.support.networks import Layered, Pixel, Still


@pytest.fixture
def network() -> Layered:
    return Layered()


@pytest.fixture
def pictures() -> torch.Tensor:
    rough = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(rough, (20, 16), mode="bilinear")


OPTIONS = {"method": "layercam", "layers": "3"}


def explain(network, pictures, targets=None) -> torch.Tensor:
    return cam.attribute(network, pictures, "layercam", targets, layers="3")["layercam"].signed


def recording(network) -> list:
    """Every batch that goes into the network from now on."""
    batches = []
    network[0].register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].clone()))
    return batches


def test_max_sensitivity_is_captums(network, pictures):
    maps, targets = explain(network, pictures, [1, 3]), torch.tensor([1, 3])
    spy = copy.deepcopy(network)
    batches = recording(spy)
    metric = cam.metric("max_sensitivity", radius=0.1, samples=4)
    actual = metric(spy, pictures, attribution_of(maps), targets, batch_size=64, **OPTIONS)
    tried = batches[1].view(2, 4, 3, 20, 16)
    change = tried - pictures[:, None]
    assert 0.099 < change.abs().max() <= 0.1 + 1e-6
    assert change.mean().abs() < 0.01 and not torch.equal(tried[:, 0], tried[:, 1])
    expected = sensitivity_max(
        lambda x, target: (explain(network, x[0] if isinstance(x, tuple) else x, target),),
        pictures,
        lambda x, radius: tried.flatten(0, 1),
        perturb_radius=0.1,
        n_perturb_samples=4,
        target=targets,
    )
    assert actual.min() > 0.001
    assert torch.allclose(actual, expected, rtol=1e-4)


def test_what_does_not_depend_on_the_picture_has_no_sensitivity(network, pictures):
    """RandomCAM would: the map here is the same whatever the picture, a Gaussian in the middle."""
    still = Still().eval()
    maps = cam.attribute(still, pictures, "eigencam", 0, layers="layer")["eigencam"].signed
    options = {"method": "eigencam", "layers": "layer"}
    assert (
        cam.metric("max_sensitivity")(still, pictures, attribution_of(maps), 0, **options).max()
        == 0
    )
    noise = cam.metric("stability_noise")(still, pictures, attribution_of(maps), 0, **options)
    assert torch.allclose(noise, torch.ones(2))
    # But it does not go along with the picture.
    shift = cam.metric("stability_shift", pixels=4)(
        still, pictures, attribution_of(maps), 0, **options
    )
    assert shift.max() < 0.9


def test_a_map_that_goes_along_is_stable(pictures):
    pixel, options = Pixel().eval(), {"method": "eigencam", "layers": "layer"}
    positive = pictures.sigmoid()
    maps = cam.attribute(pixel, positive, "eigencam", 0, layers="layer")["eigencam"].signed
    flip = cam.metric("stability_flip")(pixel, positive, attribution_of(maps), 0, **options)
    assert torch.allclose(flip, torch.ones(2), atol=1e-6)
    shift = cam.metric("stability_shift", pixels=3)(
        pixel, positive, attribution_of(maps), 0, **options
    )
    # EigenCAM cuts at the mean of the picture, which the mirrored edge changes a little.
    assert shift.min() > 0.95
    assert (
        cam.metric("stability_flip")(pixel, positive, attribution_of(1 - maps), 0, **options).max()
        < -0.8
    )


def test_stability_by_its_definition(network, pictures):
    """Each changed picture explained alone, and compared by scipy."""
    maps, targets = explain(network, pictures, [1, 3]), [1, 3]

    def correlation(a, b) -> float:
        return stats.spearmanr(a.flatten().numpy(), b.flatten().numpy()).statistic

    flipped = explain(network, pictures.flip(3), targets).flip(2)
    actual = cam.metric("stability_flip")(
        network, pictures, attribution_of(maps), targets, **OPTIONS
    )
    for correlation_value, a, b in zip(actual.tolist(), flipped, maps, strict=True):
        assert correlation_value == pytest.approx(correlation(a, b), abs=1e-4)
    wide = nn.functional.pad(pictures, (3, 3, 3, 3), mode="reflect")
    actual = cam.metric("stability_shift", pixels=3)(
        network, pictures, attribution_of(maps), targets, **OPTIONS
    )
    left = explain(network, wide[:, :, 3:23, 0:16], targets)  # what was at x is at x + 3
    right = explain(network, wide[:, :, 3:23, 6:22], targets)
    up = explain(network, wide[:, :, 0:20, 3:19], targets)
    down = explain(network, wide[:, :, 6:26, 3:19], targets)
    for image in range(2):
        m = maps[image]
        expected = [
            correlation(left[image][:, 3:], m[:, :-3]),
            correlation(right[image][:, :-3], m[:, 3:]),
            correlation(up[image][3:], m[:-3]),
            correlation(down[image][:-3], m[3:]),
        ]
        assert actual[image].item() == pytest.approx(sum(expected) / 4, abs=1e-4)


def test_stability_under_noise_of_that_size(network, pictures):
    maps, spy = explain(network, pictures, [1, 3]), copy.deepcopy(network)
    batches = recording(spy)
    metric = cam.metric("stability_noise", noise=0.2, samples=3)
    actual = metric(spy, pictures, attribution_of(maps), [1, 3], batch_size=64, **OPTIONS)
    noisy = batches[1].view(2, 3, 3, 20, 16)
    for image in range(2):
        spread = pictures[image].max() - pictures[image].min()
        change = (noisy[image] - pictures[image]) / spread
        assert change.std().item() == pytest.approx(0.2, rel=0.05)
        again = explain(network, noisy[image], [1, 3][image])
        values = [
            stats.spearmanr(again_map.flatten().numpy(), maps[image].flatten().numpy()).statistic
            for again_map in again
        ]
        assert actual[image].item() == pytest.approx(sum(values) / 3, abs=1e-4)


@pytest.mark.parametrize(
    "name", ["stability_flip", "stability_noise", "randomisation", "efficient_randomisation"]
)
def test_a_heatmap_without_an_order_has_a_reason(name, network, pictures):
    scores = cam.metric(name).measure(
        network, pictures, attribution_of(torch.zeros(2, 20, 16)), **OPTIONS
    )
    assert scores.values.isnan().all()
    assert all("the same everywhere" in reason for reason in scores.reasons)


def test_another_map_that_is_the_same_everywhere_agrees_in_nothing():
    reference = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    maps = reference.clone()
    maps[1], maps[2, 0, 0] = 0.3, torch.nan
    assert torch.allclose(
        rank_agreement(maps, reference), torch.tensor([1, 0, torch.nan]).double(), equal_nan=True
    )
