"""Maps so far, beside the same computed in another way."""

import numpy as np
import pytest
import torch
from torch import nn

import cam
from cam._methods.perturbation.input_masking import draw_grids

SIDE = 16
CLASS = 1
GROWING: dict[str, dict] = {
    "scorecam": {},
    "ablationcam": {},
    "sscam": {"samples": 2},
    "iscam": {"steps": 3},
    "smoothgradcam_plus_plus": {"samples": 12},
    "vit_cx": {},
    "integrated_gradients": {"steps": 10},
    "guided_integrated_gradients": {"steps": 6},
    "blur_integrated_gradients": {"steps": 10, "sigma": 4.0},
    "idgi": {"steps": 10},
    "deepshap": {"references": torch.rand(6, 3, SIDE, SIDE, generator=torch.manual_seed(4))},
    "expected_gradients": {"samples": 13, "steady": 1},
    "gradientshap": {"samples": 13, "steady": 1},
    "smoothgrad": {"samples": 13, "steady": 1},
    "vargrad": {"samples": 13, "steady": 1},
    "squaregrad": {"samples": 13, "steady": 1},
    "extremal_perturbation": {"areas": (0.2,), "steps": 4},
    "occlusion": {"window": 6, "stride": 5},
    "rise": {"masks": 13, "steady": 1},
    "lime": {"samples": 40, "segments": 6, "steady": 1},
    "kernelshap": {"samples": 80, "segments": 12, "steady": 1},
    "sobol": {"designs": 4, "cells": 2},
    "hsic": {"samples": 13, "cells": 3},
}


