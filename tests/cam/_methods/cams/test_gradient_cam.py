"""The kernel against each rule's plain formula."""

import pytest
import torch
from torch import nn

import cam
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


class Layered(nn.Module):
    """A layer whose activations are the picture, and a score that is linear in them."""

    def __init__(self, gradients: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.gradients = nn.Identity(), gradients

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) * self.gradients).sum((1, 2, 3))[:, None]


@pytest.mark.parametrize("name", ["gradcam_plus_plus", "xgradcam"])
def test_a_map_of_channels_beside_a_pole_says_so(name):
    """Channel 0 sums to about 0 in XGrad-CAM, and 2 + G ΣA is -1 in Grad-CAM++."""
    activations = torch.rand(1, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    gradients = torch.ones(1, 2, 4, 4)
    sound = Layered(gradients).eval()
    assert not cam.attribute(sound, activations, name, 0, layers="layer")[name].remarks
    activations[0, 0] = torch.tensor([1.0, -1.0]).repeat(8).view(4, 4)
    activations[0, 0, 0, 0] += 1e-3
    gradients[0, 0, :2] = 2
    if name == "gradcam_plus_plus":
        activations[0, 0] = -3 / 16
        gradients[0, 0] = 1
    remarks = cam.attribute(Layered(gradients).eval(), activations, name, 0, layers="layer")[
        name
    ].remarks
    assert len(remarks) == 1 and remarks[0][0] == 0
    assert f"{name} divides by about 0" in remarks[0][1]
