"""Input × gradient and noisy gradients: by hand, and against captum."""

from copy import deepcopy

import pytest
import torch
from captum.attr import InputXGradient, NoiseTunnel, Saliency
from torch import nn

import cam
import cam._methods.gradients.noisy_gradients

NOISY = {"smoothgrad": "smoothgrad", "vargrad": "vargrad", "squaregrad": "smoothgrad_sq"}
TARGETS = [281, 7, 999]


class Cubic(nn.Module):
    """Two scores of 3 × 2 × 2 pixels: Σ w x³, whose gradient is 3 w x², and Σ w x."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()
        self.weight = nn.Parameter(torch.tensor([2.0, -1, 0.5]).reshape(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [(self.weight * x**3).sum((1, 2, 3)), (self.weight * x).sum((1, 2, 3))], 1
        )


def small(seed: int = 0) -> nn.Module:
    """A network with kinks and a curved score, for pictures of any size."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()


def pictures(count: int = 3) -> torch.Tensor:
    """Pictures with different ranges, which noise has to follow."""
    made = torch.randn(count, 3, 9, 11, generator=torch.Generator().manual_seed(5))
    return made * torch.arange(1, count + 1).view(-1, 1, 1, 1)


def drawn(shape: torch.Size, samples: int, seed: int = 0) -> torch.Tensor:
    """The noise as it is documented: one generator, one draw a sample."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(samples)])


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def test_input_x_gradient_by_hand():
    picture = torch.tensor([1.0, 2, 3]).reshape(1, 3, 1, 1).repeat(1, 1, 2, 2)
    picture[..., 1, 1] = 0
    attribution = cam.attribute(Cubic(), picture, "input_x_gradient", targets=0)["input_x_gradient"]
    # 3 Σ w x³ = 3 (2 - 8 + 13.5)
    assert attribution.raw.tolist() == [[[22.5, 22.5], [22.5, 0]]]
    assert attribution.heatmap.tolist() == [[[1, 1], [1, 0]]]
    against = cam.attribute(Cubic(), -picture, "input_x_gradient", targets=0)["input_x_gradient"]
    assert against.raw.min() == -22.5 and torch.equal(against.heatmap, attribution.heatmap)


def test_input_x_gradient_is_captums_and_costs_no_pass_of_its_own(bundled, batch):
    both = cam.attribute(bundled, batch, ["saliency", "input_x_gradient"], targets=TARGETS)
    actual = both["input_x_gradient"]
    expected = InputXGradient(bundled.module).attribute(batch, TARGETS).detach().sum(1)
    assert error(actual.raw, expected) <= 1e-4
    assert (actual.cost.forwards, actual.cost.backwards) == (1, 1)
    low, high = expected.abs().aminmax(dim=2)
    low, high = low.amin(1)[:, None, None], high.amax(1)[:, None, None]
    assert error(actual.heatmap, (expected.abs() - low) / (high - low)) <= 1e-4


@pytest.mark.parametrize("name", NOISY)
def test_noisy_gradients_are_captums_for_the_same_noise(name, bundled, batch, monkeypatch):
    # In double precision: the network's kinks would magnify the rounding of singles.
    exact = deepcopy(bundled.module).double()
    samples, batch = 3, batch[:2, :, 64:128, 64:128].double()
    ranges = (batch.amax((1, 2, 3)) - batch.amin((1, 2, 3))).view(-1, 1, 1, 1, 1)
    noise = (0.2 * ranges * drawn(batch.shape[1:], samples, seed=4)).flatten(0, 1)
    method = cam.method(name, samples=samples, noise=0.2, seed=4)
    attribution = cam.attribute(exact, batch, method, targets=TARGETS[:2], batch_size=2)[name]
    # The peer repeats each image for its samples, one image after another.
    monkeypatch.setattr(torch, "normal", lambda mean, std: noise.reshape(std.shape))
    expected = NoiseTunnel(Saliency(exact)).attribute(
        batch, nt_type=NOISY[name], nt_samples=samples, target=TARGETS[:2], abs=False
    )
    expected = expected.detach().abs().amax(1).float()
    assert error(attribution.raw, expected) <= 1e-4
    low, high = expected.amin((1, 2), keepdim=True), expected.amax((1, 2), keepdim=True)
    assert error(attribution.heatmap, (expected - low) / (high - low)) <= 1e-4


@pytest.mark.parametrize("name", NOISY)
def test_noisy_gradients_by_hand(name):
    """The score Σ w x³ has the gradient 3 w x², whose moments can be written down."""
    picture = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    attribution = cam.attribute(Cubic(), picture, cam.method(name, samples=7), targets=0)[name]
    ranges = (picture.amax((1, 2, 3)) - picture.amin((1, 2, 3))).view(2, 1, 1, 1)
    weight = torch.tensor([2.0, -1, 0.5], dtype=torch.float64).reshape(3, 1, 1)
    noise = drawn(picture.shape[1:], 7)
    gradients = torch.stack(
        [3 * weight * (picture + 0.15 * ranges * epsilon).double() ** 2 for epsilon in noise]
    )
    moment = {
        "smoothgrad": gradients.mean(0).abs(),
        "vargrad": ((gradients - gradients.mean(0)) ** 2).mean(0),
        "squaregrad": (gradients**2).mean(0),
    }[name]
    assert error(attribution.raw.double(), moment.amax(1)) <= 1e-5


def test_a_linear_score_has_the_same_gradient_in_all_copies():
    picture = torch.rand(1, 3, 4, 5)
    attributions = cam.attribute(Cubic(), picture, list(NOISY), targets=1)
    assert torch.equal(attributions["smoothgrad"].raw, torch.full((1, 4, 5), 2.0))
    assert torch.equal(attributions["squaregrad"].raw, torch.full((1, 4, 5), 4.0))
    assert (
        attributions["vargrad"].raw.abs().max() == 0
        and attributions["vargrad"].heatmap.abs().max() == 0
    )


def test_more_samples_bring_the_mean_nearer_to_the_expectation():
    """E 3 w (x + σε)² = 3 w (x² + σ²)."""
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    sigma = 0.15 * (picture.max() - picture.min())
    weight = torch.tensor([2.0, -1, 0.5]).reshape(3, 1, 1)
    expected = (3 * weight * (picture**2 + sigma**2)).abs().amax(1)
    few, many = (
        error(
            cam.attribute(Cubic(), picture, cam.method("smoothgrad", samples=n, steady=1), 0)[
                "smoothgrad"
            ].raw,
            expected,
        )
        for n in (10, 1000)
    )
    assert many < 0.02 and many < few / 4


@pytest.mark.parametrize("name", NOISY)
def test_an_image_has_the_same_bits_alone_and_in_a_batch(name):
    model, batch = small(), pictures()
    method = cam.method(name, samples=5)
    together = cam.attribute(model, batch, method, targets=1)[name]
    again = cam.attribute(model, batch, method, targets=1)[name]
    assert torch.equal(together.raw, again.raw)
    for image in range(3):
        alone = cam.attribute(model, batch[image : image + 1], method, targets=1)[name]
        assert torch.equal(together.raw[image], alone.raw[0])
        assert torch.equal(together.heatmap[image], alone.heatmap[0])
    other = cam.attribute(model, batch, cam.method(name, samples=5, seed=1), targets=1)[name]
    assert error(other.raw, together.raw) > 1e-3


@pytest.mark.parametrize("name", NOISY)
def test_size_of_batches_and_state_of_torch_do_not_matter(name):
    model, batch = small(), pictures(2)
    method = cam.method(name, samples=7)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    whole = cam.attribute(model, batch, method, targets=[2, 0])[name]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    reports: list[cam.Progress] = []
    parts = cam.attribute(model, batch, method, [2, 0], batch_size=3, progress=reports.append)[name]
    assert error(parts.raw, whole.raw) <= 1e-5
    assert (parts.cost.forwards, parts.cost.backwards) == (7, 6)
    # Twice where a map so far comes with it.
    assert list(dict.fromkeys(report.done for report in reports)) == [0, 3, 6, 7, 10, 13, 14]
    assert {report.total for report in reports} == {14}


def test_noise_follows_the_range_of_each_picture():
    """What scales the picture scales its noise, so the gradient of a cubic by its square."""
    picture = torch.rand(1, 3, 5, 5)
    attributions = cam.attribute(
        Cubic(), torch.cat([picture, 10 * picture]), "smoothgrad", targets=0
    )
    raw = attributions["smoothgrad"].raw
    assert torch.allclose(raw[1], 100 * raw[0], rtol=1e-4)


def test_a_picture_of_one_colour_gets_no_noise():
    picture = torch.full((1, 3, 4, 4), 0.5)
    attributions = cam.attribute(Cubic(), picture, ["smoothgrad", "saliency", "vargrad"], targets=0)
    assert torch.allclose(attributions["smoothgrad"].raw, attributions["saliency"].raw)
    assert attributions["vargrad"].raw.abs().max() <= 1e-10


@pytest.mark.parametrize("name", ["input_x_gradient", *NOISY])
def test_callable_targets_double_precision_and_frozen_models(name):
    model, batch = small().double().requires_grad_(False), pictures(2).double()
    method = name if name == "input_x_gradient" else cam.method(name, samples=3)
    by_index = cam.attribute(model, batch, method, targets=[1, 3])[name]
    targets = [lambda row: row[1], lambda row: row[3]]
    by_callable = cam.attribute(model, batch, method, targets)[name]
    assert torch.equal(by_index.raw, by_callable.raw)
    single = cam.attribute(model.float(), batch.float(), method, targets=[1, 3])[name]
    assert error(single.raw, by_index.raw) <= 1e-4


@pytest.mark.parametrize("name", ["input_x_gradient", *NOISY])
def test_a_picture_that_is_not_finite_spoils_no_other(name):
    model, batch = small(), pictures(2)
    sound = cam.attribute(model, batch, name, targets=1)[name]
    batch[0, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(model, batch, name, targets=1)[name]
    assert attribution.raw[0].isnan().all() and torch.equal(attribution.raw[1], sound.raw[1])


@pytest.mark.parametrize("name", NOISY)
@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0},
        {"samples": 2.0},
        {"samples": True},
        {"noise": 0},
        {"noise": float("nan")},
        {"noise": float("inf")},
        {"noise": "much"},
        {"seed": -1},
        {"seed": 2**63},
        {"seed": None},
    ],
    ids=str,
)
def test_wrong_parameters_are_named(name, wrong):
    [parameter] = wrong
    with pytest.raises(cam.MethodError, match=f"^{name}'s {parameter} must be"):
        cam.attribute(small(), pictures(1), cam.method(name, **wrong))


def test_a_variance_needs_two_samples():
    with pytest.raises(cam.MethodError, match="at least 2"):
        cam.attribute(small(), pictures(1), cam.method("vargrad", samples=1))


def test_it_can_be_cancelled():
    method = cam.method("smoothgrad", samples=10)
    with pytest.raises(cam.Cancelled, match="smoothgrad was cancelled after 4 inputs"):
        cam.attribute(small(), pictures(1), method, batch_size=2, progress=lambda now: now.done < 4)
