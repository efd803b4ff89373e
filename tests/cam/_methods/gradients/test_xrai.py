"""XRAI against PAIR's saliency: its regions, its segments, and as a whole."""

import sys

import numpy as np
import pytest
import torch
from saliency.core.base import INPUT_OUTPUT_GRADIENTS
from saliency.core.xrai import XRAI, _get_segments_felzenszwalb
from torch import nn

import cam
from cam._methods.gradients.xrai import cover_by_regions, find_segments

NAME = "xrai"


@pytest.fixture(autouse=True, scope="module")
def each_picture_is_segmented_once():
    """Most of these tests' time; some ask for the same pictures again."""
    cache: dict[bytes, torch.Tensor] = {}

    def remembered(picture: torch.Tensor) -> torch.Tensor:
        key = str(picture.shape).encode() + picture.float().numpy().tobytes()
        if key not in cache:
            cache[key] = find_segments(picture)
        return cache[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[cover_by_regions.__module__], "segments", remembered)
        yield


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def pictures(count: int = 2, height: int = 40, width: int = 52) -> torch.Tensor:
    """Patches of colour, so that there is something to segment."""
    coarse = torch.randn(count, 3, 4, 5, generator=torch.Generator().manual_seed(5))
    return nn.functional.interpolate(coarse, (height, width), mode="nearest")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(36, 4),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("least", [1, 50])
def test_regions_grow_as_pairs_do(least):
    generator = torch.Generator().manual_seed(2)
    attribution = torch.randn(30, 40, generator=generator).double()
    corners = torch.randint(0, 25, (40, 2), generator=generator)
    masks = torch.zeros(40, 30, 40, dtype=torch.bool)
    for mask, (row, column) in zip(masks, corners, strict=True):
        mask[row : row + 11, column : column + 9] = True
    expected, _ = XRAI._xrai(attribution.numpy(), list(masks.numpy()), min_pixel_diff=least)
    assert len(np.unique(expected)) > 5
    assert np.allclose(cover_by_regions(attribution, masks, least), expected, atol=1e-12)


def test_segments_are_pairs(batch):
    photo = batch[0, :, 20:180, 30:140].double()
    expected = _get_segments_felzenszwalb(photo.movedim(0, -1).numpy())
    actual = find_segments(photo)
    assert len(actual) == len(expected) > 20
    assert np.array_equal(actual, np.stack(expected))


class Linear(nn.Module):
    """A score that is linear, for which any number of steps integrates exactly."""

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(2, 3, 40, 52, generator=torch.Generator().manual_seed(1)).double()
        kernel = torch.ones(6, 1, 7, 7).double()
        smooth = nn.functional.conv2d(weight.view(1, 6, 40, 52), kernel, padding=3, groups=6)
        self.weight = nn.Parameter(smooth.view(2, 3, 40, 52))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bchw,kchw->bk", x, self.weight)


def test_it_is_pairs_on_a_linear_score():
    network, batch = Linear(), pictures().double()
    attribution = cam.attribute(network, batch, cam.method(NAME, steps=2), targets=[1, 0])[NAME]
    for image, target in enumerate([1, 0]):

        def call(pictures, call_model_args=None, expected_keys=None, target=target):
            gradient = network.weight[target].detach().movedim(0, -1).numpy()
            return {INPUT_OUTPUT_GRADIENTS: np.repeat(gradient[None], len(pictures), 0)}

        expected = torch.from_numpy(XRAI().GetMask(batch[image].movedim(0, -1).numpy(), call))
        assert len(expected.unique()) > 5
        assert error(attribution.raw[image : image + 1].double(), expected[None]) <= 1e-5
        low, high = expected.min(), expected.max()
        heatmap = (expected - low) / (high - low)
        assert error(attribution.heatmap[image : image + 1].double(), heatmap[None]) <= 1e-5


def test_the_region_of_the_evidence_comes_first():
    """A score that reads a red rectangle and nothing else."""

    class Reads(nn.Module):
        def forward(self, x):
            score = x[:, 0, 10:30, 12:40].mean((1, 2))
            return torch.stack([score, -score], 1)

    batch = torch.zeros(1, 3, 48, 64)
    batch[:, 0, 10:30, 12:40] = 1
    attribution = cam.attribute(Reads().eval(), batch, cam.method(NAME, steps=4), targets=0)[NAME]
    inside = torch.zeros(48, 64, dtype=torch.bool)
    inside[15:25, 17:35] = True
    assert attribution.heatmap[0][inside].min() > 0.99
    # Regions are widened by five pixels, and of what overlaps the first takes all.
    wide = torch.zeros(48, 64, dtype=torch.bool)
    wide[3:37, 5:47] = True
    assert attribution.heatmap[0][~wide].max() < 0.01


def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone():
    network, batch, method = small(), pictures(), cam.method(NAME, steps=4)
    together = cam.attribute(network, batch, method, targets=[2, 0])[NAME]
    for image, target in enumerate([2, 0]):
        alone = cam.attribute(network, batch[image : image + 1], method, target)[NAME]
        assert torch.equal(together.raw[image], alone.raw[0])
    batch[0, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, batch, method, targets=[2, 0])[NAME]
    assert attribution.raw[0].isnan().all() and torch.equal(attribution.raw[1], together.raw[1])


def test_pictures_of_one_colour_or_few_pixels_give_a_flat_map():
    for batch in (torch.ones(1, 3, 40, 40), torch.randn(1, 3, 6, 5)):
        attribution = cam.attribute(small(), batch, cam.method(NAME, steps=2), targets=0)[NAME]
        assert attribution.raw.isfinite().all() and attribution.heatmap.isfinite().all()


def test_cost_progress_and_precision():
    network, batch, method = small().requires_grad_(False), pictures(), cam.method(NAME, steps=3)
    reports: list[cam.Progress] = []
    attribution = cam.attribute(network, batch, method, targets=1, progress=reports.append)[NAME]
    assert (attribution.cost.forwards, attribution.cost.backwards) == (5, 4)
    assert reports[-1].done == reports[-1].total == 12
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), method, lambda y: y[1])[NAME]
    assert torch.corrcoef(torch.stack([half.raw.flatten(), attribution.raw.flatten()]))[0, 1] > 0.8


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"least": 0}, {"least": 2.5}], ids=str)
def test_wrong_parameters_are_named(wrong):
    [parameter] = wrong
    with pytest.raises(cam.MethodError, match=f"^xrai's {parameter} must be a whole number"):
        cam.attribute(small(), pictures(1), cam.method(NAME, **wrong))
