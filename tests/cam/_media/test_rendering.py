"""An overlay is matplotlib's colours, blended with the picture."""

import re

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

import cam

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
HEATMAP = torch.rand(48, 60, generator=torch.Generator().manual_seed(0))


def blended(photo: np.ndarray, heatmap: np.ndarray, colormap: str, alpha: float) -> np.ndarray:
    colours = matplotlib.colormaps[colormap](heatmap, bytes=True)[..., :3]
    return (1 - alpha) * photo + alpha * colours.astype(float)


def refusal(*arguments: object, **options: object) -> str:
    with pytest.raises(cam.InputError) as caught:
        cam.overlay(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert not re.search(r"[.!?] [A-Z]", text), "more than one sentence"
    return text


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
@pytest.mark.parametrize("colormap", ["turbo", "viridis", "jet"])
def test_a_picture_gives_a_picture(colormap, alpha):
    image = cam.overlay(Image.fromarray(PHOTO), HEATMAP, colormap, alpha)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (60, 48))
    truth = blended(PHOTO, HEATMAP.numpy(), colormap, alpha)
    assert np.abs(np.asarray(image) - truth).max() <= 0.5 + 1e-4


def test_the_defaults_are_turbo_at_one_half():
    image = cam.overlay(Image.fromarray(PHOTO), HEATMAP)
    truth = blended(PHOTO, HEATMAP.numpy(), "turbo", 0.5)
    assert np.abs(np.asarray(image) - truth).max() <= 0.5


@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray], ids=["tensor", "array"])
def test_a_batch_gives_a_batch(kind):
    pictures = np.stack([PHOTO, 255 - PHOTO])
    heatmaps = torch.stack([HEATMAP, 1 - HEATMAP])
    result = cam.overlay(kind(pictures), heatmaps, alpha=0.5)
    assert isinstance(result, torch.Tensor)
    assert (result.dtype, result.shape) == (torch.uint8, (2, 48, 60, 3))
    for result_picture, picture, heatmap in zip(result, pictures, heatmaps, strict=True):
        truth = blended(picture, heatmap.numpy(), "turbo", 0.5)
        assert np.abs(result_picture.numpy() - truth).max() <= 0.5


def test_a_small_heatmap_is_brought_to_the_pictures_size():
    """OpenCV's bilinear interpolation lies between pixel centres too."""
    small = HEATMAP[:7, :9].contiguous()
    image = cam.overlay(Image.fromarray(PHOTO), small, "gray", alpha=1)
    large = cv2.resize(small.numpy(), (60, 48), interpolation=cv2.INTER_LINEAR)
    truth = blended(PHOTO, large, "gray", 1)
    # OpenCV rounds its weights, and a value at the edge of a colour may fall to its neighbour.
    assert np.abs(np.asarray(image) - truth).max() <= 1


def test_colours_may_end_at_a_percentile():
    """Each map's own: what lies above takes the last colour."""
    heatmaps = torch.stack([HEATMAP**4, HEATMAP**4 / 10])
    pictures = torch.from_numpy(np.stack([PHOTO, PHOTO]))
    result = cam.overlay(pictures, heatmaps, "viridis", 1, percentile=90)
    for result_picture, heatmap in zip(result.numpy(), heatmaps.numpy(), strict=True):
        end = np.percentile(heatmap.astype(float), 90)
        truth = matplotlib.colormaps["viridis"](heatmap / end, bytes=True)[..., :3]
        # A value between two colours may fall to either.
        assert (result_picture == truth).all(-1).mean() > 0.999


def test_what_is_below_the_threshold_shows_the_picture():
    """The value that the colour stands for: here each map is scaled by its own percentile."""
    heatmaps = torch.stack([HEATMAP**2, HEATMAP**2 / 10])
    pictures = torch.from_numpy(np.stack([PHOTO, PHOTO]))
    result = cam.overlay(pictures, heatmaps, "viridis", 0.5, percentile=90, threshold=0.3)
    for result_picture, heatmap in zip(result.numpy(), heatmaps.numpy(), strict=True):
        value = heatmap / np.percentile(heatmap.astype(float), 90)
        hidden = value < 0.3
        assert 0.2 < hidden.mean() < 0.8
        assert np.array_equal(result_picture[hidden], PHOTO[hidden])
        truth = blended(PHOTO, value, "viridis", 0.5)
        beside = np.abs(result_picture - truth).max(-1) > 0.5  # a value between two colours
        assert beside[~hidden].mean() < 0.001


@pytest.mark.parametrize(("percentile", "threshold"), [(100, 0), (100, 0.25), (80, 0), (80, 0.25)])
def test_a_signed_heatmap_has_its_zero_in_the_middle(percentile, threshold):
    """Mostly negative: a percentile of the values, not of their size, would be another one."""
    signed = (HEATMAP * 2 - 1.4) / 1.4
    image = cam.overlay(
        Image.fromarray(PHOTO),
        signed,
        "RdBu_r",
        0.75,
        percentile=percentile,
        threshold=threshold,
        signed=True,
    )
    values = signed.numpy().astype(float)
    end = np.percentile(np.abs(values), percentile) if percentile < 100 else 1
    values = np.clip(values / end, -1, 1)
    truth = blended(PHOTO, (values + 1) / 2, "RdBu_r", 0.75)
    hidden = np.abs(values) < threshold
    truth[hidden] = PHOTO[hidden]
    # A value between two colours may fall to either.
    assert (np.abs(np.asarray(image) - truth).max(-1) <= 0.5).mean() > 0.999


