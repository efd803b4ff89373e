"""Occlusion against captum, RISE against the paper in float64."""

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from skimage.transform import resize
from torch import nn

import cam
from cam import kernels
from cam._methods.perturbation.input_masking import draw_grids


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 5),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 23, 18, generator=torch.Generator().manual_seed(1))


def near(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((actual - expected).norm() <= 1e-4 * expected.norm())


@pytest.mark.parametrize("baseline", [0, -1.5])
@pytest.mark.parametrize(("window", "stride"), [(5, 3), (4, 4), (7, 1), (18, 5)])
def test_occlusion_is_captums(window, stride, baseline, network, pictures):
    method = cam.method("occlusion", window=window, stride=stride, baseline=baseline)
    attribution = cam.attribute(network, pictures, method, targets=[3, 1])["occlusion"]
    expected = Occlusion(network).attribute(
        pictures,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=baseline,
        target=torch.tensor([3, 1]),
    )[:, 0]
    assert expected.std() > 1e-3, "a flat map would agree with anything"
    assert near(attribution.raw, expected.float())


def test_occlusion_of_a_photo_is_captums(bundled, batch):
    method = cam.method("occlusion", window=112, stride=56, baseline=1.5)
    attribution = cam.attribute(bundled, batch[1:2], method)["occlusion"]
    expected = Occlusion(bundled.module).attribute(
        batch[1:2],
        sliding_window_shapes=(3, 112, 112),
        strides=(3, 56, 56),
        baselines=1.5,
        target=attribution.targets,
        perturbations_per_eval=3,
    )[:, 0]
    assert near(attribution.raw, expected.float())
    positive = expected.clamp(min=0)
    low, high = positive.min(), positive.max()
    assert high > 1, "a map of nothing would agree with anything"
    assert torch.allclose(attribution.heatmap, ((positive - low) / (high - low)).float(), atol=1e-4)


class Sum(nn.Module):
    """One class: the sum of all levels; the other: nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x.sum((1, 2, 3))
        return torch.stack([total, 0 * total], 1)


def test_occlusion_by_hand():
    """Windows of 2 × 2 at columns 0, 1 of 2 × 3 pixels hide 1+2+4+5 = 12 and 2+3+5+6 = 16."""
    picture = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]]]])
    method = cam.method("occlusion", window=2, stride=1)
    attribution = cam.attribute(Sum().eval(), picture, method, targets=0)["occlusion"]
    assert attribution.raw.tolist() == [[[12.0, 14.0, 16.0]] * 2]
    assert attribution.cost.forwards == 2
    # With 2 in the place of each hidden pixel 8 less is lost; stride 2 cuts the second window off.
    method = cam.method("occlusion", window=2, stride=2, baseline=[2.0])
    attribution = cam.attribute(Sum().eval(), picture, method, targets=0)["occlusion"]
    assert attribution.raw.tolist() == [[[4.0, 4.0, 5.0]] * 2]


@pytest.mark.parametrize("shape", [(23, 18), (14, 14), (9, 30)])
def test_rises_masks_are_the_papers(shape):
    """The authors' generate_masks: skimage's bilinear resize of each grid, cut at its shift.

    But for `mode`: theirs mirrors beyond the centres of the outermost cells.
    """
    grids, shifts, size = draw_grids(20, 4, 0.3, 5, shape)
    cell = np.ceil(np.array(shape) / 4)
    assert size == tuple((4 + 1) * cell)
    drawn = kernels.masked_batch(
        torch.ones(1, *shape, dtype=torch.float64), grids, size=size, shifts=shifts
    )[:, 0]
    for grid, (row, column), mask in zip(grids, shifts.tolist(), drawn, strict=True):
        assert 0 <= row < cell[0] and 0 <= column < cell[1]
        large = resize(grid.double().numpy(), size, order=1, mode="edge", anti_aliasing=False)
        expected = large[row : row + shape[0], column : column + shape[1]]
        assert np.abs(mask.numpy() - expected).max() < 1e-9


def papers_rise(network, picture, target, draws, probability, softmax=True) -> torch.Tensor:
    """The authors' construction in float64, Σ score·mask / N / p, of scores less their mean."""
    grids, shifts, size = draws
    height, width = picture.shape[1:]
    network = network.double()
    scores, masks = [], []
    for grid, (row, column) in zip(grids, shifts.tolist(), strict=True):
        large = resize(grid.double().numpy(), size, order=1, mode="edge", anti_aliasing=False)
        mask = torch.from_numpy(large[row : row + height, column : column + width].copy())
        with torch.no_grad():
            logits = network((picture.double() * mask)[None])[0]
        scores.append((logits.softmax(0) if softmax else logits)[target])
        masks.append(mask)
    network.float()
    mean = torch.stack(scores).mean()
    total = sum((score - mean) * mask for score, mask in zip(scores, masks, strict=True))
    return total / (len(grids) - 1) / probability + mean


@pytest.mark.parametrize(("cells", "probability"), [(7, 0.5), (3, 0.2), (1, 1.0)])
def test_rise_is_the_papers(cells, probability, network, pictures):
    method = cam.method("rise", masks=60, cells=cells, probability=probability, seed=3)
    attribution = cam.attribute(network, pictures, method, targets=[3, 1], batch_size=7)["rise"]
    draws = draw_grids(60, cells, probability, 3, (23, 18))
    for image, target in enumerate([3, 1]):
        expected = papers_rise(network, pictures[image], target, draws, probability)
        assert near(attribution.raw[image].double(), expected)
        if cells > 1:
            scaled = (expected - expected.min()) / (expected.max() - expected.min())
            assert near(attribution.heatmap[image].double(), scaled)


def test_rise_explains_a_callable_as_it_is(network, pictures):
    method = cam.method("rise", masks=40, cells=3)
    attribution = cam.attribute(network, pictures[:1], method, targets=cam.targets.Logit(2))["rise"]
    draws = draw_grids(40, 3, 0.5, 0, (23, 18))
    expected = papers_rise(network, pictures[0], 2, draws, 0.5, softmax=False)
    assert near(attribution.raw[0].double(), expected)


def test_rise_of_a_single_output_is_not_the_softmax_of_one_class(network, pictures):
    single = nn.Sequential(network, nn.Linear(5, 1)).eval()
    attributions = cam.attribute(
        single, pictures[:1], cam.method("rise", masks=40, cells=3), targets=0
    )
    draws = draw_grids(40, 3, 0.5, 0, (23, 18))
    expected = papers_rise(single, pictures[0], 0, draws, 0.5, softmax=False)
    assert near(attributions["rise"].raw[0].double(), expected)


class Corner(nn.Module):
    """Sure of class 0 as far as the upper left quarter of the picture is in view."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x[:, :, :12, :12].mean((1, 2, 3))
        return torch.stack([8 * scores, 0 * scores + 4], 1)


@pytest.mark.parametrize("name", ["rise", "occlusion"])
def test_the_map_is_where_the_evidence_is(name):
    parameters = {"masks": 300, "cells": 4} if name == "rise" else {"window": 6, "stride": 3}
    method = cam.method(name, **parameters)
    heatmap = cam.attribute(Corner().eval(), torch.ones(1, 3, 24, 24), method, targets=0)
    heatmap = heatmap[name].heatmap[0]
    inside = heatmap[:12, :12].mean()
    assert inside > 0.6 and inside > 2 * (heatmap.sum() - heatmap[:12, :12].sum()) / (24**2 - 12**2)


SMALL = [cam.method("rise", masks=50), cam.method("occlusion", window=6, stride=4)]


def test_a_batch_gives_what_its_images_give_one_by_one(network, pictures):
    together = cam.attribute(network, pictures, SMALL, targets=[3, 1], batch_size=11)
    for index, target in enumerate([3, 1]):
        alone = cam.attribute(network, pictures[index : index + 1], SMALL, targets=target)
        for name in together:
            assert near(together[name].raw[index], alone[name].raw[0]), name
            assert near(together[name].heatmap[index], alone[name].heatmap[0]), name


def test_an_image_of_nan_does_not_change_its_neighbour(network, pictures):
    broken = pictures.clone()
    broken[0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attributions = cam.attribute(network, broken, SMALL, targets=[3, 1])
    whole = cam.attribute(network, pictures, SMALL, targets=[3, 1])
    for name in whole:
        assert attributions[name].raw[0].isnan().all()
        assert near(attributions[name].raw[1], whole[name].raw[1])


def test_the_seed_decides_and_torchs_own_generator_is_left_alone(network, pictures):
    def run(seed):
        method = cam.method("rise", masks=30, seed=seed)
        return cam.attribute(network, pictures, method, targets=2)["rise"].raw

    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = run(0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(8)
    assert torch.equal(first, run(0)) and not torch.equal(first, run(1))


class Largest(nn.Module):
    """Remembers the largest batch that it saw."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.batch = network, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batch = max(self.batch, len(x))
        return self.network(x)


@pytest.mark.parametrize("method", SMALL, ids=str)
def test_never_more_than_a_batch_and_the_progress_ends_at_its_total(method, network, pictures):
    reports = []
    watched = Largest(network)
    cam.attribute(watched, pictures, method, batch_size=9, progress=reports.append)
    # Windows of 6 at every 4th of 23 × 18 pixels: 6 × 4 of them.
    total = 2 * (50 if method.name == "rise" else 24)
    assert (reports[0].done, reports[0].total) == (0, total)
    assert (reports[-1].done, reports[-1].total) == (total, total)
    assert watched.batch == 9


@pytest.mark.parametrize("method", SMALL, ids=str)
def test_can_be_cancelled_and_leaves_the_network_as_it_was(method, network, pictures):
    with pytest.raises(cam.Cancelled, match=method.name):
        cam.attribute(network, pictures, method, batch_size=4, progress=lambda p: p.done < 8)
    assert not any(child._forward_hooks for child in network.modules())


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("occlusion", {"window": 0}, "window must be a whole number of at least 1, but is 0"),
        ("occlusion", {"window": 2.5}, "window must be a whole number of at least 1, but is 2.5"),
        ("occlusion", {"window": 19}, "window is 19, but the image has only 23 × 18 pixels"),
        ("occlusion", {"stride": True}, "stride must be a whole number"),
        ("occlusion", {"window": 4, "stride": 5}, "stride is 5, but must be at most its window, 4"),
        ("occlusion", {"baseline": [1.0, 2]}, "baseline does not fit the image"),
        ("occlusion", {"baseline": "blur"}, "a tensor of an image's shape, but is 'blur'"),
        ("rise", {"masks": 0}, "masks must be a whole number of at least 1, but is 0"),
        ("rise", {"cells": -1}, "cells must be a whole number"),
        (
            "rise",
            {"probability": 0},
            "must be a number above 0 and at most 1, but is 0",
        ),
        (
            "rise",
            {"probability": float("nan")},
            "must be a number above 0 and at most 1, but is nan",
        ),
        (
            "rise",
            {"probability": "half"},
            "must be a number above 0 and at most 1, but is 'half'",
        ),
        (
            "rise",
            {"seed": -1},
            "seed must be .* at least 0 and below 2⁶³, but is -1",
        ),
    ],
)
def test_refuses_a_parameter_in_one_sentence(name, parameters, sentence, network, pictures):
    with pytest.raises(cam.MethodError, match=sentence):
        cam.attribute(network, pictures, cam.method(name, **parameters))
