"""LIME and Kernel SHAP against captum, Shapley's definition, and by hand."""

from itertools import permutations

import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import KernelShap, Lime
from torch import nn

import cam
from cam._methods.perturbation.region_game import find_superpixels
from cam._methods.perturbation.superpixels import (
    draw_lime_coalitions,
    draw_shap_coalitions,
)

NAMES = ["lime", "kernelshap"]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()


def pictures(count: int = 2) -> torch.Tensor:
    """Smooth ones, so that superpixels are patches."""
    coarse = torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(5))
    return 3 * nn.functional.interpolate(coarse, (24, 30), mode="bicubic")


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def spread(maps: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Divide each pixel's value by the number of its region's pixels."""
    areas = torch.stack([(regions == region).sum() for region in regions.unique()])
    return maps / areas[regions]


def fed(coalitions: torch.Tensor):
    """What captum draws its coalitions by: here these, one after another."""

    def perturb(*_arguments, **_options):
        for coalition in coalitions:
            yield coalition[None].long()

    return perturb


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_captums_for_the_same_coalitions(name, baseline):
    network, batch, samples = small().double(), pictures().double(), 60
    method = cam.method(name, samples=samples, segments=12, seed=4, baseline=baseline, steady=1)
    attribution = cam.attribute(network, batch, method, targets=[2, 0], batch_size=7)[name]
    for image, target in enumerate([2, 0]):
        regions = find_superpixels(batch[image], 12)
        count = int(regions.max()) + 1
        assert 6 <= count <= 20
        if name == "lime":
            drawn = draw_lime_coalitions(samples, count, 4)

            def similar(_original, _other, coalition, **_options):
                distance = 1 - nn.functional.cosine_similarity(
                    coalition.double(), torch.ones_like(coalition).double()
                )
                return torch.exp(-(distance**2) / (2 * 0.25**2))

            peer = Lime(network, SkLearnRidge(alpha=1.0), similar, fed(drawn))
        else:
            ends = torch.stack([torch.ones(count), torch.zeros(count)])
            drawn, weights = draw_shap_coalitions(samples, count, 4)
            drawn = torch.cat([ends, drawn])
            peer = KernelShap(network)
            by_sample = iter([1e6, 1e6, *weights.tolist()])
            peer.similarity_func = lambda *_, i=by_sample, **_options: torch.tensor([next(i)])
            peer.perturb_func = fed(drawn)
        expected = peer.attribute(
            batch[image : image + 1],
            torch.full_like(batch[:1], baseline),
            target=target,
            feature_mask=regions[None, None],
            n_samples=len(drawn),
        )[:, 0]
        expected = spread(expected, regions).float()
        assert error(attribution.raw[image : image + 1], expected) <= 1e-4


def test_kernel_shap_is_shapleys_definition():
    """The mean of what a region adds over all orders; exact where all 2^R - 2 sets fit."""
    network, batch = small().double(), pictures(1).double()
    regions = find_superpixels(batch[0], 8)
    count = int(regions.max()) + 1
    assert 4 <= count <= 7

    def score(coalition: frozenset) -> float:
        visible = torch.isin(regions, torch.tensor(sorted(coalition), dtype=torch.int64))
        with torch.no_grad():
            return float(network(batch * visible)[0, 3])

    scores = {}
    values = torch.zeros(count, dtype=torch.float64)
    orders = list(permutations(range(count)))
    for order in orders:
        coalition = frozenset()
        for region in order:
            more = coalition | {region}
            for members in (coalition, more):
                scores.setdefault(members, None)
                if scores[members] is None:
                    scores[members] = score(members)
            values[region] += (scores[more] - scores[coalition]) / len(orders)
            coalition = more
    method = cam.method("kernelshap", samples=2**count, segments=8)
    reports: list[cam.Progress] = []
    attribution = cam.attribute(network, batch, method, targets=3, progress=reports.append)[
        "kernelshap"
    ]
    assert error(attribution.raw, spread(values[regions], regions)[None].float()) <= 1e-5
    assert reports[-1].done == reports[-1].total == 2**count


def test_drawn_coalitions_come_near_the_exact_values():
    network, batch = small().double(), pictures(1).double()
    exact = cam.method("kernelshap", samples=2**13, segments=16)
    drawn = cam.method("kernelshap", samples=150, segments=16)
    expected = cam.attribute(network, batch, exact, targets=3)["kernelshap"]
    assert 8 <= int(find_superpixels(batch[0], 16).max()) + 1 <= 13
    attribution = cam.attribute(network, batch, drawn, targets=3)["kernelshap"]
    assert 0 < error(attribution.raw, expected.raw) <= 0.1


@pytest.mark.parametrize("samples", [10, 300])
def test_kernel_shap_adds_up(samples):
    network, batch = small(), pictures()
    method = cam.method("kernelshap", samples=samples, segments=20, baseline=0.2)
    attribution = cam.attribute(network, batch, method, targets=1)["kernelshap"]
    with torch.no_grad():
        blank = network(torch.full_like(batch, 0.2))[:, 1]
    for image in range(2):
        total = attribution.raw[image].sum()
        assert torch.isclose(total, attribution.scores[image] - blank[image], rtol=1e-3)


class Linear(nn.Module):
    """The sum of the pixels' means over channels, times a place's weight."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = (x.mean(1) * self.weight).sum((1, 2))
        return torch.stack([score, -score], 1)


def test_a_linear_score_is_explained_exactly():
    """Each superpixel gets the sum of what its pixels add."""
    batch = pictures(1).double()
    weight = torch.randn(24, 30, generator=torch.Generator().manual_seed(1)).double()
    methods = [
        cam.method("kernelshap", samples=80, segments=12),
        cam.method("lime", samples=200, segments=12, ridge=0),
    ]
    attributions = cam.attribute(Linear(weight), batch, methods, targets=0)
    regions = find_superpixels(batch[0], 12)
    sums = torch.zeros(int(regions.max()) + 1).double()
    sums.index_add_(0, regions.flatten(), (batch[0].mean(0) * weight).flatten())
    for name in NAMES:
        assert error(attributions[name].raw.double(), spread(sums[regions], regions)[None]) <= 1e-5
    ridge = cam.method("lime", samples=200, segments=12, ridge=1e9)
    assert cam.attribute(Linear(weight), batch, ridge, 0)["lime"].raw.abs().max() < 1e-3


def test_coalitions_of_all_sizes_have_the_weight_of_the_shapley_kernel():
    coalitions, weights = draw_shap_coalitions(20000, 16, seed=0)
    sizes = coalitions.sum(1).long()
    assert torch.allclose(weights, 15 / (sizes * (16 - sizes)).double())
    counts = sizes.bincount(minlength=16)
    assert counts[0] == 0 and counts[1:].min() >= 1332 and counts[1:].max() <= 1336
    # Any part is as fair: what is drawn may end early.
    assert (sizes[:300].bincount(minlength=16)[1:] / 20 - 1).abs().max() < 0.6
    assert torch.allclose(coalitions.mean(0), torch.full((16,), 0.5).double(), atol=1e-9)
    assert torch.equal(coalitions[0::2], 1 - coalitions[1::2])


def test_superpixels_cover_the_picture_without_gaps(batch):
    regions = find_superpixels(batch[0], 50)
    assert regions.shape == batch.shape[2:] and regions.dtype == torch.int64
    assert regions.unique().tolist() == list(range(int(regions.max()) + 1))
    assert 30 <= int(regions.max()) + 1 <= 60
    assert find_superpixels(torch.full((3, 8, 8), 2.0), 4).shape == (8, 8)
    assert find_superpixels(torch.full((1, 8, 8), torch.nan), 4).shape == (8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone(name):
    network, batch = small(), pictures()
    method = cam.method(name, samples=30, segments=12)
    state = torch.get_rng_state()
    together = cam.attribute(network, batch, method, targets=[2, 0])[name]
    again = cam.attribute(network, batch, method, targets=[2, 0])[name]
    assert torch.equal(together.raw, again.raw)
    assert torch.equal(torch.get_rng_state(), state)
    for image, target in enumerate([2, 0]):
        alone = cam.attribute(network, batch[image : image + 1], method, target)[name]
        assert torch.equal(together.raw[image], alone.raw[0])
    other = cam.method(name, samples=30, segments=12, seed=1)
    assert error(cam.attribute(network, batch, other, [2, 0])[name].raw, together.raw) > 1e-4
    batch[0, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, batch, method, targets=[2, 0])[name]
    assert attribution.raw[0].isnan().all() and torch.equal(attribution.raw[1], together.raw[1])


@pytest.mark.parametrize("name", NAMES)
def test_cost_progress_precision_and_cancelling(name):
    network, batch = small().requires_grad_(False), pictures()
    method = cam.method(name, samples=11, segments=16)
    reports: list[cam.Progress] = []
    attribution = cam.attribute(network, batch, method, 1, batch_size=4, progress=reports.append)[
        name
    ]
    each = 11 if name == "lime" else 13
    assert (attribution.cost.forwards, attribution.cost.backwards) == (1 + 2 * -(-each // 4), 0)
    assert reports[-1].done == reports[-1].total == 2 * each
    double = cam.attribute(network.double(), batch.double(), method, lambda y: y[1])[name]
    assert error(attribution.raw, double.raw) <= 1e-3
    with pytest.raises(cam.Cancelled, match=name):
        cam.attribute(small(), batch, method, batch_size=2, progress=lambda p: p.done < 4)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        *[(name, {"samples": 1}, "samples must be a whole number") for name in NAMES],
        *[(name, {"segments": 0}, "segments must be a whole number") for name in NAMES],
        *[(name, {"seed": -1}, "seed must be a whole number") for name in NAMES],
        *[(name, {"baseline": [0, 1]}, "baseline does not fit the image") for name in NAMES],
        ("lime", {"width": 0}, "width must be a number above 0"),
        ("lime", {"ridge": -1}, "ridge must be a number of at least 0"),
        ("lime", {"ridge": "much"}, "ridge must be a number of at least 0"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(name, wrong, sentence):
    with pytest.raises(cam.MethodError, match=f"^{name}'s {sentence}"):
        cam.attribute(small(), pictures(1), cam.method(name, **wrong))
