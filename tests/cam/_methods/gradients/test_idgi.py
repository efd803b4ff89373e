"""IDGI by hand, against a plain loop, and adding up."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import cam
from cam._methods.gradients.path_gradients import blur


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(6, 5, 3, stride=2),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 4),
    ).eval()


def pictures(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 9, 11, generator=torch.Generator().manual_seed(5))


def explain(network, batch, targets, **parameters):
    reports: list[cam.Progress] = []
    maps = cam.attribute(
        network, batch, cam.method("idgi", **parameters), targets, progress=reports.append
    )["idgi"]
    assert reports[-1].done == reports[-1].total
    return maps


def test_a_linear_score_by_hand():
    """Σ w x: the gradient is w all the way, so w² / |w|² of the whole rise."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    batch = torch.randn(2, 3, 2, 2)
    maps = explain(network, batch, 1, steps=3, baseline=0.5)
    weight = network[1].weight.detach()[1].view(3, 2, 2)
    rise = (weight * (batch - 0.5)).sum((1, 2, 3))
    share = weight.square().sum(0) / weight.square().sum()
    assert torch.allclose(maps.raw, rise[:, None, None] * share, atol=1e-5)


@pytest.mark.parametrize("way", ["straight", "blur"])
def test_it_is_the_papers_loop(way):
    network, batch, steps = small().double(), pictures().double(), 6
    maps = explain(network, batch, [2, 0], steps=steps, way=way)
    for image, target in enumerate([2, 0]):
        x = batch[image]
        if way == "straight":
            points = [x * k / steps for k in range(steps + 1)]
        else:
            points = [blur(x, 50.0 * (1 - k / steps)) for k in range(steps + 1)]
        expected = torch.zeros(9, 11, dtype=torch.float64)
        for here, there in pairwise(points):
            here = here.clone().requires_grad_()
            score = network(here[None])[0, target]
            (gradient,) = torch.autograd.grad(score, here)
            with torch.no_grad():
                rise = network(there[None])[0, target] - score
                expected += (gradient**2 * rise / (gradient * gradient).sum()).sum(0)
        assert torch.allclose(maps.raw[image].double(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("way", ["straight", "guided", "blur"])
def test_it_adds_up_for_any_number_of_steps(way):
    network, batch = small(), pictures()
    for steps in (1, 5):
        maps = explain(network, batch, 2, steps=steps, way=way)
        start = blur(batch.double(), 50.0).float() if way == "blur" else torch.zeros_like(batch)
        with torch.no_grad():
            rise = network(batch)[:, 2] - network(start)[:, 2]
        assert torch.allclose(maps.raw.sum((1, 2)), rise, rtol=1e-4, atol=1e-6)
        assert maps.notes() == []


def test_a_batch_changes_nothing():
    network, batch = small(), pictures()
    for way in ("straight", "guided"):
        together = explain(network, batch, 1, steps=4, way=way)
        alone = explain(network, batch[1:], 1, steps=4, way=way)
        assert torch.allclose(together.raw[1], alone.raw[0], rtol=1e-4, atol=1e-7)


def test_wrong_parameters_are_named():
    with pytest.raises(cam.MethodError, match=r"^idgi's way must be one of straight, guided, blur"):
        cam.method("idgi", way="round")
