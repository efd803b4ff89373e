"""Sobol and HSIC indices against functions with known ones, and plain formulas."""

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam._methods.perturbation.sensitivity_indices import (
    compute_hsic,
    draw_sobol_masks,
    make_grid,
)

# Of the four quarters of the picture.
WEIGHTS = torch.tensor([3.0, -2.0, 0.0, 1.0], dtype=torch.float64)


class Quarters(nn.Module):
    """Makes a score of the mean of each quarter of a white picture."""

    def __init__(self, product: bool = False) -> None:
        super().__init__()
        self.product = product
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        quarters = nn.functional.adaptive_avg_pool2d(x, 2).mean(1).flatten(1)  # (N, 4)
        score = quarters @ WEIGHTS.to(x)
        if self.product:
            score = quarters[:, 0] * quarters[:, 3]
        return torch.stack([score, -score], 1)


def white() -> torch.Tensor:
    return torch.ones(1, 3, 8, 8, dtype=torch.float64)


def quarters(maps: torch.Tensor) -> torch.Tensor:
    return nn.functional.adaptive_avg_pool2d(maps[None].double(), 2).flatten()


def test_sobol_of_a_sum_is_each_parts_share_of_the_variance():
    """Σ w z: w² over Σ w², as every z has the same variance; whatever the signs."""
    method = cam.method("sobol", designs=4096, cells=2)
    for target in (0, 1):
        maps = cam.attribute(Quarters(), white(), method, targets=target)["sobol"]
        assert torch.allclose(quarters(maps.raw), WEIGHTS**2 / 14, atol=0.01)
        assert float(maps.error.max()) < 0.02


def test_sobol_of_a_product_counts_what_parts_do_together():
    """z_0 z_3, both uniform: E var(y | rest) / var y = (1/3 · 1/12) / (1/9 - 1/16) = 4/7."""
    method = cam.method("sobol", designs=4096, cells=2)
    maps = cam.attribute(Quarters(product=True), white(), method, targets=0)["sobol"]
    expected = torch.tensor([4 / 7, 0, 0, 4 / 7], dtype=torch.float64)
    assert torch.allclose(quarters(maps.raw), expected, atol=0.02)


def test_the_designs_change_a_part_at_a_time():
    masks = draw_sobol_masks(16, 5, seed=3)
    assert masks.shape == (16, 7, 5) and masks.min() >= 0 and masks.max() <= 1
    for part in range(5):
        expected = masks[:, 0].clone()
        expected[:, part] = masks[:, 1, part]
        assert torch.equal(masks[:, 2 + part], expected)
    assert torch.equal(masks, draw_sobol_masks(16, 5, seed=3))
    assert not torch.equal(masks, draw_sobol_masks(16, 5, seed=4))


def test_hsic_is_the_trace():
    """tr(K H L H) / N², written out with numpy."""
    generator = np.random.default_rng(2)
    masks = (generator.random((30, 4)) < 0.5).astype(float)
    scores = masks @ np.array([1.0, -2, 0, 0.5]) + 0.1 * generator.normal(size=30)
    apart = np.abs(scores[:, None] - scores)
    width = np.sort(apart.flatten())[(apart.size - 1) // 2]
    alike = np.exp(-(apart**2) / (2 * width**2))
    centre = np.eye(30) - 1 / 30
    expected = [
        np.trace((1.5 - (z[:, None] - z) ** 2) @ centre @ alike @ centre) / 30**2 for z in masks.T
    ]
    actual = compute_hsic(torch.from_numpy(masks), torch.from_numpy(scores))
    assert np.allclose(actual.numpy(), expected, atol=1e-12)


def test_hsic_finds_the_parts_that_matter():
    maps = cam.attribute(Quarters(), white(), cam.method("hsic", samples=400, cells=2), 0)["hsic"]
    order = quarters(maps.raw).argsort(descending=True).tolist()
    assert order == [0, 1, 3, 2]
    assert quarters(maps.raw)[2] < 0.05 * quarters(maps.raw)[0]
    assert torch.all(maps.error[0] > 0)


@pytest.mark.parametrize("name", ["sobol", "hsic"])
def test_the_error_is_how_far_seeds_differ(name):
    count = {"sobol": {"designs": 20}, "hsic": {"samples": 80}}[name]
    several = [
        cam.attribute(
            Quarters(product=True), white(), cam.method(name, cells=2, seed=s, **count), 0
        )
        for s in range(30)
    ]
    apart = torch.stack([maps[name].raw[0] for maps in several]).var(0).sum()
    expected = torch.stack([maps[name].error[0] for maps in several]).square().mean(0).sum()
    # A Sobol sequence fills the space more evenly than the groups of it that the error is from.
    assert 0.6 < float((expected / apart).sqrt()) < 2.5


def test_the_grid_is_torchs_interpolation_to_the_nearest():
    for size, cells in [((9, 14), 4), ((224, 224), 7), ((5, 5), 5)]:
        numbers = torch.arange(cells**2).view(1, 1, cells, cells).float()
        expected = nn.functional.interpolate(numbers, size, mode="nearest")[0, 0].long()
        assert torch.equal(make_grid(torch.zeros(size), cells, "sobol"), expected)


@pytest.mark.parametrize(
    ("name", "wrong", "sentence"),
    [
        ("sobol", {"designs": 1}, "designs must be a whole number of at least 2"),
        ("sobol", {"cells": 200}, "cells must be a whole number from 1 to 100"),
        ("hsic", {"samples": 3}, "samples must be a whole number of at least 4"),
        ("sobol", {"cells": 9}, "cells are 9, but the image has only 8 × 8 pixels"),
        ("hsic", {"cells": 9}, "cells are 9, but the image has only 8 × 8 pixels"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(name, wrong, sentence):
    with pytest.raises(cam.MethodError, match=f"^{name}'s {sentence}"):
        cam.attribute(Quarters(), white(), cam.method(name, **wrong), 0)
