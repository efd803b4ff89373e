"""Deletion, insertion, drop, gain, infidelity: by hand, against captum."""

import itertools
import math

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from scipy.ndimage import gaussian_filter
from torch import nn

import cam
from cam._metrics.base.map_ranking import (
    mean_ranks,
    pearson,
    ranks,
    spearman,
    structural_similarity,
)
from cam._metrics.faithfulness.baselines import blur
from tests.support.networks import Weighted

FOUR = Weighted([[0.5, 0.3], [0.2, 0.0]])
WHITE = torch.ones(1, 1, 2, 2)


def value(name, network, pictures, heatmap, targets=0, masks=None, **parameters) -> float:
    options = {"method": parameters.pop("method", None)}
    metric = cam.metric(name, **parameters)
    return metric(network, pictures, heatmap, targets, masks, **options).item()


def order(*importance: float) -> torch.Tensor:
    return torch.tensor(importance, dtype=torch.float32).view(1, 2, 2)


def test_the_network_of_these_tests_gives_the_weighted_share():
    with torch.no_grad():
        p = FOUR(torch.tensor([[[[1.0, 1], [0, 0]]]])).softmax(1)
    assert torch.allclose(p, torch.tensor([[0.8, 0.2]]))


def test_deletion_by_hand():
    """Hidden one by one: p = 1, 0.5, 0.2, 0, 0; the area is (1/2 + 0.5 + 0.2 + 0 + 0/2) / 4."""
    actual = value("deletion", FOUR, WHITE, order(0.9, 0.5, 0.2, 0.1), steps=4)
    assert actual == pytest.approx(0.3, abs=1e-6)


def test_insertion_by_hand():
    """Shown one by one: p = 0, 0.5, 0.8, 1, 1."""
    actual = value("insertion", FOUR, WHITE, order(0.9, 0.5, 0.2, 0.1), steps=4, baseline=0.0)
    assert actual == pytest.approx((0.5 + 0.8 + 1 + 0.5) / 4, abs=1e-6)


def test_deletion_in_two_steps_and_one():
    perfect = order(0.9, 0.5, 0.2, 0.1)
    actual = value("deletion", FOUR, WHITE, perfect, steps=2)
    assert actual == pytest.approx((0.5 + 0.2) / 2, abs=1e-6)
    assert value("deletion", FOUR, WHITE, perfect, steps=1) == pytest.approx(0.5, abs=1e-6)


def test_perfect_and_adversarial_maps_reach_the_bounds_among_all_orders():
    areas = {
        name: {
            way: value(name, FOUR, WHITE, order(*way), steps=4, baseline=0.0)
            for way in itertools.permutations((0.1, 0.2, 0.3, 0.4))
        }
        for name in ("deletion", "insertion")
    }
    perfect, adversarial = (0.4, 0.3, 0.2, 0.1), (0.1, 0.2, 0.3, 0.4)
    assert areas["deletion"][perfect] == min(areas["deletion"].values())
    assert areas["deletion"][adversarial] == max(areas["deletion"].values())
    assert areas["insertion"][perfect] == max(areas["insertion"].values())
    assert areas["insertion"][adversarial] == min(areas["insertion"].values())


def test_random_maps_are_at_chance():
    """Of pixels that all count the same, any order gives the straight line: 1/2."""
    network = Weighted(torch.full((6, 6), 1 / 36))
    maps = torch.rand(40, 6, 6, generator=torch.Generator().manual_seed(0))
    areas = cam.metric("deletion", steps=9)(network, torch.ones(40, 1, 6, 6), maps, 0)
    assert torch.allclose(areas, torch.full((40,), 0.5), atol=1e-5)
    # And where they do not, the mean over orders does.
    uneven = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) ** 3
    uneven = Weighted(uneven / uneven.sum())
    areas = cam.metric("deletion", steps=9)(uneven, torch.ones(40, 1, 6, 6), maps, 0)
    assert areas.std() > 0.02
    assert abs(areas.mean().item() - 0.5) < 3 * areas.std().item() / math.sqrt(40)


