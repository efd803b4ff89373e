"""Expected gradients against captum with the same draws, and by hand."""

import numpy as np
import pytest
import torch
from captum.attr import GradientShap
from torch import nn

import cam
from cam._methods.gradients.expected_gradients import draw_clouds, draw_samples

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


@pytest.mark.parametrize("with_references", [True, False], ids=["references", "clouds"])
def test_it_is_captums_for_the_same_draws(with_references, monkeypatch):
    network, batch, samples = small().double(), pictures(2).double(), 7
    references = pictures(3, seed=9).double() if with_references else None
    method = cam.method(NAME, samples=samples, references=references, seed=3)
    attribution = cam.attribute(network, batch, method, targets=[2, 0], batch_size=4)[NAME]
    which, shares = draw_samples(samples, 3 if with_references else 0, 3)
    for image, target in enumerate([2, 0]):
        others = (
            references if with_references else draw_clouds(batch[image], list(range(samples)), 3)
        )
        monkeypatch.setattr(np.random, "choice", lambda *a, **k: which.numpy())
        monkeypatch.setattr(np.random, "uniform", lambda *a, **k: shares.numpy())
        peer = GradientShap(network)
        expected = peer.attribute(
            batch[image : image + 1], others, n_samples=samples, stdevs=0.0, target=target
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


@pytest.mark.parametrize("with_references", [True, False], ids=["references", "clouds"])
def test_the_map_adds_up_to_what_the_score_is_above_the_references(with_references):
    network, batch, samples = small(nn.Tanh).double(), 3 * pictures(2).double(), 1500
    references = pictures(5, seed=9).double() if with_references else None
    batch[..., 2:7, 3:8] += 6  # what no cloud has
    method = cam.method(NAME, samples=samples, references=references)
    attribution = cam.attribute(network, batch, method, targets=2)[NAME]
    for image in range(2):
        others = (
            references if with_references else draw_clouds(batch[image], list(range(samples)), 0)
        )
        with torch.no_grad():
            expected = network(batch[image : image + 1])[0, 2] - network(others)[:, 2].mean()
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


def test_clouds_have_the_pictures_spectrum_and_nothing_of_its_shape(batch):
    photo = batch[0].double()
    drawn = draw_clouds(photo, [0, 1], seed=0)
    # But for what leaves the range of the picture's values.
    assert torch.allclose(drawn.mean((2, 3)), photo.mean((1, 2)).expand(2, 3), atol=0.03)
    amplitude = torch.fft.rfft2(photo).abs()
    for cloud in drawn:
        assert (torch.fft.rfft2(cloud).abs() - amplitude).norm() <= 0.1 * amplitude.norm()
        centred = photo.mean((1, 2), keepdim=True)
        together = torch.stack([(cloud - centred).flatten(), (photo - centred).flatten()])
        assert torch.corrcoef(together)[0, 1].abs() < 0.35
    assert not torch.allclose(drawn[0], drawn[1], atol=0.1)
    assert drawn.amax() <= photo.amax() and drawn.amin() >= photo.amin()
    assert not torch.equal(draw_clouds(photo, [0], seed=1)[0], drawn[0])


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
        ({"references": [1]}, "references must be a tensor of pictures"),
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
