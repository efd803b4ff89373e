"""LRP of cam.compat.captum beside captum 0.9; Lime and KernelShap, which are refused."""

import pytest
import torch
from captum import attr as theirs
from captum.attr._utils.lrp_rules import GammaRule
from torch import nn

import cam
from cam.compat import captum as ours


class Network(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *layers)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Sequential(nn.Linear(24, 10), nn.ReLU(), nn.Dropout(), nn.Linear(10, 5))
        self.eval()

    def forward(self, pictures, factors=None):
        return self.head(torch.flatten(self.pool(self.features(pictures)), 1))


class Residual(Network):
    def forward(self, pictures):
        features = self.features(pictures)
        return self.head((self.pool(features) + self.pool(features.tanh())).flatten(1))


def norm() -> nn.BatchNorm2d:
    torch.manual_seed(3)
    layer = nn.BatchNorm2d(6)
    for tensor in (layer.running_mean, layer.weight.data, layer.bias.data):
        tensor.normal_()
    layer.running_var.uniform_(0.3, 2)
    return layer


LAYERS = {
    "activation": [nn.ReLU()],
    "in place": [nn.ReLU(inplace=True)],
    "pooling": [nn.ReLU(), nn.MaxPool2d(2)],
    "overlapping": [nn.MaxPool2d(3, 2), nn.ReLU()],
    "mean": [nn.AvgPool2d(2), nn.Tanh()],
    "norm": [norm(), nn.ReLU()],
    "norm behind": [nn.ReLU(), norm(), nn.MaxPool2d(2)],
}


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not")
@pytest.mark.parametrize("name", LAYERS)
def test_relevance_is_captums(name, pictures):
    model = Network(*LAYERS[name]).double()
    pictures = pictures.double()
    options = {"target": [3, 1], "return_convergence_delta": True}
    actual, delta = ours.LRP(model).attribute((pictures,), **options)
    expected, their_delta = theirs.LRP(model).attribute((pictures,), **options)
    assert expected[0].std() > 1e-5
    # Both divide by sums that nearly cancel out, with the same 1e-9 beside them.
    assert (actual[0] - expected[0]).norm() <= 1e-5 * expected[0].norm()
    assert torch.allclose(delta, their_delta.detach(), atol=1e-6)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def with_rule() -> nn.Module:
    model = Network(nn.ReLU())
    model.features[0].rule = GammaRule()
    return model


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: ours.LRP(Network(nn.GELU())).attribute(x, 1), "no rule for GELU.*'lrp'"),
        (lambda x: ours.LRP(Residual(nn.ReLU())).attribute(x, 1), "no rule for tanh.*'lrp'"),
        (lambda x: ours.LRP(with_rule()).attribute(x, 1), "set on this Conv2d"),
        (lambda x: ours.Lime(Network()), "'lime'"),
        (lambda x: ours.KernelShap(Network()), "'kernelshap'"),
    ],
)
def test_refuses_in_one_sentence(call, sentence, pictures):
    with pytest.raises(cam.MethodError, match=sentence):
        call(pictures)
    # The watch of a refused network is off.
    assert torch.tanh(pictures).shape == pictures.shape
