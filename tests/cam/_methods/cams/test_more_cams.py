"""Further CAMs against grad-cam, torchcam, formulas and by hand."""

import sys

import numpy as np
import pytest
import torch
from pytorch_grad_cam import FEM, KPCA_CAM, RandomCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchcam import methods as torchcam

import cam
from tests.support.networks import Curved, Pooled, conv, near, pictures

TARGETS = [3, 1]


def ours(network, name, layer="2", targets=TARGETS, **parameters) -> cam.Attribution:
    method = cam.method(name, **parameters)
    return cam.attribute(network, pictures(), method, targets=targets, layers=layer)[name]


def theirs(peer, network, layer="2", **options) -> tuple[torch.Tensor, torch.Tensor]:
    """grad-cam's heatmap, and its map before ReLU at the layer's size."""
    maps = []
    with peer(network, [network.get_submodule(layer)], **options) as explainer:
        original = explainer.get_cam_image
        explainer.get_cam_image = lambda *a, **k: maps.append(original(*a, **k)) or maps[-1]
        heatmap = explainer(pictures(), [ClassifierOutputTarget(index) for index in TARGETS])
    return torch.from_numpy(heatmap), torch.from_numpy(np.asarray(maps[0]))


def activations(network, layer="2") -> torch.Tensor:
    outputs = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: outputs.append(output.detach().clone())
    )
    with torch.no_grad():
        network(pictures())
    handle.remove()
    return outputs[0]


# KPCA-CAM.


@pytest.mark.parametrize("kernel", ["sigmoid", "poly", "rbf", "cosine", "linear"])
@pytest.mark.parametrize("gamma", [None, 0.4])
def test_kpcacam_is_grad_cams_up_to_its_direction(kernel, gamma):
    network = Pooled()
    actual = ours(network, "kpcacam", kernel=kernel, gamma=gamma).raw
    _, expected = theirs(KPCA_CAM, network, kernel=kernel, gamma=gamma)
    for map_, other in zip(actual, expected, strict=True):
        assert near(map_, other) or near(-map_, other)


def test_kpcacam_with_a_linear_kernel_is_eigencam():
    network = Pooled()
    expected = ours(network, "eigencam").raw
    assert near(ours(network, "kpcacam", kernel="linear").raw, expected)


@pytest.mark.parametrize("kernel", ["sigmoid", "poly", "rbf", "cosine"])
def test_kpcacam_of_a_large_layer_is_found_step_by_step(kernel, monkeypatch):
    network = Pooled()
    expected = ours(network, "kpcacam", kernel=kernel).raw
    monkeypatch.setattr(sys.modules["cam._methods.cams.projection_cam"], "LARGE", 16)
    whole = torch.linalg.eigh

    def small(matrix: torch.Tensor, **options: str):
        assert len(matrix) < 16
        return whole(matrix, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", small)
        assert near(ours(network, "kpcacam", kernel=kernel).raw, expected, 1e-6)
    # Where it leads nowhere, as from a start of zeros, all are computed.
    network[2][0].weight.data[1::2] = -network[2][0].weight.data[::2]
    blank = torch.zeros(1, 3, 20, 14)
    attributions = cam.attribute(network, blank, cam.method("kpcacam", kernel=kernel), layers="2")
    assert attributions["kpcacam"].raw.isfinite().all()


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf"])
def test_kpcacam_shows_the_direction_in_which_the_channels_grow(kernel):
    several = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    method, network = cam.method("kpcacam", kernel=kernel), Pooled()
    raw = cam.attribute(network, several, method, layers="0")["kpcacam"].raw
    summed = network[0](several).sum(1).detach()
    assert ((raw * (summed - summed.mean((1, 2), keepdim=True))).sum((1, 2)) > 0).all()


# FEM.


@pytest.mark.parametrize("sigmas", [2, 1, 0.5])
def test_fem_is_grad_cams(sigmas):
    network = Pooled()
    actual = ours(network, "fem", sigmas=sigmas, sum_of="maps")
    heatmap, raw = theirs(FEM, network, k=sigmas)
    assert raw.std() > 0
    assert near(actual.raw, raw) and near(actual.heatmap, heatmap)


def test_fem_of_masks_is_the_papers():
    network = Pooled()
    expected = torch.zeros(2, 10, 7)
    for image, maps in enumerate(activations(network).numpy()):
        for map_ in maps:
            expected[image] += torch.from_numpy(map_.mean() * (map_ > map_.mean() + map_.std()))
    assert near(ours(network, "fem", sigmas=1).raw, expected)


# CAM.


def test_cam_is_torchcams():
    network = Pooled()
    with torchcam.CAM(network, "2", "5") as peer:
        with torch.no_grad():
            network(pictures())
        (expected,) = peer(TARGETS)
    actual = ours(network, "cam")
    positive = actual.raw.clamp(min=0)
    low, high = positive.amin((1, 2), keepdim=True), positive.amax((1, 2), keepdim=True)
    # The peer does not cut off what is negative.
    signed = actual.raw - actual.raw.amin((1, 2), keepdim=True)
    assert near(signed / signed.amax((1, 2), keepdim=True), expected)
    scaled = nn.functional.interpolate(
        ((positive - low) / (high - low))[:, None], (20, 14), mode="bilinear"
    )[:, 0]
    scaled = scaled - scaled.amin((1, 2), keepdim=True)
    assert near(actual.heatmap, scaled / scaled.amax((1, 2), keepdim=True))


@pytest.mark.parametrize(
    "targets", [TARGETS, cam.targets.Contrast(3, 1)], ids=["class", "contrast"]
)
def test_cam_is_gradcam_where_a_mean_and_one_layer_follow(targets):
    network = Pooled()
    actual, other = (ours(network, name, targets=targets) for name in ("cam", "gradcam"))
    assert near(actual.raw, other.raw * 70)  # 10 · 7 places
    assert near(actual.heatmap, other.heatmap)


def test_cam_is_gradcam_on_the_bundled_model(bundled, batch):
    attributions = cam.attribute(bundled, batch, ["cam", "gradcam"])
    assert near(attributions["cam"].heatmap, attributions["gradcam"].heatmap)


@pytest.mark.parametrize(("network", "layer"), [(Pooled(), "0"), (Curved(), "0"), (Curved(), "2")])
def test_cam_refuses_what_has_no_such_head(network, layer):
    with pytest.raises(cam.MethodError, match=r"linear layer of the mean of layer '\d', and they"):
        ours(network, "cam", layer)


def test_cam_takes_a_convolution_for_a_classifier():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Identity(), nn.Identity(), conv(3, 8), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 6, 1)
    )
    network = nn.Sequential(*network, nn.Flatten()).eval()
    assert near(ours(network, "cam").raw, ours(network, "gradcam").raw * 280)


