"""cam.compat.captum beside captum 0.9, and the Quantus adapter beside cam.attribute."""

import numpy as np
import pytest
import torch
from captum import attr as theirs
from torch import nn

import cam
from cam.compat import captum as ours
from cam.compat import quantus


def network(*outputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Softplus(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, int(np.prod(outputs))),
        *([nn.Unflatten(1, outputs)] if len(outputs) > 1 else []),
        *([nn.Flatten(0)] if outputs == (1,) else []),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))


TARGETS = [
    ((5,), 3),
    ((5,), torch.tensor([3, 1])),
    ((5,), torch.tensor([2])),
    ((5,), [3, 1]),
    ((4, 3), (2, 1)),
    ((4, 3), [(2, 1), (0, 2)]),
    ((1,), None),
]


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert not actual.requires_grad
    assert expected.std() > 1e-5
    assert (actual - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(("outputs", "target"), TARGETS, ids=str)
@pytest.mark.parametrize("kind", ["Saliency", "IntegratedGradients", "LayerGradCam"])
def test_targets_are_captums(kind, outputs, target, pictures):
    model = network(*outputs)
    layer = [model[4]] if kind == "LayerGradCam" else []
    actual, expected = (
        getattr(module, kind)(model, *layer).attribute(pictures, target=target)
        for module in (ours, theirs)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Saliency", {"abs": False}),
        ("LayerGradCam", {"relu_attributions": True}),
        ("LayerGradCam", {"attr_dim_summation": False}),
        ("IntegratedGradients", {"n_steps": 7, "baselines": 0.3}),
        ("IntegratedGradients", {"baselines": torch.full((2, 3, 12, 10), -0.2)}),
        ("IntegratedGradients", {"baselines": torch.rand(1, 3, 12, 10)}),
        ("IntegratedGradients", {"internal_batch_size": 4}),
        *(
            ("IntegratedGradients", {"method": f"riemann_{rule}", "n_steps": 9})
            for rule in ("left", "right", "middle", "trapezoid")
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_options_are_captums(kind, options, dtype, pictures):
    model, pictures = network(5).to(dtype), pictures.to(dtype)
    options = {
        key: value.to(dtype) if isinstance(value, torch.Tensor) else value
        for key, value in options.items()
    }
    layer = [model[1]] if kind == "LayerGradCam" else []
    actual, expected = (
        getattr(module, kind)(model, *layer).attribute(pictures, target=2, **options)
        for module in (ours, theirs)
    )
    assert_same(actual, expected)


def test_the_convergence_delta(pictures):
    model = network(5)
    options = {"target": 2, "n_steps": 3, "baselines": 2.0, "return_convergence_delta": True}
    actual = ours.IntegratedGradients(model).attribute(pictures, **options)
    expected = theirs.IntegratedGradients(model).attribute(pictures, **options)
    assert_same(actual[0], expected[0])
    assert expected[1].abs().max() > 1e-3
    assert torch.allclose(actual[1], expected[1].float(), atol=1e-6)


def test_without_the_multiplication(pictures):
    model = network(5)
    actual, expected = (
        module.IntegratedGradients(model, multiply_by_inputs=False).attribute(pictures, target=2)
        for module in (ours, theirs)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("kind", ["Saliency", "IntegratedGradients", "LayerGradCam"])
def test_a_function_in_the_place_of_a_model(kind, pictures):
    model = network(5)
    layer = [model[4]] if kind == "LayerGradCam" else []
    pictures.requires_grad_()
    actual, expected = (
        getattr(module, kind)(lambda x: model(x).softmax(1), *layer).attribute(pictures, target=1)
        for module in (ours, theirs)
    )
    assert_same(actual, expected.detach())
    assert not any(child._forward_hooks for child in model.modules())


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (
            lambda m, x: ours.Saliency(m).attribute((x, x), target=1),
            cam.InputError,
            "one tensor of images",
        ),
        (
            lambda m, x: ours.Saliency(m).attribute([x], target=1),
            cam.InputError,
            "a tensor of images, not list",
        ),
        (
            lambda m, x: ours.Saliency(m).attribute(x),
            cam.TargetError,
            "a target must say which",
        ),
        (
            lambda m, x: ours.LayerGradCam(m, m[1]).attribute(x, 1, attribute_to_layer_input=True),
            cam.LayerError,
            "the input of a layer is not explained",
        ),
        (
            lambda m, x: ours.IntegratedGradients(m).attribute(x, target=1, method="simpson"),
            cam.MethodError,
            "there is no method 'simpson' of integration",
        ),
        (
            lambda m, x: ours.IntegratedGradients(m).attribute(x, target=1, n_steps=0),
            cam.MethodError,
            "n_steps must be a whole number of at least 1",
        ),
        (
            lambda m, x: ours.IntegratedGradients(m).attribute(x, torch.zeros(3), target=1),
            cam.InputError,
            "do not fit inputs",
        ),
        (
            lambda m, x: ours.IntegratedGradients(m).attribute(x, "0", target=1),
            cam.InputError,
            "a number or a tensor, not str",
        ),
        (
            lambda m, x: ours.IntegratedGradients(m).attribute(x, target=1, internal_batch_size=0),
            cam.MethodError,
            "internal_batch_size must be at least 1",
        ),
    ],
)
def test_refuses_in_one_sentence(call, error, sentence, pictures):
    with pytest.raises(error, match=sentence):
        call(network(5), pictures)


def test_quantus_gets_what_attribute_gives(pictures):
    model = network(5)
    targets = np.array([3, 1])
    actual = quantus.explain(model, pictures.numpy(), targets, device="cpu", layers="4")
    expected = cam.attribute(model, pictures, "gradcam", [3, 1], "4")["gradcam"].heatmap
    assert actual.dtype == np.float32
    assert actual.shape == (2, 1, 12, 10)
    assert np.array_equal(actual[:, 0], expected.numpy())
    actual = quantus.explain(
        model=model, inputs=pictures.double().numpy(), targets=targets, method="saliency"
    )
    expected = cam.attribute(model, pictures, "saliency", [3, 1])["saliency"].heatmap
    assert np.array_equal(actual[:, 0], expected.numpy())
