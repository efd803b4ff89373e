"""The kernel against each rule's plain formula."""

import pytest
import torch

from cam import kernels
from cam._methods.cams.gradient_cam import RULES


def test_every_rule_of_the_kernel_has_its_formula():
    assert tuple(RULES) == kernels.RULES


@pytest.mark.parametrize("shape", [(3, 40, 9, 11), (2, 5, 30, 40), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("backend", ["reference", "triton"])
def test_the_kernel_computes_the_formula(rule, shape, backend, monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", backend)
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(shape, generator=generator).relu()
    gradients = torch.randn(shape, generator=generator)
    expected = RULES[rule](activations.double(), gradients.double()).sum(1)
    _, signed = kernels.fused_cam(activations, gradients, (rule,), return_signed=True)
    assert (signed[:, 0] - expected).norm() <= 1e-5 * expected.norm()


def test_tiny_gradients_do_not_underflow():
    """G² of these is 0 in float32, and the paper's fraction 0 / 0."""
    activations = torch.full((1, 2, 2, 2), 3.0)
    gradients = torch.full((1, 2, 2, 2), 1e-30)
    expected = RULES["gradcam_plus_plus"](activations.double(), gradients.double())
    single = RULES["gradcam_plus_plus"](activations, gradients)
    assert torch.allclose(single.double() * 1e30, expected * 1e30, rtol=1e-5)