@pytest.mark.parametrize("signed", [False, True], ids=["for", "signed"])
@pytest.mark.parametrize("alpha", [0, 0.4, 1])
def test_opacity_may_follow_the_evidence(alpha, signed):
    heatmap = HEATMAP * 2 - 1 if signed else HEATMAP.clone()
    heatmap[:5], heatmap[5, 5] = 0, torch.nan
    look = {"percentile": 90, "threshold": 0.2, "signed": signed, "fade": True}
    drawn = cam.overlay(Image.fromarray(PHOTO), heatmap, "RdBu_r", alpha, **look)
    values = heatmap.double().numpy()
    sizes = np.abs(values)
    end = np.nanquantile(sizes, 0.9)
    share = np.clip(values / end, -1 if signed else 0, 1)
    colours = matplotlib.colormaps["RdBu_r"](
        np.nan_to_num((share + 1) / 2 if signed else share), bytes=True
    )[..., :3]
    opacity = alpha * np.where(sizes >= 0.2 * end, np.abs(share), 0)[..., None]
    truth = (1 - opacity) * PHOTO + opacity * colours
    off = np.abs(np.asarray(drawn) - truth)
    # float32 may take the colour beside at its edge.
    assert (off <= 0.5 + 1e-3).mean() > 0.999 and off.max() < 8
    assert (np.asarray(drawn)[:5] == PHOTO[:5]).all()


def test_a_faded_batch_of_small_maps_is_as_its_pictures():
    pictures = np.stack([PHOTO, 255 - PHOTO])
    heatmaps = torch.stack([HEATMAP, 1 - HEATMAP])[:, :6, :7]
    together = cam.overlay(pictures, heatmaps, alpha=0.7, fade=True)
    for drawn, picture, heatmap in zip(together, pictures, heatmaps, strict=True):
        alone = cam.overlay(Image.fromarray(picture), heatmap, alpha=0.7, fade=True)
        assert (drawn.numpy() == np.asarray(alone)).all()
    assert "alpha" in refusal(pictures, heatmaps, alpha=1.2, fade=True)


def test_a_heatmap_and_its_negative_have_mirrored_colours():
    values = torch.linspace(-1, 1, 255).view(1, 1, -1)
    black = torch.zeros(1, 1, 255, 3, dtype=torch.uint8)
    ahead, behind = (
        cam.overlay(black, heatmap, "gray", 1, percentile=90, signed=True).int()
        for heatmap in (values, -values)
    )
    assert (ahead + behind - 255).abs().max() <= 1  # a value between two colours takes the upper
    assert ahead[0, 0, 0, 0] < 128 < ahead[0, 0, -1, 0]


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_a_picture_of_any_mode(mode):
    photo = Image.fromarray(PHOTO).convert(mode)
    image = cam.overlay(photo, HEATMAP[None], alpha=0)
    assert np.array_equal(np.asarray(image), np.asarray(photo.convert("RGB")))
    assert photo.mode == mode


def test_an_array_is_a_heatmap_too():
    image = cam.overlay(Image.fromarray(PHOTO), HEATMAP.numpy())
    truth = blended(PHOTO, HEATMAP.numpy(), "turbo", 0.5)
    assert np.abs(np.asarray(image) - truth).max() <= 0.5


BATCH = torch.from_numpy(PHOTO)[None]


@pytest.mark.parametrize(
    ("image", "heatmap", "options", "phrase"),
    [
        (BATCH, HEATMAP[None], {"colormap": "turbu"}, "turbo"),
        (BATCH, HEATMAP[None], {"alpha": 1.5}, "1.5"),
        (BATCH, HEATMAP[None], {"alpha": float("nan")}, "nan"),
        (BATCH, HEATMAP[None], {"percentile": 0}, "0"),
        (BATCH, HEATMAP[None], {"percentile": 101}, "101"),
        (BATCH, HEATMAP[None], {"percentile": float("nan")}, "nan"),
        (BATCH, HEATMAP[None], {"threshold": -0.1}, "-0.1"),
        (BATCH, HEATMAP[None], {"threshold": 1.5}, "1.5"),
        (BATCH, HEATMAP[None], {"threshold": float("nan")}, "threshold"),
        (BATCH, HEATMAP[None], {"signed": "no"}, "'no'"),
        (BATCH, HEATMAP, {}, "(48, 60)"),
        (BATCH, HEATMAP[None].repeat(2, 1, 1), {}, "2 heatmaps"),
        (BATCH, (HEATMAP[None] * 255).to(torch.uint8), {}, "torch.uint8"),
        (BATCH[0], HEATMAP[None], {}, "(48, 60, 3)"),
        (BATCH.permute(0, 3, 1, 2), HEATMAP[None], {}, "(1, 3, 48, 60)"),
        (BATCH.float(), HEATMAP[None], {}, "torch.float32"),
        (BATCH, torch.zeros(1, 0, 5), {}, "(1, 0, 5)"),
        (Image.fromarray(PHOTO), HEATMAP[None].repeat(3, 1, 1), {}, "3 heatmaps"),
        (Image.fromarray(PHOTO), HEATMAP[0], {}, "(60,)"),
    ],
    ids=[
        "colour-map",
        "alpha",
        "alpha-nan",
        "percentile-low",
        "percentile-high",
        "percentile-nan",
        "threshold-low",
        "threshold-high",
        "threshold-nan",
        "signed",
        "no-batch-of-maps",
        "more-maps-than-pictures",
        "integer-map",
        "no-batch-of-pictures",
        "channels-first",
        "float-pictures",
        "empty-map",
        "maps-for-one-picture",
        "row-for-a-picture",
    ],
)
def test_what_does_not_fit_is_refused(image, heatmap, options, phrase):
    assert phrase in refusal(image, heatmap, **options)
