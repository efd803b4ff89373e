"""ROAD: against pytorch-grad-cam's and a dense solution, and by hand."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from torch import nn

import cam
from cam._metrics.base.map_ranking import ranks
from cam._metrics.faithfulness.imputation import impute
from tests.support.networks import Weighted


def dense(image: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
    """The system written down pixel by pixel, in float64."""
    height, width = removed.shape
    holes = removed.nonzero().tolist()
    matrix = torch.zeros(len(holes), len(holes), dtype=torch.float64)
    right = torch.zeros(len(holes), len(image), dtype=torch.float64)
    for row, (y, x) in enumerate(holes):
        for down in (-1, 0, 1):
            for along in (-1, 0, 1):
                j, i = y + down, x + along
                if (down, along) == (0, 0) or not (0 <= j < height and 0 <= i < width):
                    continue
                weight = 1 / 6 if 0 in (down, along) else 1 / 12
                matrix[row, row] += weight
                if removed[j, i]:
                    matrix[row, holes.index([j, i])] -= weight
                else:
                    right[row] += weight * image[:, j, i].double()
    solution = image.double().clone()
    solution[:, removed] = torch.linalg.solve(matrix, right).T
    return solution


def smooth(seed: int, *shape: int) -> torch.Tensor:
    rough = torch.rand(*shape[:-2], 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(rough.view(-1, 1, 4, 4), shape[-2:], mode="bilinear").view(
        shape
    )


@pytest.mark.parametrize("shape", [(16, 16), (13, 9), (2, 5), (1, 6), (17, 3)])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["scattered", "in one piece"])
def test_is_the_solution_of_the_system(shape, share, kind):
    images = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(2))
    if kind == "scattered":
        maps = torch.rand(3, *shape, generator=torch.Generator().manual_seed(3))
    else:
        maps = smooth(3, 3, *shape)
    count = min(round(share * maps[0].numel()), maps[0].numel() - 1)
    removed = ranks(maps) < count
    filled_images = impute(images, removed, 1e-7)
    for image, holes, filled in zip(images, removed, filled_images, strict=True):
        assert torch.allclose(filled.double(), dense(image, holes), atol=1e-5)
        assert torch.equal(filled[:, ~holes], image[:, ~holes])


@pytest.mark.parametrize("kind", ["scattered", "in one piece"])
def test_imputation_is_grad_cams_on_a_photo(kind, batch):
    maps = torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(4))
    maps = maps if kind == "scattered" else smooth(5, 3, 224, 224)
    removed = ranks(maps) < 224 * 224 // 2
    peer = NoisyLinearImputer(noise=0)
    expected = peer(batch[0], (~removed[0]).float())
    exact = impute(batch[:1], removed[:1], 1e-6)[0]
    assert (exact - expected).norm() <= 1e-4 * expected.norm()
    # As precise as ROAD asks for, and far below its noise of 0.01.
    usual = impute(batch[:1], removed[:1], 5e-4)[0]
    assert (usual - expected).abs().max() < 4e-3


def test_a_constant_stays_constant_and_extremes_stay_inside():
    removed = ranks(torch.rand(2, 40, 30, generator=torch.Generator().manual_seed(6))) < 1000
    filled = impute(torch.full((2, 3, 40, 30), 0.7), removed)
    assert torch.allclose(filled, torch.tensor(0.7), atol=1e-4)
    noise = torch.rand(2, 3, 40, 30, generator=torch.Generator().manual_seed(7))
    filled = impute(noise, removed, 1e-6)
    assert filled.min() >= -1e-5 and filled.max() <= 1 + 1e-5


def test_one_system_does_not_change_another():
    images = torch.randn(20, 3, 24, 24, generator=torch.Generator().manual_seed(8))
    maps = smooth(9, 20, 24, 24)
    removed = ranks(maps) < torch.linspace(50, 500, 20).view(-1, 1, 1)
    images[3, 0, 5, 5] = torch.nan
    removed[3, 5, 5] = False
    filled = impute(images, removed)
    assert filled[3, 0].isnan().any()
    for index in (0, 2, 4, 19):
        alone = impute(images[index : index + 1], removed[index : index + 1])
        assert torch.allclose(filled[index], alone[0], atol=1e-5)
    exact = impute(images[4:5].double(), removed[4:5], 1e-10)
    assert torch.allclose(filled[4].double(), exact[0], atol=1e-3)


def test_by_hand_without_noise():
    """Of four pixels of which p is the first's share: removed, it is what its neighbours say.

    One pixel removed, then two. First the most important, (0, 0): a mean of its three neighbours,
    with 2/5, 2/5 and 1/5. Two: (0, 0) and (0, 1), with weights 1/6 beside and 1/12 across.
    """
    network = Weighted([[1.0, 0.0], [0.0, 0.0]])
    picture = torch.tensor([[[[0.9, 0.2], [0.4, 0.6]]]])
    heat = torch.tensor([[[0.9, 0.8], [0.5, 0.1]]])
    options = {"noise": 0, "shares": (0.25, 0.5)}
    one_removed = 0.4 * 0.2 + 0.4 * 0.4 + 0.2 * 0.6
    # a = 0.4 b + 0.4·0.4 + 0.2·0.6, b = 0.4 a + 0.4·0.6 + 0.2·0.4
    two_removed = (0.28 + 0.4 * 0.32) / (1 - 0.16)
    morf = cam.metric("road_morf", **options)(network, picture, heat, 0).item()
    assert morf == pytest.approx((one_removed + two_removed) / 2, abs=1e-3)
    # The least important are elsewhere, and what counts stays.
    lerf = cam.metric("road_lerf", **options)(network, picture, heat, 0).item()
    assert lerf == pytest.approx(0.9, abs=1e-6)
    both = cam.metric("road", **options)(network, picture, heat, 0).item()
    assert both == pytest.approx((lerf - morf) / 2, abs=1e-6)


def bright_centre() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """What counts is a bright square; a map of it."""
    mask = torch.zeros(20, 20)
    mask[6:12, 6:12] = 1
    picture = 0.9 * mask[None, None] + 0.05
    return Weighted(mask / mask.sum()), picture, mask[None]


def test_perfect_adversarial_and_random_maps():
    network, picture, mask = bright_centre()
    noisy = torch.rand(30, 20, 20, generator=torch.Generator().manual_seed(0))
    metric = cam.metric("road")
    perfect = metric(network, picture, mask + 0.1 * noisy[:1], 0).item()
    adversarial = metric(network, picture, 0.1 * noisy[:1] - mask, 0).item()
    chance = metric(network, picture.expand(30, -1, -1, -1), noisy, 0)
    assert perfect > 0.3 and adversarial == pytest.approx(-perfect, abs=0.02)
    assert abs(chance.mean().item()) < 4 * chance.std().item() / 30**0.5 < 0.03
    assert chance.max() < perfect / 3


def test_ties_never_remove_all_pixels():
    """Of a map with one value a threshold would remove all of them, or none."""
    network, picture, _ = bright_centre()
    removed = []

    class Counting(nn.Module):
        def forward(self, x):
            removed.extend((x != picture).flatten(1).sum(1).tolist())
            return network(x)

    cam.metric("road_morf")(Counting(), picture, torch.full((1, 20, 20), 0.5), 0)
    assert removed == [0, *range(40, 400, 40)]


def test_the_noise_has_its_size_and_its_seed():
    network, picture, mask = bright_centre()
    batches = []

    class Keeping(nn.Module):
        def forward(self, x):
            batches.append(x)
            return network(x)

    heat = mask + torch.linspace(0, 0.1, 400).view(1, 20, 20)
    for noise, seed in ((0, 0), (0.05, 0), (0.05, 0), (0.05, 1)):
        cam.metric("road_morf", shares=(0.5,), noise=noise, seed=seed)(Keeping(), picture, heat, 0)
    without, first, again, other = batches[1::2]
    assert torch.equal(first, again) and not torch.equal(first, other)
    removed = ranks(heat)[None] < 200
    assert (first - without)[removed].std().item() == pytest.approx(0.05, rel=0.15)
    assert torch.equal(first[~removed], picture[~removed])


@pytest.mark.slow
def test_is_grad_cams_on_a_photo(bundled, batch):
    """Up to the noise, which grad-cam draws without a seed, and its thresholds."""
    maps = cam.attribute(bundled, batch[:1], "gradcam", targets=281)["gradcam"].heatmap
    # No two pixels the same, or grad-cam's percentiles cut elsewhere.
    maps = maps + 1e-4 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    actual = cam.metric("road")(bundled, batch[:1], maps, 281).item()
    target = [ClassifierOutputSoftmaxTarget(281)]
    with torch.no_grad():
        expected = ROADCombined()(batch[:1], maps.numpy(), target, bundled.module)
    assert actual == pytest.approx(float(np.asarray(expected).item()), abs=0.01)
