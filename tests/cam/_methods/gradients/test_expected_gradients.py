"""Expected gradients and GradientSHAP against captum, and by hand."""

import numpy as np
import pytest
import torch
from captum.attr import GradientShap
from torch import nn

import cam
from cam._methods.base.background import take_background
from cam._methods.gradients.expected_gradients import draw_samples

NAME = "expected_gradients"


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


def pictures(count: int = 3, seed: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, 9, 11, generator=torch.Generator().manual_seed(seed))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("name", ["expected_gradients", "gradientshap"])
@pytest.mark.parametrize("with_references", [True, False], ids=["references", "stand-ins"])
def test_it_is_captums_for_the_same_draws(with_references, name, monkeypatch):
    network, batch, samples = small().double(), pictures(2).double(), 7
    references = pictures(3, seed=9).double() if with_references else None
    noise = {"noise": 0.05} if name == "gradientshap" else {}
    method = cam.method(name, samples=samples, references=references, seed=3, **noise)
    attribution = cam.attribute(network, batch, method, targets=[2, 0], batch_size=4)[name]
    for image, target in enumerate([2, 0]):
        others = take_background(references, batch[image])
        which, shares = draw_samples(samples, len(others), 3)
        monkeypatch.setattr(np.random, "choice", lambda *a, w=which, **k: w.numpy())
        monkeypatch.setattr(np.random, "uniform", lambda *a, s=shares, **k: s.numpy())
        picture, generator = batch[image], torch.Generator().manual_seed(3)
        drawn = [torch.randn(picture.shape, generator=generator) for _ in range(samples)]
        # Captum draws the noise of all copies from torch's global generator.
        monkeypatch.setattr(
            torch, "normal", lambda mean, std, d=drawn, **k: mean + std * torch.stack(d)
        )
        peer = GradientShap(network)
        expected = peer.attribute(
            batch[image : image + 1],
            others,
            n_samples=samples,
            stdevs=float(noise.get("noise", 0) * (picture.max() - picture.min())),
            target=target,
        )
        monkeypatch.undo()
        assert error(attribution.raw[image : image + 1].double(), expected.sum(1)) <= 1e-6


def test_a_linear_score_by_hand():
    """Σ w x: whatever α, w ⊙ (x - mean of the references), as each is taken once."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2, bias=False)).eval()
    batch, references = torch.randn(2, 3, 2, 2), torch.randn(4, 3, 2, 2)
    method = cam.method(NAME, samples=4, references=references)
    attribution = cam.attribute(network, batch, method, targets=1)[NAME]
    weight = network[1].weight.detach()[1].view(3, 2, 2)
    assert torch.allclose(
        attribution.raw, (weight * (batch - references.mean(0))).sum(1), atol=1e-6
    )


def test_the_map_adds_up_to_what_the_score_is_above_the_references():
    network, batch = small(nn.Tanh).double(), 3 * pictures(2).double()
    references = pictures(5, seed=9).double()
    batch[..., 2:7, 3:8] += 6
    method = cam.method(NAME, samples=1500, references=references, steady=1)
    attribution = cam.attribute(network, batch, method, targets=2)[NAME]
    for image in range(2):
        with torch.no_grad():
            expected = network(batch[image : image + 1])[0, 2] - network(references)[:, 2].mean()
        assert abs(expected) > 0.015
        assert abs(attribution.raw[image].sum() - expected) <= 0.04 * abs(expected)


def test_what_is_drawn_is_spread_evenly():
    which, shares = draw_samples(100, 7, seed=1)
    counts = which.bincount(minlength=7)
    assert counts.min() >= 14 and counts.max() <= 15
    assert (shares * 100).floor().sort().values.tolist() == list(range(100))
    assert torch.corrcoef(torch.stack([which.double(), shares])).abs()[0, 1] < 0.3
    again, other = draw_samples(100, 7, seed=1), draw_samples(100, 7, seed=2)
    assert torch.equal(again[1], shares) and not torch.equal(other[1], shares)


def test_photos_stand_in_for_references_and_the_notes_say_so(batch):
    photo = batch[0].double()
    others = take_background(None, photo)
    assert len(others) == len(cam.samples()) - 1, "the explained photo is not compared with itself"
    assert torch.allclose(others.mean((2, 3)), photo.mean((1, 2)).expand(3, 3), atol=1e-5)
    assert torch.allclose(others.std((2, 3)), photo.std((1, 2)).expand(3, 3), atol=1e-5)
    assert take_background(None, torch.rand(1, 8, 9)).shape == (4, 1, 8, 9)
    method = cam.method(NAME, samples=3)
    maps = cam.attribute(small(), pictures(2), method, targets=1)[NAME]
    assert sum("had no references" in sentence for _, sentence in maps.notes()) == 2
    method = cam.method(NAME, samples=3, references=pictures(2, seed=1))
    maps = cam.attribute(small(), pictures(2), method, targets=1)[NAME]
    assert not any("had no references" in sentence for _, sentence in maps.notes())


def test_an_image_has_the_same_bits_alone_and_in_a_batch_and_nan_stays_alone():
    network, batch = small(), pictures()
    state = torch.get_rng_state()
    together = cam.attribute(network, batch, cam.method(NAME, samples=6), targets=1)[NAME]
    assert torch.equal(torch.get_rng_state(), state)
    for image in range(3):
        single = batch[image : image + 1]
        alone = cam.attribute(network, single, cam.method(NAME, samples=6), targets=1)[NAME]
        assert torch.equal(together.raw[image], alone.raw[0])
    other = cam.attribute(network, batch, cam.method(NAME, samples=6, seed=1), targets=1)[NAME]
    assert error(other.raw, together.raw) > 1e-3
    batch[1, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 1 is NaN"):
        attribution = cam.attribute(network, batch, cam.method(NAME, samples=6), targets=1)[NAME]
    assert attribution.raw[1].isnan().all() and torch.equal(
        attribution.raw[[0, 2]], together.raw[[0, 2]]
    )


def test_other_precisions_and_the_size_of_batches():
    network, batch = small().requires_grad_(False), pictures(2)
    method = cam.method(NAME, samples=7)
    single = cam.attribute(network, batch, method, targets=1)[NAME]
    assert (single.cost.forwards, single.cost.backwards) == (3, 2)
    parts = cam.attribute(network, batch, method, targets=1, batch_size=2)[NAME]
    assert error(parts.raw, single.raw) <= 1e-5
    double = cam.attribute(network.double(), batch.double(), method, lambda y: y[1])[NAME]
    assert error(single.raw, double.raw) <= 1e-4
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), method, targets=1)[NAME]
    assert error(half.raw, double.raw) <= 0.1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"samples": 0}, "samples must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 2**63}, "seed must be a whole number of at least 0 and below"),
        ({"references": [1]}, "references must be a tensor of images"),
        ({"references": torch.zeros(2, 3, 9, 9)}, r"must have the shape \(R, 3, 9, 11\)"),
        ({"references": torch.zeros(0, 3, 9, 11)}, "R of at least 1"),
        ({"references": torch.zeros(1, 3, 9, 11, dtype=torch.uint8)}, "must be floats on cpu"),
        ({"references": torch.full((1, 3, 9, 11), torch.nan)}, "must be finite"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong, sentence):
    with pytest.raises(cam.MethodError, match=f"^expected_gradients' .*{sentence}"):
        cam.attribute(small(), pictures(1), cam.method(NAME, **wrong))
