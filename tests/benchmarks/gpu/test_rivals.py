"""Check the rivals: the formulas, and grad-cam's and captum's own work."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam

from benchmarks.gpu.plan import Cell, Plane
from benchmarks.gpu.tails import (
    FORMULAS,
    GRAD_CAM,
    agreement,
    captum_tail,
    grad_cam_tail,
    inputs,
    plain,
)
from cam import kernels


def layer(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(shape, generator=generator)
    return a, torch.randn(shape, generator=generator)


def by_hand(rule, a, g):
    """The papers' equations, one channel and one pixel at a time, in float64."""
    a, g = a.double().numpy(), g.double().numpy()
    images, channels, height, width = a.shape
    maps = np.zeros((images, height, width))
    for b in range(images):
        for c in range(channels):
            channel_a, channel_g = a[b, c], g[b, c]
            if rule == "gradcam":
                weight = channel_g.mean()
            elif rule == "xgradcam":
                weight = (channel_a * channel_g).sum() / (channel_a.sum() + 1e-7)
            elif rule == "gradcam_plus_plus":
                weight = sum(
                    v**2 / (2 * v**2 + v**3 * channel_a.sum()) * max(v, 0)
                    for v in channel_g.flat
                    if v != 0
                )
            if rule in ("gradcam", "xgradcam", "gradcam_plus_plus"):
                maps[b] += weight * channel_a
            elif rule == "layercam":
                maps[b] += np.maximum(channel_g, 0) * channel_a
            elif rule == "hirescam":
                maps[b] += channel_g * channel_a
            else:
                maps[b] += np.maximum(channel_g * channel_a, 0)
        maps[b] = np.maximum(maps[b], 0)
        maps[b] = (maps[b] - maps[b].min()) / (1e-7 + maps[b].max() - maps[b].min())
    return torch.from_numpy(maps)


@pytest.mark.parametrize("rule", FORMULAS)
def test_a_formula_equals_the_equation(rule):
    a, g = layer(2, 5, 3, 4)
    g[0, 1, 2, 3] = 0
    maps = plain(a, g, [rule])
    assert maps.shape == (2, 1, 3, 4)
    assert torch.allclose(maps[:, 0].double(), by_hand(rule, a, g), atol=1e-5)


def test_every_rule_of_the_kernel_has_a_formula():
    assert set(kernels.RULES) <= set(FORMULAS)


@pytest.mark.parametrize("rule", FORMULAS)
def test_grad_cam_is_asked_for_the_same(rule):
    a, g = layer(2, 5, 3, 4)
    (maps,) = grad_cam_tail([rule])(a, g)
    # grad-cam adds 1e-6 to a denominator of its Grad-CAM++.
    assert torch.allclose(torch.from_numpy(maps), plain(a, g, [rule])[:, 0], atol=1e-3)


def test_grad_cam_is_not_asked_for_what_numpy_cannot_hold():
    plane = Plane("layer4", 6, 5)
    assert not GRAD_CAM.takes(Cell(plane, 1, "bf16", "channels-last"), ("gradcam",))
    assert GRAD_CAM.takes(Cell(plane, 1, "fp16", "channels-last"), ("gradcam",))


def test_captum_is_asked_for_the_same():
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 4, 3)
    network = torch.nn.Sequential(
        convolution, torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 5)
    )
    picture = torch.randn(2, 3, 8, 8)
    truth = LayerGradCam(network, convolution).attribute(picture, target=1)
    a = convolution(picture)
    (g,) = torch.autograd.grad(network[1:](a)[:, 1].sum(), a)
    assert torch.allclose(captum_tail(a, g), truth, atol=1e-6)


@pytest.mark.parametrize("layout", ["channels-last", "contiguous", "tokens"])
def test_inputs_are_laid_out_as_they_are_called(layout):
    a, g = inputs(Cell(Plane("any", 6, 5), 2, "fp16", layout), "cpu")
    assert a.shape == g.shape == (2, 6, 5, 5)
    assert a.dtype == g.dtype == torch.float16
    assert a.min() == 0  # as behind a ReLU
    assert g.min() < 0 < g.max()
    assert (
        a.stride()
        == {
            "contiguous": (150, 25, 5, 1),
            "channels-last": (150, 1, 30, 6),
            "tokens": (156, 1, 30, 6),  # (B, 1 + 25, 6) behind a class token
        }[layout]
    )
    assert torch.equal(a, inputs(Cell(Plane("any", 6, 5), 2, "fp16", layout), "cpu")[0])


def test_a_wrong_result_is_not_timed():
    truth = torch.ones(2, 1, 3, 3)
    assert agreement(truth * (1 + 5e-4), truth) == pytest.approx(5e-4, rel=1e-3)
    for wrong in (truth * 1.01, truth * torch.nan, truth[:1], None):
        with pytest.raises(ValueError, match=r"differs|another shape"):
            agreement(wrong, truth)
