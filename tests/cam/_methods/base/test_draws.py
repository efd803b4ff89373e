"""Standard errors of drawn maps: against seeds, by hand, on photos."""

import pytest
import torch
from torch import nn

import cam
from cam._methods.base.draws import Draws, Sum, mean_of

# Method → parameters for few draws, all of them taken.
DRAWN = {
    "smoothgrad": {"samples": 40, "steady": 1},
    "vargrad": {"samples": 80, "steady": 1},
    "squaregrad": {"samples": 40, "steady": 1},
    "expected_gradients": {"samples": 40, "steady": 1},
    "gradientshap": {"samples": 40, "steady": 1},
    "rise": {"masks": 60, "cells": 4, "steady": 1},
    "lime": {"samples": 120, "segments": 12, "steady": 1},
    "kernelshap": {"samples": 120, "segments": 30, "steady": 1},
    "smoothgradcam_plus_plus": {"samples": 20},
    "sscam": {"samples": 20},
    "vit_cx": {"samples": 4, "noise": 0.5},
}
# Those whose draws go on until halves agree.
STEADY = [name for name in DRAWN if "steady" in DRAWN[name]]


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.Tanh(),
        nn.Conv2d(6, 6, 3),
        nn.Softplus(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 4),
    ).eval()


def pictures(count: int = 1) -> torch.Tensor:
    coarse = torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(5))
    return 3 * nn.functional.interpolate(coarse, (24, 30), mode="bicubic")


def explain(name: str, seed: int = 0, batch_size: int = 32, **parameters: object):
    method = cam.method(name, seed=seed, **DRAWN[name] | parameters)
    layers = "2" if cam.methods()[name].layer else None
    return cam.attribute(
        small(), pictures(), method, targets=2, layers=layers, batch_size=batch_size
    )[name]


@pytest.mark.parametrize("name", DRAWN)
def test_the_error_is_how_far_seeds_differ(name):
    several = [explain(name, seed) for seed in range(24)]
    apart = torch.stack([maps.raw[0] for maps in several]).var(0)
    expected = torch.stack([maps.error[0] for maps in several]).square().mean(0)
    assert apart.max() > 0
    # The variance of 24 has itself an error of 30 %; a map's many pixels average that in part.
    # Strata of α and weights of many masks lower what seeds differ by, and not the error.
    assert 0.7 < float((expected.sum() / apart.sum()).sqrt()) < 1.5


def test_of_a_mean_the_error_is_the_textbooks():
    values = torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    draws = Draws(10, Sum, mean_of)
    for part in (slice(0, 7), slice(7, 10)):
        for group, rows in draws.cut(part):
            group.add(values[part][rows].sum(0), len(rows))
        draws.count = part.stop
    estimate = draws.estimate()
    assert torch.allclose(estimate.raw, values.mean(0))
    assert torch.allclose(estimate.error, values.std(0) / 10**0.5)
    halves = torch.stack([values[start::2].mean(0).flatten() for start in (0, 1)])
    assert estimate.agreement == pytest.approx(float(torch.corrcoef(halves)[0, 1]))


@pytest.mark.parametrize("name", STEADY)
def test_it_ends_where_halves_agree_whatever_the_batches(name):
    most = "masks" if name == "rise" else "samples"
    early = explain(name, steady=0.3, **{most: 4000})
    again = explain(name, steady=0.3, batch_size=9, **{most: 4000})
    assert early.cost.forwards < 60
    assert torch.allclose(early.raw, again.raw, rtol=1e-3, atol=1e-6)
    late = explain(name, **{most: 600})
    assert late.cost.forwards > early.cost.forwards
    assert late.error.square().mean() < early.error.square().mean()


def test_a_map_of_chance_is_remarked_on():
    (note,) = explain("vargrad", samples=4).notes()
    assert "two halves of its 4 samples have a correlation of only" in note[1]
    assert explain("vargrad", samples=400).notes() == []
    (note,) = explain("kernelshap", samples=8).notes()
    assert "8 samples are too few to tell" in note[1]
    assert explain("kernelshap", samples=8).error.isnan().all()


def test_what_draws_nothing_has_no_error_and_what_is_exact_none_but_zero():
    maps = cam.attribute(small(), pictures(), ["gradcam", "saliency"], 2, layers="2")
    assert maps["gradcam"].error is None and maps["saliency"].error is None
    exact = explain("kernelshap", segments=6, samples=2**9)
    assert torch.equal(exact.error, torch.zeros_like(exact.error))
    smoothed = cam.method("sscam", samples=3, aug_smooth=True)
    assert cam.attribute(small(), pictures(), smoothed, 2, layers="2")["sscam"].error is None


@pytest.mark.slow
@pytest.mark.parametrize("photo", cam.samples())
@pytest.mark.parametrize("name", STEADY)
def test_two_seeds_agree_on_the_photos_by_default(name, photo, bundled):
    batch = bundled.prepare(cam.sample(photo))
    first, second = (
        cam.attribute(bundled, batch, cam.method(name, seed=seed))[name].raw.flatten()
        for seed in (0, 1)
    )
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] >= 0.9
