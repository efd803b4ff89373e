"""The nearest known names to a mistyped one."""

import pytest

from cam.errors import nearest

NAMES = ["timm/resnet50", "timm/resnet50d", "torchvision/resnet50", "blocks.6.0.conv", "bn2"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        # What is right but for its family comes before what is only alike.
        ("resnet50", "did you mean 'torchvision/resnet50' or 'timm/resnet50'?"),
        ("conv", "did you mean 'blocks.6.0.conv'?"),
        ("BN1", "did you mean 'bn2'?"),
        ("timm/resnt50", "did you mean 'timm/resnet50' or 'timm/resnet50d'"),
        ("zzz", "known: timm/resnet50, timm/resnet50d, torchvision/resnet50, blocks.6.0.conv, bn2"),
    ],
)
def test_nearest(name, says):
    assert nearest(name, NAMES).startswith(says)


def test_a_long_list_is_cut():
    assert nearest("zzz", [f"layer{i}" for i in range(30)]).endswith("layer11, …")


def test_without_any_known_name():
    assert nearest("zzz", []) == "there is none to choose from"
