"""Captum's other classes in cam.compat.captum beside captum 0.9, on the same arguments."""

import numpy as np
import pytest
import torch
from captum import attr as theirs
from torch import nn

import cam
from cam.compat import captum as ours

# Sums of some hundred float32 products in another order.
TOLERANCE = 2e-5


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 10),
        nn.ReLU(),
        nn.Linear(10, 5),
    )
    with torch.no_grad():
        # Gradients of about 1, as of a trained network.
        for parameter in layers.parameters():
            parameter *= 4
    return layers.eval()


class Scaled(nn.Module):
    """A network with a factor for each picture, and a number for all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, pictures, factors, shift):
        return self.layers(pictures * factors.view(-1, 1, 1, 1) + shift)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU()

    def forward(self, pictures):
        return self.relu(self.convolution(pictures.relu())).mean((2, 3))


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 12, 8, generator=torch.Generator().manual_seed(1))


def assert_same(actual, expected, tolerance=TOLERANCE):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert not actual.requires_grad
    assert expected.std() > 1e-5
    assert (actual - expected).norm() <= tolerance * expected.norm()


BLANK = torch.full((1, 3, 12, 8), 0.4)
FEATURES = (torch.arange(12)[:, None] // 4 * 2 + torch.arange(8) // 4).expand(1, 1, 12, 8)
CALLS = {
    "InputXGradient": {},
    "GuidedBackprop": {},
    "Deconvolution": {},
    "GuidedGradCam": {},
    "GuidedGradCam bilinear": {"interpolate_mode": "bilinear"},
    "Occlusion": {"sliding_window_shapes": (3, 4, 4)},
    "Occlusion strides": {
        "sliding_window_shapes": (2, 5, 3),
        "strides": (1, 4, 2),
        "baselines": 0.7,
        "perturbations_per_eval": 3,
    },
    "Occlusion whole axis": {
        "sliding_window_shapes": ((3, 12, 3),),
        "strides": 3,
        "baselines": BLANK,
    },
    "FeatureAblation": {"perturbations_per_eval": 50},
    "FeatureAblation mask": {"feature_mask": FEATURES, "baselines": -0.3},
    "FeatureAblation masks": {
        "feature_mask": torch.cat([FEATURES, 7 - FEATURES]).expand(2, 3, 12, 8),
        "baselines": (BLANK,),
    },
}


def explain(library, name, model, pictures, options):
    kind = name.split()[0]
    layer = [getattr(model, "layers", model)[4]] if kind == "GuidedGradCam" else []
    return getattr(library, kind)(model, *layer).attribute(pictures, **options)


@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_numbers_are_captums(name, dtype, pictures):
    options = {
        key: value.to(dtype) if key == "baselines" and isinstance(value, torch.Tensor) else value
        for key, value in CALLS[name].items()
    }
    if options.get("baselines") == (BLANK,):
        options["baselines"] = (BLANK.to(dtype),)
    model, pictures = network().to(dtype), pictures.to(dtype)
    actual, expected = (
        explain(library, name, model, pictures, {"target": [3, 1], **options})
        for library in (ours, theirs)
    )
    assert_same(actual, expected.detach())
    assert not any(child._forward_hooks for child in model.modules())


@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not")
@pytest.mark.parametrize("name", ["Saliency", "IntegratedGradients", *CALLS])
def test_a_tuple_and_further_arguments(name, pictures):
    options = {
        "target": 2,
        "additional_forward_args": (torch.tensor([0.5, -1.5]), 0.2),
        **CALLS.get(name, {}),
    }
    actual, expected = (
        explain(library, name, Scaled().eval(), (pictures,), options) for library in (ours, theirs)
    )
    assert isinstance(actual, tuple) and len(actual) == 1
    # Captum integrates in float64 and this library in float32.
    tolerance = 1e-4 if name == "IntegratedGradients" else TOLERANCE
    assert_same(actual[0], expected[0].detach(), tolerance)


NOISE = {
    "Saliency": {"target": 1},
    "InputXGradient": {"target": [3, 1], "nt_type": "vargrad", "nt_samples": 4},
    "InputXGradient squares": {"target": torch.tensor([0, 4]), "nt_type": "smoothgrad_sq"},
    "IntegratedGradients": {
        "target": 1,
        "nt_samples_batch_size": 2,
        "baselines": torch.rand(2, 3, 12, 8),
        "n_steps": 5,
        "return_convergence_delta": True,
    },
    "IntegratedGradients drawn": {
        "target": 1,
        "baselines": torch.rand(7, 3, 12, 8),
        "n_steps": 5,
        "draw_baseline_from_distrib": True,
    },
    "GuidedBackprop": {"target": 4},
    "FeatureAblation": {"target": 1, "feature_mask": FEATURES},
    "Occlusion": {"target": 1, "sliding_window_shapes": (3, 4, 4), "strides": 4},
}


def seed():
    torch.manual_seed(5)
    np.random.seed(5)


@pytest.mark.filterwarnings("ignore:Setting backward hooks", "ignore:Input Tensor 0 did not")
@pytest.mark.parametrize("name", NOISE)
def test_noise_is_captums(name, pictures):
    answers = []
    for library in (ours, theirs):
        seed()
        way = getattr(library, name.split()[0])(network())
        tunnel = library.NoiseTunnel(way)
        answers.append(tunnel.attribute(pictures, stdevs=0.3, **NOISE[name]))
        assert tunnel.multiplies_by_inputs == way.multiplies_by_inputs
    if "return_convergence_delta" in NOISE[name]:
        (actual, delta), (expected, their_delta) = answers
        assert torch.allclose(delta, their_delta.float(), atol=1e-5)
        answers = [actual, expected]
    # A variance is a difference of means of squares.
    assert_same(answers[0], answers[1].detach().float(), 1e-4)


@pytest.mark.parametrize("kind", ["tensor", "function", "function of inputs"])
@pytest.mark.parametrize("multiply", [True, False])
def test_gradient_shap_is_captums(kind, multiply, pictures):
    distribution = torch.rand(6, 3, 12, 8)
    baselines = {
        "tensor": distribution,
        "function": lambda: distribution,
        "function of inputs": lambda inputs: distribution * inputs.mean(),
    }[kind]
    answers = []
    for library in (ours, theirs):
        seed()
        way = library.GradientShap(network(), multiply_by_inputs=multiply)
        answers.append(
            way.attribute(
                pictures,
                baselines,
                n_samples=4,
                stdevs=0.1,
                target=[2, 3],
                return_convergence_delta=True,
            )
        )
    (actual, delta), (expected, their_delta) = answers
    assert_same(actual, expected.detach())
    assert torch.allclose(delta, their_delta.detach(), atol=1e-5)


def test_attributes_and_interpolation_are_captums():
    model = network()
    for kind in ("Saliency", "InputXGradient", "IntegratedGradients", "Occlusion", "GradientShap"):
        actual, expected = (getattr(library, kind)(model) for library in (ours, theirs))
        assert actual.multiplies_by_inputs == expected.multiplies_by_inputs
        assert actual.has_convergence_delta() == expected.has_convergence_delta()
    maps = torch.rand(1, 1, 3, 2)
    assert torch.equal(
        ours.LayerAttribution.interpolate(maps, (9, 5), "bilinear"),
        theirs.LayerAttribution.interpolate(maps, (9, 5), "bilinear"),
    )


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda m, x: ours.GuidedBackprop(Functional()).attribute(x, 1),
            cam.MethodError,
            "1 of this network's 2 are not.*'guided_backprop'",
        ),
        (
            lambda m, x: ours.Deconvolution(Functional()).attribute(x, 1),
            cam.MethodError,
            "1 of this network's 2 are not.*'deconvnet'",
        ),
        (
            lambda m, x: ours.Occlusion(m).attribute(x, (3, 4), target=1),
            cam.MethodError,
            "sliding_window_shapes must be 3 whole numbers",
        ),
        (
            lambda m, x: ours.Occlusion(m).attribute(x, (3, 4, 4), strides=5, target=1),
            cam.MethodError,
            "does not cover inputs",
        ),
        (
            lambda m, x: ours.Occlusion(m).attribute(x, (3, 13, 4), target=1),
            cam.MethodError,
            "does not cover inputs",
        ),
        (
            lambda m, x: ours.FeatureAblation(m).attribute(
                x, target=1, feature_mask=torch.zeros(5, 5)
            ),
            cam.InputError,
            "feature_mask must be a tensor that expands",
        ),
        (
            lambda m, x: ours.FeatureAblation(m).attribute(x, target=1, perturbations_per_eval=0),
            cam.MethodError,
            "perturbations_per_eval must be a whole number",
        ),
        (
            lambda m, x: ours.NoiseTunnel(ours.Saliency(m)).attribute(x, "median", target=1),
            cam.MethodError,
            "there is no nt_type 'median'",
        ),
        (
            lambda m, x: ours.NoiseTunnel(ours.Saliency(m)).attribute(x, nt_samples=0, target=1),
            cam.MethodError,
            "nt_samples must be a whole number",
        ),
        (
            lambda m, x: ours.NoiseTunnel(ours.Saliency(m)).attribute(x, stdevs=-1.0, target=1),
            cam.MethodError,
            "stdevs must be a number of at least 0",
        ),
        (
            lambda m, x: ours.GradientShap(m).attribute(x, 0.0, target=1),
            cam.InputError,
            "a tensor of images to draw from, not float",
        ),
    ],
)
def test_refuses_in_one_sentence(call, error, sentence, pictures):
    with pytest.raises(error, match=sentence):
        call(network(), pictures)
