"""Methods that share passes, and the number of frames to the arithmetic."""

import sys

import pytest
import torch
from torch import nn

import cam
from cam._attribution.plan import Plan, make_plan, resolve_methods
from cam.kernels.class_activation import reference
from cam.sources import LayerActivations, LayerGradients, PixelGradients
from tests.support.checkout import ROOT

CPU = torch.device("cpu")


def plan_of(*methods, precision=None, layers=("layer4",)) -> Plan:
    return make_plan(resolve_methods(list(methods)), layers, precision, CPU)


def test_all_methods_share_one_pass():
    plan = plan_of("rise", "gradcam", "saliency", "layercam", "eigencam")
    assert plan.keys == ("rise", "gradcam", "saliency", "layercam", "eigencam")
    (shared,) = plan.passes
    # Those with further passes come last, so that they hold nobody up.
    assert list(shared.methods) == ["gradcam", "saliency", "layercam", "eigencam", "rise"]
    assert shared.layers == ("layer4",) and shared.precision is None and shared.backward
    assert {LayerGradients, PixelGradients, LayerActivations} < shared.reads
    assert shared.kernel_rules == {"gradcam", "layercam"}


def test_what_reads_no_gradient_takes_no_backward_pass_and_no_layer():
    (shared,) = plan_of("eigencam").passes
    assert not shared.backward and shared.layers == ("layer4",)
    (shared,) = plan_of("occlusion").passes
    assert not shared.backward and shared.layers == ()


def test_a_careful_method_is_computed_apart_from_a_hasty_one():
    """LRP computes inside the backward pass, where autocast does not reach."""
    careful, hasty = plan_of("gradcam", "lrp", precision="bf16").passes[::-1]
    assert (list(careful.methods), careful.precision) == (["lrp"], "fp32")
    assert (list(hasty.methods), hasty.precision) == (["gradcam"], "bf16")


def test_a_plan_can_be_printed():
    assert str(plan_of("gradcam", "rise", precision="bf16", layers=("layer3", "layer4"))) == (
        "1 forward and 1 backward pass at layer3, layer4 in bf16\n"
        "  gradcam: reads LayerGradients, kernel rule gradcam\n"
        "  rise: reads Pixels, further passes"
    )
    assert str(plan_of("occlusion")) == (
        "1 forward pass\n  occlusion: reads Pixels, further passes"
    )


def test_a_method_is_planned_once_and_named_by_what_differs():
    methods = ["gradcam", cam.method("rise", masks=5), "gradcam", cam.method("rise", masks=6)]
    assert plan_of(*methods).keys == ("gradcam", "rise(masks=5)", "rise(masks=6)")


@pytest.mark.parametrize("name", ["gradcam", "layercam"])
def test_the_arithmetic_is_at_most_six_frames_away(name, monkeypatch):
    """From the call to the rule's first product, counted in frames of this repository."""
    frames = []
    compute = reference.fused_cam

    def count(*arguments, **options):
        frame = sys._getframe(1)
        while frame.f_code.co_filename != __file__:
            if frame.f_code.co_filename.startswith(str(ROOT)) and ".venv" not in (
                frame.f_code.co_filename
            ):
                frames.append(frame.f_code.co_name)
            frame = frame.f_back
        return compute(*arguments, **options)

    monkeypatch.setattr(reference, "fused_cam", count)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    cam.attribute(network.eval(), torch.rand(1, 3, 8, 8), name, layers="1")
    assert frames[-1] == "attribute" and len(frames) + 1 <= 6, frames  # and the reference itself