def test_pixels_of_equal_importance_go_in_one_random_order():
    even = ranks(torch.full((2, 100, 90), 0.5))
    assert torch.equal(even[0], even[1])
    assert even[0].flatten().sort().values.tolist() == list(range(9000))
    # No direction goes first: the first half lies in the middle of the picture on average.
    rows, columns = (even[0] < 4500).nonzero().double().mean(0).tolist()
    assert abs(rows - 49.5) < 1.5 and abs(columns - 44.5) < 1.5
    steps = ranks(torch.tensor([[[0.0, 2, 0], [2, 1, 0]]])).flatten().tolist()
    assert {steps[1], steps[3]} == {0, 1} and steps[4] == 2


def test_baselines_a_number_one_a_channel_a_tensor_and_the_blur():
    picture = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(1))
    batches = []

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return torch.stack([x.mean((1, 2, 3)), x.sum((1, 2, 3))], 1)

    order_of_pixels = ranks(maps)[:, None]
    for baseline, hidden in (
        (0.25, torch.full_like(picture, 0.25)),
        ((0.1, 0.2, 0.3), torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1).expand_as(picture)),
        (picture.flip(3), picture.flip(3)),
        ("blur", blur(picture)),
    ):
        batches.clear()
        cam.metric("deletion", steps=2, baseline=baseline)(Keeping(), picture, maps, 0)
        half = torch.where(order_of_pixels < 72, hidden, picture)
        expected = torch.stack([half, hidden], 1).flatten(0, 1)
        assert torch.allclose(batches[1], expected, atol=1e-6), baseline


def test_the_blur_is_that_of_rises_program():
    """An impulse of 11 × 11 pixels, spread by scipy, as a convolution padded with zeros."""
    impulse = torch.zeros(11, 11, dtype=torch.float64)
    impulse[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(impulse.numpy(), 5))
    picture = torch.randn(2, 3, 20, 17, dtype=torch.float64)
    expected = nn.functional.conv2d(picture, kernel.expand(3, 1, 11, 11), padding=5, groups=3)
    assert torch.allclose(blur(picture), expected, atol=1e-12)


def test_28_steps_of_a_usual_picture_are_224_times_8_pixels():
    counts = []

    class Counting(nn.Module):
        def forward(self, x):
            counts.extend((x == 0).flatten(1).sum(1).tolist())
            return x.mean((2, 3)) @ torch.ones(1, 2)

    cam.metric("deletion")(Counting(), torch.ones(1, 1, 224, 224), torch.rand(1, 224, 224), 0)
    assert counts == [224 * 8 * step for step in range(29)]


def test_drop_increase_and_gain_by_hand():
    """x = (1, 1, 0, 0) has p = 0.8; what is seen of it by A = (1/2, 1, …) has 0.25 + 0.3."""
    picture = torch.tensor([[[[1.0, 1], [0, 0]]]])
    lower = order(0.5, 1.0, 0.7, 0.7)
    assert value("average_drop", FOUR, picture, lower) == pytest.approx(0.25 / 0.8, abs=1e-6)
    assert value("increase", FOUR, picture, lower) == 0
    assert value("average_gain", FOUR, picture, lower) == 0
    # For the other class 1 - p: from 0.2 to 0.45.
    assert value("average_drop", FOUR, picture, lower, 1) == 0
    assert value("increase", FOUR, picture, lower, 1) == 1
    assert value("average_gain", FOUR, picture, lower, 1) == pytest.approx(0.25 / 0.8, abs=1e-6)


def test_perfect_and_worst_drop():
    assert value("average_drop", FOUR, WHITE, order(1, 1, 1, 1)) == 0
    assert value("average_drop", FOUR, WHITE, order(0, 0, 0, 0)) == 1
    assert value("increase", FOUR, WHITE, order(1, 1, 1, 1)) == 0
    assert value("average_gain", FOUR, WHITE * 0.5, order(0, 0, 0, 0), 1) == pytest.approx(1)


def test_what_is_undefined_has_a_reason():
    nothing = torch.zeros(1, 1, 2, 2)
    maps = order(1, 1, 1, 1)
    drop = cam.metric("average_drop").measure(FOUR, nothing, maps, 0)
    assert drop.values.isnan().all()
    assert drop.reasons == ("the target's score is not above 0, so it has no share to lose",)
    gain = cam.metric("average_gain").measure(FOUR, WHITE, maps, 0)
    assert gain.reasons == ("the probability is 1 already, so nothing can be gained",)
    gain = cam.metric("average_gain").measure(FOUR, WHITE, maps, cam.targets.Logit(0))
    assert gain.reasons == ("the target's score is not a probability, so nothing limits it",)


