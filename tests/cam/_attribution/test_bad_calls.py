"""Wrong arguments to `cam.attribute`: one clear sentence each."""

import re

import pytest
import torch
from torch import nn

import cam


@pytest.fixture(scope="module")
def model() -> cam.Model:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    return cam.Model(module.eval(), labels=["tabby", "tiger cat", "moped"])


PICTURES = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"methods": "gradcan"}, cam.MethodError, "no method 'gradcan'; did you mean 'gradcam'"),
        ({"methods": []}, cam.MethodError, "methods is empty"),
        ({"methods": [3]}, cam.MethodError, "a name or a cam.method(…), not int"),
        ({"layers": "fetures"}, cam.LayerError, "no layer 'fetures'; known: 0, 1, 2, 3, 4"),
        (
            {"layers": "nope", "methods": "saliency"},
            cam.LayerError,
            "the model has no layer 'nope'",
        ),
        ({"layers": []}, cam.LayerError, "layers is empty"),
        ({"layers": [nn.ReLU()]}, cam.LayerError, "given ReLU is not a layer of this model"),
        ({"layers": "4"}, cam.LayerError, "returns (2, 3), neither feature maps (B, C, h, w)"),
        ({"targets": 3}, cam.TargetError, "target 3 is out of range: the model has 3 classes"),
        ({"targets": -1}, cam.TargetError, "target -1 is out of range"),
        ({"targets": [0, 1, 2]}, cam.TargetError, "3 targets were given for 2 images"),
        ({"targets": "tiger"}, cam.TargetError, "no class 'tiger'; did you mean 'tiger cat'"),
        ({"targets": 1.5}, cam.TargetError, "a label or a callable, not float"),
        ({"targets": True}, cam.TargetError, "not True or False"),
        ({"targets": torch.tensor([0.5, 1])}, cam.TargetError, "holds integers, not torch.float32"),
        ({"targets": [0, lambda s: s[0]]}, cam.TargetError, "mixes callables with classes"),
        ({"targets": lambda scores: scores}, cam.TargetError, "must return a scalar"),
    ],
    # Without addresses: every worker must see the same names.
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value))[:40] if isinstance(value, dict) else "",
)
def test_arguments(model, arguments, error, says):
    with pytest.raises(error, match=re.escape(says)) as caught:
        cam.attribute(model, PICTURES, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ([[1.0]], "a list of list, neither images nor a tensor (B, C, H, W)"),
        (torch.zeros(3, 8, 8), "it must be floats (B, C, H, W)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "the batch is torch.uint8"),
        (torch.zeros(0, 3, 8, 8), "the batch is empty"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "the batch is on meta and the model on cpu"),
    ],
    ids=["numbers", "one image", "bytes", "none", "another device"],
)
def test_batches(model, batch, says):
    with pytest.raises(cam.InputError, match=re.escape(says)):
        cam.attribute(model, batch)


def test_a_model_without_convolutions():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 3)).eval()
    with pytest.raises(cam.LayerError, match=r"has no layer with maps.*use 'saliency'"):
        cam.attribute(module, PICTURES, "gradcam")
    assert cam.attribute(module, PICTURES, "saliency")["saliency"].raw.shape == (2, 8, 8)


def test_a_layer_that_does_not_run():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)).eval()
    module[0].unused = nn.Conv2d(3, 4, 3)
    with pytest.raises(cam.LayerError, match="did not run"):
        cam.attribute(module, PICTURES, "gradcam", layers="0.unused")


def test_a_score_that_does_not_depend_on_the_layer():
    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.way = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 3, 3)

        def forward(self, x):
            self.aside(x)
            return self.way(x).mean((2, 3))

    with pytest.raises(cam.LayerError, match="does not depend on layer 'aside'"):
        cam.attribute(Beside().eval(), PICTURES, "gradcam", layers="aside")


def test_a_score_that_no_gradient_reaches():
    class Cut(nn.Module):
        def forward(self, x):
            return x.detach().mean((2, 3))

    with pytest.raises(cam.ModelError, match="does not depend on the pixels"):
        cam.attribute(Cut().eval(), PICTURES, "saliency")


def test_an_output_that_is_no_tensor_of_logits():
    class Two(nn.Module):
        def forward(self, x):
            return "one", "two"

    with pytest.raises(cam.ModelError, match="returned a tuple without logits"):
        cam.attribute(Two().eval(), PICTURES, "saliency")
    with pytest.raises(cam.TargetError, match=re.escape("not (B, classes)")):
        cam.attribute(nn.Conv2d(3, 4, 3).eval(), PICTURES, "saliency")


def test_what_is_no_model():
    with pytest.raises(cam.ModelError, match="not str"):
        cam.attribute("resnet18", PICTURES)
    with pytest.raises(cam.ModelError, match="not str"):
        cam.Model("resnet18")


def test_a_method_with_parameters_it_does_not_have():
    with pytest.raises(cam.MethodError, match="saliency has no parameters, so 'steps'"):
        cam.method("saliency", steps=3)


@pytest.mark.parametrize(
    "targets",
    [1, "Tiger Cat", [1, 1], (1, "tiger cat"), torch.tensor([1, 1]), torch.tensor(1).numpy()],
    ids=["index", "label", "list", "mixed", "tensor", "numpy"],
)
def test_targets_that_mean_the_same(model, targets):
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    attribution = cam.attribute(model, picture, "saliency", targets=targets)["saliency"]
    assert attribution.targets.tolist() == [1, 1]
    assert torch.allclose(attribution.scores, model.module(picture)[:, 1])


def test_callable_targets_explain_any_scalar(model):
    """Why 0 and not 2: by linearity the gradient of the difference."""
    picture = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = picture.clone().requires_grad_()
    logits = model.module(pixels)
    expected = torch.autograd.grad((logits[:, 0] - logits[:, 2]).sum(), pixels)[0].abs().amax(1)
    attributions = cam.attribute(
        model, picture, "saliency", targets=lambda output: output[0] - output[2]
    )
    assert torch.allclose(attributions["saliency"].raw, expected)
    assert all(callable(target) for target in attributions["saliency"].targets)
