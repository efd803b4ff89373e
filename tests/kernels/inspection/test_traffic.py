"""Bytes that maps move, beside counts by hand."""

import pytest
import torch

from cam.kernels import RULES
from cam.kernels.class_activation import reference
from cam.kernels.class_activation.rules import Rule
from cam.kernels.inspection.traffic import NORMALISE, WIDEN, cam_traffic, plain_maps

pytest.importorskip("triton")


def test_gradcam_in_plain_torch_by_hand():
    images, channels, pixels = 2, 8, 9
    traffic = cam_traffic((images, channels, 3, 3), ("gradcam",))
    layer = 4 * images * channels * pixels
    weights, maps = 4 * images * channels, 4 * images * pixels
    assert (traffic.layer, traffic.maps, traffic.floor) == (layer, maps, 2 * layer + maps)
    mean, product, stack, relu, _, _, _, _, _ = traffic.plain
    assert (mean.name, mean.reads, mean.writes) == ("mean", layer, weights)
    assert (product.name, product.reads, product.writes) == ("bmm", layer + weights, maps)
    assert {step.stage for step in (mean, product)} == {"gradcam"} and stack.stage == NORMALISE
    assert (relu.name, relu.reads, relu.writes) == ("relu", maps, maps)
    assert traffic.plain_bytes == sum(step.reads + step.writes for step in traffic.plain)


def test_half_precision_is_widened_first_and_costs_as_much():
    traffic = cam_traffic((2, 8, 3, 3), ("gradcam",), torch.bfloat16)
    assert traffic.layer == 2 * 2 * 8 * 9
    for step in traffic.plain[:2]:
        assert (step.name, step.reads, step.writes) == ("to_copy", traffic.layer, 2 * traffic.layer)
        assert step.stage == WIDEN


def test_what_is_counted_gives_the_maps():
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(2, 5, 4, 3, generator=generator)
    gradients = torch.randn(2, 5, 4, 3, generator=generator)
    truth = reference.fused_cam(activations.double(), gradients.double(), Rule)
    maps = plain_maps(activations, gradients, RULES)
    assert torch.allclose(maps.double(), truth.maps, atol=1e-5)


@pytest.mark.parametrize("rules", [RULES[:1], RULES], ids=["one", "all"])
def test_the_fused_kernel_moves_the_floor_and_its_scratch(rules):
    traffic = cam_traffic((4, 64, 7, 7), rules)
    assert traffic.fused.bytes - traffic.scratch == traffic.floor
    assert traffic.maps == 4 * 4 * len(rules) * 49


def test_bad_calls():
    for options, sentence in (
        ({"shape": (1, 2, 3)}, "shape"),
        ({"shape": (1, 2, 3, 3), "rules": ("nope",)}, "nope"),
        ({"shape": (1, 2, 3, 3), "dtype": torch.int8}, "dtype"),
        ({"shape": (1, 2, 3, 3), "layout": "round"}, "layout"),
    ):
        with pytest.raises(ValueError, match=sentence):
            cam_traffic(**options)
