"""Integrated gradients: by hand, against captum, and what its axioms promise."""

from copy import deepcopy

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

import cam
import cam._methods.gradients.integrated_gradients

NAME = "integrated_gradients"


class Product(nn.Module):
    """Scores of 1 × 1 × 2 pixels (a, b): a b³ and 2a - b."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.flatten(1).unbind(1)
        return torch.stack([a * b**3, 2 * a - b], 1)


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


def test_by_hand():
    """At (2, 3) on the way from 0: a ∫ (αb)³ dα = a b³ / 4, and b ∫ 3 αa (αb)² dα = 3 a b³ / 4."""
    picture = torch.tensor([2.0, 3]).reshape(1, 1, 1, 2)
    # Two points integrate polynomials up to the third degree exactly.
    attribution = cam.attribute(Product(), picture, cam.method(NAME, steps=2), targets=0)[NAME]
    assert torch.allclose(attribution.raw, torch.tensor([[[13.5, 40.5]]]))
    assert attribution.heatmap.tolist() == [[[0, 1]]]
    # One point is the middle of the way.
    attribution = cam.attribute(Product(), picture, cam.method(NAME, steps=1), targets=0)[NAME]
    assert torch.allclose(attribution.raw, torch.tensor([[[2 * 1.5**3, 3 * 3 * 1.5**2]]]))


def test_a_linear_score_from_another_baseline_by_hand():
    picture = torch.tensor([2.0, 3]).reshape(1, 1, 1, 2)
    attribution = cam.attribute(Product(), picture, cam.method(NAME, baseline=-1), targets=1)[NAME]
    assert torch.allclose(attribution.raw, torch.tensor([[[6.0, -4]]]))
    # |6| and |-4|: the smaller of two becomes 0.
    assert attribution.heatmap.tolist() == [[[1, 0]]]


@pytest.fixture(scope="module")
def exact(bundled) -> nn.Module:
    """The bundled network in double precision: its kinks would magnify the rounding of singles."""
    return deepcopy(bundled.module).double()


@pytest.mark.parametrize("baseline", [0.0, -0.7])
def test_it_is_captums(exact, batch, baseline):
    targets, batch = [281, 7], batch[:2, :, 64:128, 64:128].double()
    method = cam.method(NAME, steps=3, baseline=baseline)
    attribution = cam.attribute(exact, batch, method, targets=targets)[NAME]
    peer = IntegratedGradients(exact)
    expected = peer.attribute(batch, baseline, target=targets, n_steps=3)
    expected = expected.detach().float().sum(1)
    assert error(attribution.raw, expected) <= 1e-4
    magnitude = expected.abs()
    low, high = magnitude.amin((1, 2), keepdim=True), magnitude.amax((1, 2), keepdim=True)
    assert error(attribution.heatmap, (magnitude - low) / (high - low)) <= 1e-4


def test_it_is_captums_with_all_steps():
    model, batch = small(), pictures()
    attribution = cam.attribute(model, batch, NAME, targets=[0, 3, 1])[NAME]
    expected = IntegratedGradients(model).attribute(batch, target=[0, 3, 1]).detach().sum(1)
    assert error(attribution.raw, expected.float()) <= 1e-4


@pytest.mark.parametrize("baseline", [0.0, 0.5])
@pytest.mark.parametrize(("kink", "steps"), [(nn.Tanh, 50), (nn.ReLU, 200)], ids=["smooth", "ReLU"])
def test_the_map_adds_up_to_the_difference_of_the_scores(baseline, kink, steps):
    model, batch = small(kink), 3 * pictures()
    method = cam.method(NAME, steps=steps, baseline=baseline)
    attribution = cam.attribute(model, batch, method, targets=2)[NAME]
    with torch.no_grad():
        expected = (model(batch) - model(torch.full_like(batch, baseline)))[:, 2]
    assert expected.abs().min() > 0.01
    assert torch.allclose(attribution.raw.sum((1, 2)), expected, rtol=0.01)


def test_a_map_that_does_not_add_up_is_told_in_its_notes():
    """Of (a, b) = (2, 3) the middle of the way gives 2·1.5³ + 3·3·1.5²·1 = 27; a b³ is 54."""
    batch = torch.tensor([[2.0, 3], [4, 3]]).reshape(2, 1, 1, 2)
    attribution = cam.attribute(Product(), batch, cam.method(NAME, steps=1), targets=[0, 1])[NAME]
    sums = attribution.raw.sum((1, 2)).tolist()
    [(image, sentence)] = attribution.notes()
    assert image == 0 and abs(sums[1] - 5) < 1e-6
    assert f"adds up to {sums[0]:.3g}, but the score is 54 above that of a blank" in sentence
    assert f"({(54 - sums[0]) / 54:.0%} off)" in sentence
    assert cam.attribute(Product(), batch, cam.method(NAME, steps=2), [0, 1])[NAME].notes() == []


def test_a_photo_whose_map_does_not_add_up(bundled, batch):
    """With few steps on a network of kinks; the remarks are checked in double precision."""
    small = batch[:, :, 64:128, 64:128]
    attribution = cam.attribute(bundled, small, cam.method(NAME, steps=4), targets=281)[NAME]
    with torch.no_grad():
        expected = (bundled.module(small) - bundled.module(torch.zeros_like(small)))[:, 281]
    off = (attribution.raw.sum((1, 2)) - expected).abs() > 0.01 * expected.abs()
    assert off.any()
    assert [image for image, _ in attribution.notes()] == off.nonzero()[:, 0].tolist()


def test_what_the_score_ignores_gets_nothing():
    """Sensitivity of the axioms: a pixel without influence, and one that is as in the baseline."""
    model, batch = small(), pictures(1)
    batch[..., 4, 4] = 0.25
    attribution = cam.attribute(model, batch, cam.method(NAME, steps=3, baseline=0.25), targets=0)[
        NAME
    ]
    assert attribution.raw[0, 4, 4] == 0
    # Without padding and with a stride of 2 the last column of 12 is never read.
    blind = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(80, 2))
    attribution = cam.attribute(blind.eval(), torch.randn(1, 3, 9, 12), NAME, targets=0)[NAME]
    assert attribution.raw[..., -1].abs().max() == 0 and attribution.raw[..., -2].abs().max() > 0


def test_an_image_has_the_same_bits_alone_and_in_a_batch():
    model, batch = small(), pictures()
    together = cam.attribute(model, batch, NAME, targets=1)[NAME]
    for image in range(3):
        alone = cam.attribute(model, batch[image : image + 1], NAME, targets=1)[NAME]
        assert torch.equal(together.raw[image], alone.raw[0])
        assert torch.equal(together.heatmap[image], alone.heatmap[0])


def test_the_size_of_batches_changes_cost_and_progress_only():
    model, batch = small(), pictures(2)
    whole = cam.attribute(model, batch, cam.method(NAME, steps=7), targets=[2, 0])[NAME]
    reports: list[cam.Progress] = []
    parts = cam.attribute(
        model, batch, cam.method(NAME, steps=7), [2, 0], batch_size=3, progress=reports.append
    )[NAME]
    assert error(parts.raw, whole.raw) <= 1e-5
    assert (whole.cost.forwards, whole.cost.backwards) == (4, 2)
    assert (parts.cost.forwards, parts.cost.backwards) == (8, 6)
    # The last two are the blank pictures, which tell how well the map adds up.
    # Twice where a map so far comes with it.
    assert list(dict.fromkeys(report.done for report in reports)) == [0, 3, 6, 7, 10, 13, 14, 16]
    assert {report.total for report in reports} == {16}


def test_callable_targets_double_precision_and_frozen_models():
    model, batch = small().double().requires_grad_(False), pictures(2).double()
    by_index = cam.attribute(model, batch, NAME, targets=[1, 3])[NAME]
    by_callable = cam.attribute(model, batch, NAME, [lambda row: row[1], lambda row: row[3]])[NAME]
    assert torch.equal(by_index.raw, by_callable.raw)
    single = cam.attribute(model.float(), batch.float(), NAME, targets=[1, 3])[NAME]
    assert error(single.raw, by_index.raw) <= 1e-4
    half = cam.attribute(model.bfloat16(), batch.bfloat16(), NAME, targets=[1, 3])[NAME]
    assert error(half.raw, by_index.raw) <= 0.1


def test_a_picture_that_is_not_finite_spoils_no_other():
    model, batch = small(), pictures(2)
    sound = cam.attribute(model, batch, NAME, targets=1)[NAME]
    batch[0, 0, 0, 0] = torch.inf
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(model, batch, NAME, targets=1)[NAME]
    assert attribution.raw[0].isnan().all() and torch.equal(attribution.raw[1], sound.raw[1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"steps": True},
        {"baseline": None},
        {"baseline": False},
        {"baseline": float("nan")},
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong):
    [parameter] = wrong
    with pytest.raises(cam.MethodError, match=f"^integrated_gradients' {parameter} must be"):
        cam.attribute(small(), pictures(1), cam.method(NAME, **wrong))
