"""overlay and its colour tables against matplotlib, and against bilinear sampling in float64."""

import matplotlib
import numpy as np
import pytest
import torch

import kernels
from kernels.colormaps import FILE, colormap_table
from tests.kernels.layers import DEVICE


def pictures(b, h, w, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (b, h, w, 3), generator=generator, dtype=torch.uint8).to(DEVICE)


def heat(b, h, w, seed=1):
    return torch.rand(b, h, w, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def painted(name, values):
    """What matplotlib makes of values in float32, as bytes."""
    return matplotlib.colormaps[name](values, bytes=True)[..., :3]


def bilinear64(values, height, width):
    """Sample (h, w) at the pixel centres of (height, width), edges held."""
    for axis, size in enumerate((height, width)):
        old = values.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        below = np.floor(at).astype(int)
        above = np.minimum(below + 1, old - 1)
        share = (at - below).reshape((-1, 1) if axis == 0 else (1, -1))
        values = values.take(below, axis) * (1 - share) + values.take(above, axis) * share
    return values


def test_the_tables_are_matplotlibs():
    lines = dict(line.split(" ") for line in FILE.read_text().splitlines())
    assert tuple(lines) == kernels.COLORMAPS
    for name in kernels.COLORMAPS:
        table = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3]
        assert lines[name] == table.tobytes().hex()
        assert np.array_equal(colormap_table(name).numpy(), table)


def test_a_table_is_read_once():
    assert colormap_table("jet") is colormap_table("jet")


@pytest.mark.parametrize("name", kernels.COLORMAPS)
def test_colours_as_matplotlib_does(name):
    edges = torch.arange(257, dtype=torch.float32) / 256
    values = torch.cat(
        [edges, edges.nextafter(torch.tensor(-1.0)).clamp(min=0), heat(1, 1, 500)[0, 0].cpu()]
    )
    values = values.view(1, 1, -1)
    images = torch.zeros(1, 1, values.shape[-1], 3, dtype=torch.uint8)
    found = kernels.overlay(images.to(DEVICE), values.to(DEVICE), name, alpha=1)
    assert np.array_equal(found.cpu().numpy(), painted(name, values.numpy()))


@pytest.mark.parametrize("alpha", [0, 0.25, 0.5, 1])
def test_blends(alpha):
    images, heatmaps = pictures(2, 9, 7), heat(2, 9, 7)
    found = kernels.overlay(images, heatmaps, "viridis", alpha)
    colour = painted("viridis", heatmaps.cpu().numpy()).astype(float)
    truth = np.round((1 - alpha) * images.cpu().numpy() + alpha * colour)  # exact: a power of two
    assert found.dtype == torch.uint8
    assert np.array_equal(found.cpu().numpy(), truth)


@pytest.mark.parametrize("size", [(4, 6), (7, 7), (1, 1), (30, 50)])
def test_brings_heatmaps_to_the_size_of_the_images(size):
    """In gray the table is the identity, so the picture shows what was sampled."""
    images, heatmaps = pictures(2, 23, 31), heat(2, *size)
    found = kernels.overlay(images, heatmaps, "gray", alpha=1)
    for one, values in zip(found.cpu().numpy(), heatmaps.double().cpu().numpy(), strict=True):
        sampled = bilinear64(values, 23, 31) * 256
        clear = np.abs(sampled - np.round(sampled)) > 1e-3  # float32 may fall beside an edge
        assert clear.mean() > 0.9 or size == (1, 1)
        index = np.minimum(sampled.astype(int), 255)
        assert np.array_equal(one[clear], painted("gray", index)[clear])


def test_leaves_the_image_where_the_heatmap_is_nan():
    images, heatmaps = pictures(2, 5, 5), heat(2, 5, 5)
    whole = kernels.overlay(images, heatmaps)
    heatmaps[0, 1, 2] = torch.nan
    heatmaps[1] = torch.nan
    found = kernels.overlay(images, heatmaps)
    assert torch.equal(found[1], images[1])
    assert torch.equal(found[0, 1, 2], images[0, 1, 2])
    found[0, 1, 2] = whole[0, 1, 2]
    assert torch.equal(found[0], whole[0])


def test_takes_the_nearer_end_outside_the_range():
    images = pictures(1, 1, 4)
    beyond = torch.tensor([[[-0.5, 1.5, -torch.inf, torch.inf]]], device=DEVICE)
    ends = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]], device=DEVICE)
    assert torch.equal(kernels.overlay(images, beyond), kernels.overlay(images, ends))


def test_leaves_its_arguments_alone():
    images, heatmaps = pictures(1, 5, 5), heat(1, 3, 3)
    before = images.clone(), heatmaps.clone()
    kernels.overlay(images, heatmaps).zero_()
    assert torch.equal(images, before[0])
    assert torch.equal(heatmaps, before[1])


IMAGE, HEAT = torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.zeros(1, 2, 2)


@pytest.mark.parametrize(
    ("images", "heatmaps", "options", "sentence"),
    [
        (IMAGE.float(), HEAT, {}, r"images must be uint8 of shape \(B, H, W, 3\)"),
        (IMAGE.permute(0, 3, 1, 2), HEAT, {}, r"of shape \(1, 3, 4, 4\)"),
        (IMAGE, HEAT[0], {}, r"floating point of shape \(B, h, w\)"),
        (IMAGE, HEAT.int(), {}, "heatmaps must be floating point"),
        (IMAGE, HEAT.expand(2, 2, 2), {}, "2 heatmaps and 1 images"),
        (IMAGE, HEAT[:, :0], {}, "at least one pixel"),
        (IMAGE, HEAT.to("meta"), {}, "but are on meta"),
        (IMAGE, HEAT, {"colormap": "turbo2"}, "Did you mean 'turbo'"),
        (IMAGE, HEAT, {"alpha": 1.5}, "between 0 and 1, but is 1.5"),
        (IMAGE, HEAT, {"alpha": float("nan")}, "between 0 and 1, but is nan"),
    ],
)
def test_says_what_is_wrong(images, heatmaps, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        kernels.overlay(images, heatmaps, **options)