def test_cam_knows_its_head_in_half_precision_too(bundled, batch):
    expected = cam.attribute(bundled, batch, "cam")["cam"]
    attribution = cam.attribute(bundled, batch, "cam", targets=expected.targets, precision="bf16")[
        "cam"
    ]
    assert attribution.precision == "bf16"
    assert near(attribution.heatmap, expected.heatmap, 0.2)


# Random CAM.


def test_randomcam_is_grad_cams_with_the_same_weights(monkeypatch):
    network = Pooled()
    actual = ours(network, "randomcam", seed=7)
    # What it drew, read off by least squares: 70 places, 8 channels.
    maps = activations(network).flatten(2).transpose(1, 2).double()
    weights = torch.linalg.lstsq(maps, actual.raw.flatten(1)[..., None].double()).solution[..., 0]
    live = maps.abs().sum(1) > 0
    # Each picture has its own: a chance that is drawn once is one map's luck.
    assert (weights[0] - weights[1])[live.all(0)].abs().max() > 0.1
    assert weights.abs().max() <= 1 and weights[live].unique().numel() > 4
    monkeypatch.setattr(np.random, "uniform", lambda *_, **__: weights.float().numpy())
    heatmap, raw = theirs(RandomCAM, network)
    assert near(actual.raw, raw) and near(actual.heatmap, heatmap)


def test_randomcam_depends_on_its_seed_and_the_picture_alone():
    network = Pooled()
    first, same, other = (ours(network, "randomcam", seed=seed).raw for seed in (1, 1, 2))
    assert torch.equal(first, same) and not near(first, other, 0.1)


class Quarters(nn.Module):
    """Four feature maps (B, 4, 2, 2), each hot at another place."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.eye(4).reshape(1, 4, 2, 2) + 0 * batch.mean((1, 2, 3), keepdim=True)


def test_a_method_of_chance_scores_chance_whatever_its_seed():
    """The hottest place is the draw's: of each seed it is the first of four on 1/4 of the pictures.

    Where all pictures shared a draw it was there on all of them or on none.
    """
    network = nn.Sequential(Quarters(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    batch = torch.rand(64, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        method = cam.method("randomcam", seed=seed)
        raw = cam.attribute(network, batch, method, targets=0, layers="0")["randomcam"].raw
        share = float((raw.flatten(1).argmax(1) == 0).float().mean())
        # Three standard errors of a share of 64.
        assert abs(share - 0.25) < 3 * (0.25 * 0.75 / 64) ** 0.5


# What all of them promise.

ALL = ["kpcacam", "fem", "cam", "randomcam"]


@pytest.mark.parametrize("name", ALL)
def test_a_batch_gives_what_its_images_give_one_by_one(name):
    network = Pooled()
    together = ours(network, name)
    for index, target in enumerate(TARGETS):
        single = pictures()[index : index + 1]
        alone = cam.attribute(network, single, name, targets=target, layers="2")[name]
        assert near(together.raw[index], alone.raw[0])


@pytest.mark.parametrize("name", ALL)
def test_an_image_of_nan_stays_alone(name):
    network, broken = Pooled(), pictures()
    broken[0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, broken, name, targets=TARGETS, layers="2")[name]
    assert attribution.raw[0].isnan().all() and near(attribution.raw[1], ours(network, name).raw[1])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_takes_other_precisions(name, dtype):
    network = Pooled()
    expected = ours(network, name).raw
    attributions = cam.attribute(
        network.to(dtype), pictures().to(dtype), name, targets=TARGETS, layers="2"
    )
    share = {"kpcacam": 0.2, "fem": 0.3}.get(name, 0.05) if dtype == torch.bfloat16 else 1e-4
    assert near(attributions[name].raw, expected, share)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        (
            "kpcacam",
            {"kernel": "round"},
            "kernel must be one of sigmoid, poly, rbf, cosine, linear",
        ),
        ("kpcacam", {"gamma": 0}, "gamma must be a number above 0, or None, but is 0"),
        ("fem", {"sigmas": "two"}, "sigmas must be a finite number"),
        ("fem", {"sum_of": "all"}, "sum_of must be one of masks, maps, but is 'all'"),
        (
            "randomcam",
            {"seed": -1},
            "seed must be .* at least 0 and below 2⁶³, but is -1",
        ),
    ],
)
def test_refuses_a_parameter_in_one_sentence(name, parameters, sentence):
    with pytest.raises(cam.MethodError, match=f"{name}'s {sentence}"):
        ours(Pooled(), name, **parameters)
