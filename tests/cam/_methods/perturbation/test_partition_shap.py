"""Partition SHAP against Owen's definition over orders, and by hand."""

from itertools import product

import pytest
import torch
from torch import nn

import cam
from cam._methods.perturbation.partition_shap import halve_regions
from cam._methods.perturbation.region_game import find_superpixels


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()


def pictures(count: int = 1) -> torch.Tensor:
    coarse = torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(5))
    return 3 * nn.functional.interpolate(coarse, (24, 30), mode="bicubic")


def orders(node):
    """All orders of a node's regions in which each half stays together."""
    if not node.halves:
        return [node.regions]
    first, second = (orders(half) for half in node.halves)
    return [order for a, b in product(first, second) for order in ((*a, *b), (*b, *a))]


def test_it_is_owens_definition():
    """The mean of what a region adds over all orders of the tree."""
    network, batch = small().double(), pictures().double()
    regions = find_superpixels(batch[0], 10)
    count = int(regions.max()) + 1
    assert 5 <= count <= 11

    def score(coalition) -> float:
        visible = torch.isin(regions, torch.tensor(sorted(coalition), dtype=torch.int64))
        with torch.no_grad():
            return float(network(batch * visible)[0, 3])

    scores: dict[frozenset, float] = {}
    values = torch.zeros(count, dtype=torch.float64)
    every = orders(halve_regions(regions))
    assert len(every) == 2 ** (count - 1)
    for order in every:
        coalition: frozenset = frozenset()
        for region in order:
            for members in (coalition, coalition | {region}):
                if members not in scores:
                    scores[members] = score(members)
            values[region] += (scores[coalition | {region}] - scores[coalition]) / len(every)
            coalition = coalition | {region}
    reports: list[cam.Progress] = []
    maps = cam.attribute(
        network, batch, cam.method("partitionshap", segments=10), 3, progress=reports.append
    )["partitionshap"]
    expected = (values / regions.flatten().bincount())[regions]
    assert torch.allclose(maps.raw[0].double(), expected, rtol=1e-4, atol=1e-7)
    assert reports[-1].done == reports[-1].total == len(scores)
    assert maps.error is None


def test_it_adds_up_and_a_batch_changes_nothing():
    network, batch = small(), pictures(2)
    method = cam.method("partitionshap", segments=16, baseline=0.3)
    together = cam.attribute(network, batch, method, targets=[2, 0])["partitionshap"]
    with torch.no_grad():
        blank = network(torch.full_like(batch, 0.3))
    for image, target in enumerate([2, 0]):
        change = together.scores[image] - blank[image, target]
        assert torch.isclose(together.raw[image].sum(), change, rtol=1e-3)
        alone = cam.attribute(network, batch[image : image + 1], method, target)["partitionshap"]
        assert torch.equal(alone.raw[0], together.raw[image])


def test_halves_are_neighbours():
    regions = torch.arange(8)[None].repeat(3, 1)
    tree = halve_regions(regions)
    assert [half.regions for half in tree.halves] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [half.regions for half in tree.halves[1].halves] == [(4, 5), (6, 7)]
    turned = halve_regions(regions.T)
    assert [half.regions for half in turned.halves] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert halve_regions(torch.zeros(2, 2, dtype=torch.int64)).halves == ()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"segments": 0}, "segments must be a whole number from 1 to 1024"),
        ({"segments": 2000}, "segments must be a whole number from 1 to 1024"),
        ({"baseline": [0, 1]}, "baseline does not fit the image"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong, sentence):
    with pytest.raises(cam.MethodError, match=f"^partitionshap's {sentence}"):
        cam.attribute(small(), pictures(), cam.method("partitionshap", **wrong))
