"""Bytes that maps move, beside counts by hand."""

import pytest
import torch

from kernels import RULES
from kernels.traffic import cam_traffic

pytest.importorskip("triton")


def test_gradcam_in_plain_torch_by_hand():
    images, channels, pixels = 2, 8, 9
    found = cam_traffic((images, channels, 3, 3), ("gradcam",))
    layer = 4 * images * channels * pixels
    weights, maps = 4 * images * channels, 4 * images * pixels
    assert (found.layer, found.maps, found.floor) == (layer, maps, 2 * layer + maps)
    mean, product = found.plain[:2]
    assert (mean.name, mean.reads, mean.writes) == ("mean", layer, weights)
    assert (product.name, product.reads, product.writes) == ("bmm", layer + weights, maps)
    assert found.plain_bytes == sum(one.reads + one.writes for one in found.plain)


def test_half_precision_is_widened_first_and_costs_as_much():
    found = cam_traffic((2, 8, 3, 3), ("gradcam",), torch.bfloat16)
    assert found.layer == 2 * 2 * 8 * 9
    for step in found.plain[:2]:
        assert (step.name, step.reads, step.writes) == ("to_copy", found.layer, 2 * found.layer)


@pytest.mark.parametrize("rules", [RULES[:1], RULES], ids=["one", "all"])
def test_the_fused_kernel_moves_the_floor_and_its_scratch(rules):
    found = cam_traffic((4, 64, 7, 7), rules)
    assert found.fused.bytes - found.scratch == found.floor
    assert found.maps == 4 * 4 * len(rules) * 49


def test_bad_calls():
    for options, told in (
        ({"shape": (1, 2, 3)}, "shape"),
        ({"shape": (1, 2, 3, 3), "rules": ("nope",)}, "nope"),
        ({"shape": (1, 2, 3, 3), "dtype": torch.int8}, "dtype"),
        ({"shape": (1, 2, 3, 3), "layout": "round"}, "layout"),
    ):
        with pytest.raises(ValueError, match=told):
            cam_traffic(**options)