class Small(nn.Module):
    """Two convolutions, whose first maps are read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 7, 3, 2, 1)
        self.next = nn.Conv2d(7, 6, 3, 1, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        features = self.next(self.layer(pictures).relu()).relu()
        return self.head(features.mean((2, 3)) * 5)


NETWORK = Small().eval()


def pictures(count: int = 2) -> torch.Tensor:
    coarse = torch.randn(count, 3, 4, 4, generator=torch.manual_seed(1))
    return nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")


def explain(name: str, batch: torch.Tensor, progress=None, **parameters) -> cam.Attribution:
    layer = "layer" if cam.methods()[name].layer else None
    method = cam.method(name, **GROWING.get(name, {}) | parameters)
    return cam.attribute(
        NETWORK, batch, method, CLASS, layer, batch_size=4, progress=progress
    )[name]  # fmt: skip


def grow(name: str, batch: torch.Tensor, **parameters):
    """Return what was offered, by how much was done, and the result."""
    partials: dict[int, cam.Attribution] = {}

    def report(progress: cam.Progress) -> None:
        if progress.partial is not None:
            partials[progress.done] = progress.partial()

    return partials, explain(name, batch, report, **parameters)


@pytest.mark.parametrize("name", GROWING)
def test_the_last_map_so_far_is_the_result(name):
    batch = pictures()
    alone = explain(name, batch)
    state = torch.get_rng_state()
    partials, result = grow(name, batch)
    assert torch.equal(state, torch.get_rng_state())
    assert len(partials) >= 3, "it grows"
    latest = list(partials.values())[-1]
    for first, second in ((latest, result), (alone, result)):
        assert torch.equal(first.raw, second.raw)
        assert torch.equal(first.heatmap, second.heatmap)
    assert (latest.kind, latest.layers, latest.targets.tolist()) == (
        result.kind,
        result.layers,
        result.targets.tolist(),
    )
    assert result.cost.forwards == alone.cost.forwards, "a map so far costs no pass"
    assert not any(parameter.grad is not None for parameter in NETWORK.parameters())
    assert not any(partial.raw.requires_grad for partial in partials.values())


@pytest.mark.parametrize("name", sorted(GROWING.keys() - {"occlusion"}))
def test_an_image_has_no_value_before_its_turn_and_then_its_own(name):
    partials, _ = grow(name, pictures())
    filled = [(~partial.raw.isnan()).flatten(1).float().mean(1) for partial in partials.values()]
    assert all(set(row.tolist()) <= {0.0, 1.0} for row in filled), "whole images"
    assert all(row[0] == 1 for row in filled)
    alone, _ = grow(name, pictures(1))
    both = {done: part for done, part in partials.items() if part.raw[1].isnan().all()}
    for done in both.keys() & set([*alone][:-1]):  # IDGI adds its last step at the end
        torch.testing.assert_close(both[done].raw[0], alone[done].raw[0], atol=1e-6, rtol=1e-5)
        assert both[done].heatmap[1].isnan().all()


@pytest.mark.parametrize(
    ("name", "count", "draws"),
    [
        ("smoothgrad", "samples", 8),
        ("vargrad", "samples", 8),
        ("squaregrad", "samples", 4),
        ("smoothgradcam_plus_plus", "samples", 8),
        ("lime", "samples", 20),
        ("hsic", "samples", 8),
        ("sobol", "designs", 2),
    ],
)
def test_an_early_map_is_that_of_as_many_draws(name, count, draws):
    partials, _ = grow(name, pictures(1))
    fewer = explain(name, pictures(1), **{count: draws})
    done = draws * 6 if name == "sobol" else draws
    torch.testing.assert_close(partials[done].raw, fewer.raw, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(partials[done].heatmap, fewer.heatmap, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def score(batch: torch.Tensor) -> torch.Tensor:
    return NETWORK(batch)[:, CLASS]


def test_rise_so_far_is_the_covariance_over_its_masks_so_far():
    picture = pictures(1)
    partials, _ = grow("rise", picture)
    grids, shifts, size = draw_grids(13, 7, 0.5, 0, (SIDE, SIDE))
    whole = nn.functional.interpolate(grids[:, None].double(), size=size, mode="bilinear")
    masks = torch.stack(
        [mask[0, y : y + SIDE, x : x + SIDE] for mask, (y, x) in zip(whole, shifts, strict=True)]
    )
    with torch.no_grad():
        chances = NETWORK((picture * masks[:, None]).float()).softmax(1)[:, CLASS].double()
    for done in (4, 8, 12, 13):
        p, m = chances[:done], masks[:done]
        spread = torch.tensordot(p - p.mean(), m - m.mean(0), 1) / (done - 1)
        expected = (spread / 0.5 + p.mean()).float()
        torch.testing.assert_close(partials[done].raw[0], expected, atol=1e-6, rtol=1e-5)
        stretched = (expected - expected.min()) / (expected.max() - expected.min())
        torch.testing.assert_close(partials[done].heatmap[0], stretched, atol=1e-4, rtol=1e-4)


def test_occlusion_so_far_is_unknown_where_no_window_was():
    batch = pictures()
    partials, _ = grow("occlusion", batch)
    starts = [(row, column) for row in (0, 5, 10) for column in (0, 5, 10)]
    for done, partial in partials.items():
        total, times = torch.zeros(2, SIDE, SIDE), torch.zeros(2, SIDE, SIDE)
        for number in range(done):
            image, (row, column) = number // 9, starts[number % 9]
            window = (image, slice(row, row + 6), slice(column, column + 6))
            hidden = batch[image : image + 1].clone()
            hidden[0, :, window[1], window[2]] = 0
            total[window] += score(batch[image : image + 1])[0] - score(hidden)[0]
            times[window] += 1
        expected = total / times  # NaN where nothing was
        torch.testing.assert_close(partial.raw, expected, atol=1e-6, rtol=1e-5, equal_nan=True)
        assert torch.equal(partial.heatmap.isnan(), expected.isnan())
        held = partial.heatmap[~partial.heatmap.isnan()]
        assert held.min() >= 0 and held.max() <= 1


def test_scorecam_so_far_weighs_the_maps_that_were_tried():
    picture = pictures(1)
    partials, _ = grow("scorecam", picture)
    with torch.no_grad():
        activations = NETWORK.layer(picture)[0]
    full = nn.functional.interpolate(
        activations[None], size=(SIDE, SIDE), mode="bilinear", align_corners=True
    )[0]
    low, high = full.amin((1, 2), keepdim=True), full.amax((1, 2), keepdim=True)
    scores = score(picture * ((full - low) / (high - low + 1e-8))[:, None])
    assert list(partials) == [4, 7]
    for done, partial in partials.items():
        expected = torch.tensordot(scores[:done].softmax(0), activations[:done], 1)
        torch.testing.assert_close(partial.raw[0], expected, atol=1e-6, rtol=1e-5)


def test_integrated_gradients_so_far_are_those_of_the_part_that_was_gone():
    picture = pictures(1)
    partials, _ = grow("integrated_gradients", picture)
    points, weights = np.polynomial.legendre.leggauss(10)
    network = Small().double()
    for done, partial in partials.items():
        total = torch.zeros(3, SIDE, SIDE, dtype=torch.float64)
        for point, weight in zip(points[:done], weights[:done], strict=True):
            at = (picture.double() * (point / 2 + 0.5)).requires_grad_()
            (gradient,) = torch.autograd.grad(network(at)[0, CLASS], at)
            total += weight / 2 * gradient[0]
        expected = (total * picture[0]).sum(0).float()
        torch.testing.assert_close(partial.raw[0], expected, atol=1e-6, rtol=1e-4)


def test_values_of_a_game_are_offered_once_the_draws_determine_them():
    partials, result = grow("kernelshap", pictures(1))
    regions = len(result.raw[0].unique())
    assert 2 * regions <= min(partials) < 80


def test_what_is_fused_is_not_offered():
    layers, offered = ["layer", "next"], []
    cam.attribute(
        NETWORK, pictures(), "scorecam", CLASS, layers,
        progress=lambda progress: offered.append(progress.partial),
    )  # fmt: skip
    for smoothing in ("aug_smooth", "eigen_smooth"):
        explain(
            "scorecam", pictures(), lambda progress: offered.append(progress.partial),
            **{smoothing: True},
        )  # fmt: skip
    assert offered and not any(offered)


def test_without_a_question_nothing_is_made(monkeypatch):
    calls = []
    original = cam.kernels.normalise
    monkeypatch.setattr(cam.kernels, "normalise", lambda raw: calls.append(1) or original(raw))
    explain("occlusion", pictures(), lambda progress: True)
    assert len(calls) == 1, "the result's own"