def share_of_first(logits: torch.Tensor) -> torch.Tensor:
    """The score that is linear in the picture."""
    return logits.softmax(0)[0]


def test_infidelity_of_the_exact_map_of_a_linear_score_is_0():
    """With φ = w, Iᵀφ is the change itself; the score is linear in the picture here."""
    picture = torch.rand(1, 1, 2, 2, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    exact = torch.tensor([[[0.5, 0.3], [0.2, 0.0]]])
    options = {"samples": 50, "size": 0.5, "method": "saliency", "targets": share_of_first}
    assert value("infidelity", FOUR, picture, exact, normalise=False, **options) < 1e-10
    # β repairs the scale, and nothing else.
    assert value("infidelity", FOUR, picture, exact * 2, **options) < 1e-10
    assert value("infidelity", FOUR, picture, exact * 2, normalise=False, **options) > 1e-3
    assert value("infidelity", FOUR, picture, exact.flip(2), **options) > 1e-3


def test_infidelity_of_a_map_of_zeros_is_the_mean_square_change():
    """Of four squares of one pixel, each hides its own: the mean of (w x)²."""
    zeros = torch.zeros(1, 2, 2)
    options = {"method": "saliency", "targets": share_of_first}
    actual = value("infidelity", FOUR, WHITE, zeros, samples=4000, size=0.5, seed=1, **options)
    assert actual == pytest.approx((0.25 + 0.09 + 0.04) / 4, rel=0.05)


@pytest.mark.parametrize("change", ["square", "noise"])
@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_is_captums(change, normalise):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    pictures = torch.randn(2, 3, 10, 10)
    maps = torch.rand(2, 10, 10)
    batches = []

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x.clone())
            return network(x)

    metric = cam.metric("infidelity", change=change, normalise=normalise, samples=9)
    options = {"method": "saliency", "batch_size": 64}
    actual = metric(Keeping(), pictures, maps, torch.tensor([2, 0]), **options)
    changed = batches[1].view(2, 9, 3, 10, 10)
    taken = pictures[:, None] - changed
    if change == "square":
        # round(10 / 4) pixels of all channels, at different places.
        assert set((taken != 0).flatten(2).sum(2).flatten().tolist()) == {12}
        assert len({tuple(change_mask.nonzero()[0].tolist()) for change_mask in taken[0]}) > 2
    else:
        assert taken.std() == pytest.approx(0.2, rel=0.1)
    expected = captum_infidelity(
        network,
        lambda x: (taken.flatten(0, 1), changed.flatten(0, 1)),
        pictures,
        maps[:, None].expand(-1, 3, -1, -1),
        target=torch.tensor([2, 0]),
        n_perturb_samples=9,
        normalize=normalise,
    )
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-9)


def test_ranks_and_correlations_are_scipys_and_scikit_images():
    from scipy import stats
    from skimage.metrics import structural_similarity as theirs

    generator = torch.Generator().manual_seed(0)
    # Few different values, so that there are ties.
    a, b = (torch.randint(6, (3, 9, 11), generator=generator).float() / 5 for _ in range(2))
    for first, second, rank, product, similar in zip(
        a, b, spearman(a, b), pearson(a.flatten(1), b.flatten(1)), structural_similarity(a, b),
        strict=True,
    ):  # fmt: skip
        flat, also = first.flatten().numpy(), second.flatten().numpy()
        assert rank.item() == pytest.approx(stats.spearmanr(flat, also).statistic, abs=1e-9)
        assert product.item() == pytest.approx(stats.pearsonr(flat, also).statistic, abs=1e-6)
        expected = theirs(first.double().numpy(), second.double().numpy(), data_range=1)
        assert similar.item() == pytest.approx(expected, abs=1e-9)
        mean_rank = mean_ranks(first.flatten()[None])[0]
        assert torch.equal(mean_rank, torch.from_numpy(stats.rankdata(flat) - 1))
    constant = torch.full((1, 9, 11), 0.1)
    assert spearman(constant, a[:1]).isnan().all()
    assert pearson(constant.flatten(1), a[:1].flatten(1)).isnan().all()
