"""Uncommon models, arguments and settings."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import ResNet18_Weights

import cam


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()


PICTURES = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm/mobilenetv3_small_050", "blocks"),  # a convolution behind the pooling
        ("timm/lcnet_050", "blocks"),
        ("timm/ghostnet_100", "blocks"),
        ("timm/resnetv2_50", "norm"),
        ("timm/convnext_atto", "stages"),
        ("timm/regnetx_002", "s4"),
        ("torchvision/shufflenet_v2_x0_5", "conv5"),
        ("torchvision/squeezenet1_1", "features"),
    ],
)
def test_the_preset_has_a_map_with_positions(name, layer):
    torch.manual_seed(0)
    model = cam.load_model(name, weights=None)
    assert model.layers[0].split(".")[0] == layer.split(".")[0]
    attribution = cam.attribute(model, model.prepare(cam.sample("chelsea")), "gradcam")["gradcam"]
    height, width = attribution.raw.shape[1:]
    assert height == width and 6 <= height <= 14
    assert attribution.raw.std() > 0


def test_one_channel_of_a_square_map_is_still_a_map():
    """(B, 8, 8, 8) can be read both ways; it is what convolutions give."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(), nn.Linear(512, 2)).eval()
    attribution = cam.attribute(model, torch.rand(1, 3, 8, 8), "gradcam", layers="0")["gradcam"]
    assert attribution.raw.shape == (1, 8, 8)


@pytest.mark.parametrize("size", [(12, 40), (33, 21), (9, 64)])
def test_pictures_that_are_not_square(size):
    attributions = cam.attribute(small(), torch.rand(2, 3, *size), layers="1")
    for attribution in attributions.values():
        assert attribution.heatmap.shape == (2, *size)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_another_precision(dtype):
    expected = cam.attribute(small(), PICTURES, targets=1, layers="1")
    attributions = cam.attribute(small().to(dtype), PICTURES.to(dtype), targets=1, layers="1")
    for name, attribution in attributions.items():
        assert (
            attribution.heatmap.dtype
            == attribution.raw.dtype
            == attribution.scores.dtype
            == torch.float32
        )
        # bfloat16 keeps 8 bits, and may turn a ReLU at a single pixel: on average it stays.
        tolerance = 1e-5 if dtype == torch.float64 else 0.02
        assert (attribution.heatmap - expected[name].heatmap).abs().mean() < tolerance


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (PICTURES.double(), "failed on a torch.float64 batch of shape (2, 3, 12, 12)"),
        (PICTURES[:, :1], "failed on a torch.float32 batch of shape (2, 1, 12, 12)"),
        (PICTURES[..., :2, :2], "failed on a torch.float32 batch of shape (2, 3, 2, 2)"),
    ],
    ids=["another precision", "one channel", "too small"],
)
def test_a_batch_that_the_model_cannot_take(batch, says):
    with pytest.raises(cam.ModelError, match=re.escape(says)) as caught:
        cam.attribute(small(), batch)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_wrapper_in_training_mode_around_a_model_that_is_not(recwarn):
    cam.attribute(nn.Sequential(small()).train(False), PICTURES, "saliency")
    wrapper = nn.Sequential(small())
    wrapper.training = True
    cam.attribute(wrapper, PICTURES, "saliency")
    assert not [warning for warning in recwarn if issubclass(warning.category, cam.CamWarning)]
    assert wrapper.training


@pytest.mark.parametrize(
    ("value", "says"), [("foo", "CAM_KERNELS is 'foo'"), ("triton", "TRITON_INTERPRET=1")]
)
def test_kernels_that_cannot_run_here(monkeypatch, value, says):
    monkeypatch.setenv("CAM_KERNELS", value)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(cam.InputError, match=says):
        cam.attribute(small(), PICTURES)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": None}, "by its name, not by a NoneType"),
        ({"name": "efficientnet_lite0", "device": "gpu"}, "cannot be put on 'gpu'"),
        ({"name": "torchvision/resnet18", "weights": {}}, "the path of a file, not dict"),
        (
            {"name": "torchvision/resnet18", "weights": ResNet18_Weights.DEFAULT},
            "the path of a file, not ResNet18_Weights",
        ),
    ],
    ids=["no name", "device", "dict", "enum"],
)
def test_load_model_arguments(arguments, says):
    with pytest.raises(cam.ModelError, match=says):
        cam.load_model(**arguments)


@pytest.mark.parametrize(
    "targets", [np.array([2, 2]), torch.tensor(2), np.array(2)], ids=["array", "tensor", "scalar"]
)
def test_targets_as_numpy_and_torch_give_them(targets):
    attribution = cam.attribute(small(), PICTURES, "saliency", targets=targets)["saliency"]
    assert attribution.targets.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"methods": None}, cam.MethodError),
        ({"methods": 3}, cam.MethodError),
        ({"layers": 3}, cam.LayerError),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, error):
    with pytest.raises(error, match=r"not (int|NoneType)"):
        cam.attribute(small(), PICTURES, **arguments)


def test_overlay_takes_flipped_arrays_and_ones_that_may_not_be_written():
    picture = np.asarray(Image.new("RGB", (6, 4), "teal"))
    heatmap = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6)
    straight = cam.overlay(picture[None], heatmap)
    flipped = cam.overlay(picture[None, ::-1], heatmap[:, ::-1])
    assert torch.equal(straight.flip(1), flipped)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a.png", torch.rand(1, 4, 4)), "not str"),
        ((Image.new("RGB", (4, 4)), [0.5]), "not list"),
        ((Image.new("RGB", (4, 4)), torch.rand(4, 4), None), "not given as NoneType"),
    ],
    ids=["path", "list", "colour map"],
)
def test_overlay_of_what_is_none(arguments, says):
    with pytest.raises(cam.InputError, match=says):
        cam.overlay(*arguments)


def test_methods_can_be_keys():
    assert len({cam.method("gradcam"), cam.method("gradcam"), cam.method("saliency")}) == 2
