"""DeepLift and DeepLiftShap of cam.compat.captum beside captum 0.9, slips and all."""

import pytest
import torch
from captum import attr as theirs
from torch import nn
from torch.nn import functional

import cam
from cam.compat import captum as ours

pytestmark = pytest.mark.filterwarnings(
    "ignore:Setting forward, backward hooks", "ignore:Input Tensor 0 did not"
)
# Slopes are quotients of float32 differences, some of them small.
TOLERANCE = 1e-4


def between(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        *layers,
        nn.Conv2d(6, 4, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
        nn.ReLU(),
        nn.Linear(10, 5),
    )
    return network.eval()


class Functions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = between(nn.Sigmoid())
        self.gate = nn.Conv2d(3, 3, 1)

    def forward(self, pictures, factors=None):
        gated = pictures * self.gate(pictures)
        scores = self.layers(functional.gelu(gated))
        return scores if factors is None else scores * factors[:, None]


LAYERS = {
    "activations": [nn.ELU(), nn.Conv2d(6, 6, 3), nn.LeakyReLU(0.1), nn.Conv2d(6, 6, 3), nn.Tanh()],
    "in place": [nn.ReLU(inplace=True)],
    "softplus and norm": [nn.BatchNorm2d(6), nn.Softplus()],
    "pooling": [nn.Sigmoid(), nn.Conv2d(6, 6, 1), nn.MaxPool2d(2)],
    "pooling, cut": [nn.ReLU(), nn.Conv2d(6, 6, 1), nn.MaxPool2d(5, 5, ceil_mode=True)],
    "activation, pooling": [nn.ReLU(), nn.MaxPool2d(2)],
    "activation, overlapping": [nn.Sigmoid(), nn.MaxPool2d(3, 2)],
    "activation, identity, activation": [nn.ELU(), nn.Identity(), nn.Sigmoid()],
    "three": [nn.Sigmoid(), nn.Tanh(), nn.ELU()],
    "three with a pooling": [nn.Tanh(), nn.MaxPool2d(2), nn.Sigmoid()],
    "another activation": [nn.GELU(), nn.Conv2d(6, 6, 1), nn.Sigmoid()],
}
PLAIN = {
    "activation, pooling": "MaxPool2d",
    "activation, overlapping": "MaxPool2d",
    "activation, identity, activation": "Sigmoid",
    "three": "Tanh",
    "three with a pooling": "MaxPool2d",
    "another activation": "gelu",
}


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def blanks() -> torch.Tensor:
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(2))


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert not actual.requires_grad
    assert expected.std() > 1e-5
    assert (actual - expected).norm() <= TOLERANCE * expected.norm()


@pytest.mark.parametrize("name", LAYERS)
def test_slopes_are_captums(name, pictures, blanks, recwarn):
    model = between(*LAYERS[name])
    options = {"target": [3, 1], "baselines": blanks, "return_convergence_delta": True}
    expected, their_delta = theirs.DeepLift(model).attribute(pictures, **options)
    recwarn.clear()
    actual, delta = ours.DeepLift(model).attribute(pictures, **options)
    assert_same(actual, expected.detach())
    assert torch.allclose(delta, their_delta.detach(), atol=1e-5)
    messages = [str(warning.message) for warning in recwarn if warning.category is cam.CamWarning]
    assert len(messages) == (name in PLAIN)
    if name in PLAIN:
        assert f"ordinary gradient of {PLAIN[name]} in this network" in messages[0]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"baselines": 0.3},
        {"baselines": torch.full((1, 3, 12, 10), -0.2)},
        {"custom_attribution_func": lambda slopes, inputs, starts: (slopes[0] * starts[0],)},
    ],
    ids=lambda options: " ".join(options),
)
@pytest.mark.parametrize("multiply", [True, False])
def test_options_are_captums(options, multiply, pictures):
    # A baseline of zeros would make custom attributions zero.
    options = {"baselines": 0.5, **options} if "custom_attribution_func" in options else options
    model = between(nn.Sigmoid())
    actual, expected = (
        library.DeepLift(model, multiply_by_inputs=multiply).attribute(
            pictures, target=2, **options
        )
        for library in (ours, theirs)
    )
    assert_same(actual, expected.detach())


def test_functions_and_further_arguments(pictures, blanks):
    torch.manual_seed(0)
    model = Functions().eval()
    options = {"additional_forward_args": (torch.tensor([0.5, 2.0]),), "target": 1}
    (expected,) = theirs.DeepLift(model).attribute((pictures,), (blanks,), **options)
    with pytest.warns(cam.CamWarning, match="ordinary gradient of gelu, mul in"):
        (actual,) = ours.DeepLift(model).attribute((pictures,), (blanks,), **options)
    assert_same(actual, expected.detach())


@pytest.mark.parametrize("target", [2, [3, 1]], ids=str)
def test_several_baselines(target, pictures):
    model = between(nn.Sigmoid())
    blanks = torch.randn(3, 3, 12, 10)
    answers = [
        library.DeepLiftShap(model).attribute(
            pictures, lambda: blanks, target=target, return_convergence_delta=True
        )
        for library in (ours, theirs)
    ]
    assert_same(answers[0][0], answers[1][0].detach())
    assert torch.allclose(answers[0][1], answers[1][1].detach(), atol=1e-5)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.layers = between(nn.Identity())

    def forward(self, pictures):
        return self.relu(self.layers(self.relu(pictures)))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda x: ours.DeepLift(Twice()).attribute(x, target=1), cam.MethodError, "a ReLU twice"),
        (
            lambda x: ours.DeepLift(between(nn.MaxPool2d(3, 2))).attribute(x, target=1),
            cam.MethodError,
            "windows of a MaxPool2d that overlap.*'deeplift'",
        ),
        (
            lambda x: ours.DeepLift(between(nn.MaxPool2d(2), nn.Sigmoid())).attribute(x, target=1),
            cam.MethodError,
            "ordinary gradient of Sigmoid behind it.*'deeplift'",
        ),
        (
            lambda x: ours.DeepLift(between(nn.Softmax(1))).attribute(x, target=1),
            cam.MethodError,
            "another rule for Softmax.*'deeplift'",
        ),
        (
            lambda x: ours.DeepLift(between(nn.ReLU()), eps=1e-3),
            cam.MethodError,
            "eps must be 1e-10",
        ),
        (
            lambda x: ours.DeepLiftShap(between(nn.ReLU())).attribute(x, x[:1], target=1),
            cam.InputError,
            "at least two images",
        ),
    ],
)
def test_refuses_in_one_sentence(call, error, sentence, pictures):
    with pytest.raises(error, match=sentence):
        call(pictures)
