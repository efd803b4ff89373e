"""Agreement with exact attributions: against scipy, by hand, and what is refused."""

import copy
import re

import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

import cam
from tests.support.maps import attribution_of

BOTH = ("truth_correlation", "truth_mass")


@pytest.fixture
def model() -> cam.Model:
    return cam.load_model("known/patch")


@pytest.fixture
def batch(model) -> torch.Tensor:
    return model.prepare([item.image for item in cam.dataset("known", network="patch", size=3)])


TARGETS = torch.tensor([0, 1, 0])


def exact(model, batch, targets=TARGETS) -> torch.Tensor:
    """Find the patterns in the picture without the network: full contrast for, less against."""
    contrast = batch[:, 0].abs()
    speaks_for = contrast > 0.95
    against = (contrast > 0.8) & ~speaks_for
    assert (speaks_for.sum((1, 2)) == 256).all() and (against.sum((1, 2)) == 256).all()
    # a = 1 for the clear pattern; for the other one (108/127 - 5/8) / (3/8).
    weaker = (108 / 127 - 5 / 8) / (3 / 8)
    return 6 * (speaks_for.double() - weaker * against.double()) / 256


def test_the_exact_values_follow_from_the_picture_alone(model, batch):
    assert torch.allclose(
        model.module.exact(batch, TARGETS).double(), exact(model, batch), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("polarity", ["signed", "positive", "absolute"])
def test_the_correlation_is_that_of_scipy(model, batch, polarity):
    maps = torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    maps += 200 * exact(model, batch).float()
    read = {"signed": lambda a: a, "positive": lambda a: a.clamp(min=0), "absolute": torch.abs}
    actual = cam.metric("truth_correlation", polarity=polarity)(model, batch, maps, TARGETS)
    for value, signed, truth in zip(actual, maps, exact(model, batch), strict=True):
        values, expected = (read[polarity](a).flatten().numpy() for a in (signed, truth))
        assert float(value) == pytest.approx(pearsonr(values, expected)[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["contribution", "evidence", "sensitivity"])
def test_the_right_map_scores_best_and_a_random_one_by_chance(model, batch, kind):
    truth = exact(model, batch).float()
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    right = attribution_of(truth, kind)
    for name, chance in (("truth_correlation", 0.0), ("truth_mass", 512 / 128**2)):
        metric = cam.metric(name)
        assert torch.allclose(metric(model, batch, right, TARGETS), torch.ones(3), atol=1e-6)
        random = metric(model, batch, attribution_of(noise, kind), TARGETS)
        assert torch.allclose(random, torch.full((3,), chance), atol=0.03)
    turned = cam.metric("truth_correlation")(model, batch, attribution_of(-truth, kind), TARGETS)
    assert torch.allclose(turned, torch.full((3,), 1.0 if kind == "sensitivity" else -1.0))


def test_maps_without_a_pattern_score_nothing(model, batch):
    maps = torch.stack([torch.zeros(128, 128), torch.ones(128, 128), torch.full((128, 128), 1e8)])
    assert torch.equal(cam.metric("truth_correlation")(model, batch, maps, TARGETS), torch.zeros(3))
    mass = cam.metric("truth_mass")(model, batch, maps, TARGETS)
    assert torch.allclose(mass, torch.tensor([0, 512 / 128**2, 512 / 128**2]))


def test_two_patterns_of_xor_are_refused_with_the_reason():
    model, data = cam.load_model("known/xor"), cam.dataset("known", network="xor", size=4)
    batch = model.prepare([item.image for item in data])
    maps = torch.rand(4, 128, 128, generator=torch.Generator().manual_seed(0))
    for name in BOTH:
        scores = cam.metric(name).measure(model, batch, maps, [item.target for item in data])
        assert scores.values[:3].isfinite().all() and scores.values[3].isnan()
        assert scores.reasons[3] == (
            "the exact attribution is 0 everywhere, so nothing can agree with it"
        )


def test_a_pattern_of_uneven_contrast_is_refused_with_the_reason(model, batch):
    """Its pixels bring different amounts, so what each adds depends on the order."""
    uneven = batch[1:2].clone()
    uneven[0] *= 0.8 + 0.2 * torch.rand(128, 128, generator=torch.Generator().manual_seed(0))
    mixed = torch.cat([batch[:1], uneven])
    maps = torch.rand(2, 128, 128)
    for name in BOTH:
        scores = cam.metric(name).measure(model, mixed, maps, 0)
        assert scores.values.isfinite().tolist() == [True, False]
        assert "cam.dataset('known', network='patch')" in (scores.reasons[1] or "")


@pytest.mark.parametrize("name", BOTH)
def test_refuses_other_networks_and_callables(name, model, batch):
    other = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    maps = torch.rand(3, 128, 128)
    with pytest.raises(cam.MetricError, match="'known/linear', 'known/additive', 'known/patch'"):
        cam.metric(name)(other, batch, maps, 0)
    with pytest.raises(cam.MetricError, match=re.escape("a callable was explained; take a class")):
        cam.metric(name)(model, batch, maps, cam.targets.Logit(0))


@pytest.mark.parametrize("name", BOTH)
def test_a_batch_is_its_images_and_the_network_comes_back_as_it_was(name, model, batch):
    before = copy.deepcopy(model.module.state_dict())
    maps = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))
    copies = batch.clone(), maps.clone()
    metric = cam.metric(name)
    whole = metric(model, batch, maps, TARGETS, batch_size=2)
    for index in range(3):
        part = slice(index, index + 1)
        alone = metric(model, batch[part], maps[part], TARGETS[part])
        assert torch.allclose(alone, whole[part], rtol=1e-6)
    assert torch.equal(batch, copies[0]) and torch.equal(maps, copies[1])
    assert all(torch.equal(before[key], value) for key, value in model.module.state_dict().items())


def test_exact_methods_are_right_on_a_linear_network_and_a_map_of_chance_is_not(tmp_path):
    """Through a run, as users do it."""
    run = cam.evaluate(
        cam.load_model("known/linear"),
        cam.dataset("known", network="linear", size=3),
        ["input_x_gradient", "integrated_gradients", "deeplift", "randomcam"],
        ["truth_correlation", "deletion"],
        out=tmp_path / "run",
    )
    means = run.leaderboard().set_index(["method", "metric"])["mean"]
    for name in ("input_x_gradient", "integrated_gradients", "deeplift"):
        assert means[name, "truth_correlation"] == pytest.approx(1, abs=1e-5)
    assert abs(means["randomcam", "truth_correlation"]) < 0.2
    # The data are opened again from the run alone.
    again = cam.Run.open(tmp_path / "run").call.data
    assert (again.source, again.options["network"]) == ("known", "linear")
