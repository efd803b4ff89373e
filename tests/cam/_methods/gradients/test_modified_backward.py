"""Guided backpropagation, deconvnet and guided Grad-CAM against captum, by hand."""

from copy import deepcopy

import pytest
import torch
from captum.attr import Deconvolution, GuidedBackprop, GuidedGradCam
from torch import nn
from torch.nn import functional

import cam

PEERS = {"guided_backprop": GuidedBackprop, "deconvnet": Deconvolution}
NAMES = [*PEERS, "guided_gradcam"]
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning")


class Network(nn.Module):
    """Three kinks, written in one of several ways."""

    def __init__(self, way: str = "modules") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, stride=2)
        self.head = nn.Linear(8, 4)
        self.kinks = nn.ModuleList(nn.ReLU(inplace=way == "in place") for _ in range(3))
        self.way = way
        self.eval()

    def kink(self, number: int, x: torch.Tensor) -> torch.Tensor:
        if self.way in ("modules", "in place"):
            return self.kinks[number](x)
        if self.way == "one module":
            return self.kinks[0](x)
        if self.way == "functions":
            return [functional.relu, torch.relu, torch.Tensor.relu_][number](x)
        return [lambda y: y.clamp(min=0), lambda y: y.clamp_min(0), lambda y: y.clamp(0)][number](x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.kink(0, self.first(x)), 2)
        x = self.kink(1, self.second(x)) + x.mean(1, keepdim=True)
        return self.head(self.kink(2, self.third(x)).mean((2, 3)))


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 14, 18, generator=torch.Generator().manual_seed(5))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def captums(name: str, network: nn.Module, layer: nn.Module, batch, targets) -> torch.Tensor:
    if name == "guided_gradcam":
        peer = GuidedGradCam(network, layer)
        actual = peer.attribute(batch, targets, interpolate_mode="bilinear")
    else:
        actual = PEERS[name](network).attribute(batch, target=targets)
    return actual.detach().abs().amax(1)


WAYS = ["modules", "in place", "one module", "functions", "clamps"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_captums_whatever_way_the_relus_are_written(name, way):
    """Captum is given the network with modules: it does not see functions, which it says itself."""
    plain, batch, targets = Network(), pictures(), [0, 3, 1]
    expected = captums(name, plain, plain.second, batch, targets)
    attribution = cam.attribute(Network(way), batch, name, targets, layers="second", batch_size=2)[
        name
    ]
    assert attribution.raw.shape == (3, 14, 18)
    assert error(attribution.raw, expected) <= 1e-4
    low, high = expected.amin((1, 2), keepdim=True), expected.amax((1, 2), keepdim=True)
    assert error(attribution.heatmap, (expected - low) / (high - low)) <= 1e-4
    assert attribution.layers == (("second",) if name == "guided_gradcam" else ())


class Kink(nn.ReLU):
    """ReLU6 as captum knows it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu6(x)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_captums_on_the_bundled_model(name, bundled, batch):
    """It has ReLU6 throughout, which captum passes by."""
    twin = deepcopy(bundled.module)
    for module in list(twin.modules()):
        for child, inside in module.named_children():
            if isinstance(inside, nn.ReLU6):
                setattr(module, child, Kink())
    targets, batch = [281, 967], batch[:2]
    attribution = cam.attribute(bundled, batch, name, targets)[name]
    layer = twin.get_submodule(attribution.layers[0]) if attribution.layers else twin
    assert error(attribution.raw, captums(name, twin, layer, batch, targets)) <= 1e-4


class Two(nn.Module):
    """Scores of 1 × 1 × 2 pixels (a, b): relu(relu(a) - 2 relu(b)) and minus that."""

    def __init__(self) -> None:
        super().__init__()
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = functional.relu(x).flatten(1).unbind(1)
        score = functional.relu(a - 2 * b)
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize(
    ("name", "pixels", "target", "expected"),
    [
        # Behind the outer ReLU the gradient is (1, -2): the negative one does not pass the inner.
        ("guided_backprop", [5.0, 1], 0, [1.0, 0]),
        ("deconvnet", [5.0, 1], 0, [1.0, 0]),
        # Where the outer is shut, guided backpropagation gives nothing, and deconvnet all the same.
        ("guided_backprop", [1.0, 3], 0, [0.0, 0]),
        ("deconvnet", [1.0, 3], 0, [1.0, 0]),
        # What speaks against the class passes neither.
        ("guided_backprop", [5.0, 1], 1, [0.0, 0]),
        ("deconvnet", [5.0, 1], 1, [0.0, 0]),
    ],
)
def test_by_hand(name, pixels, target, expected):
    picture = torch.tensor(pixels).reshape(1, 1, 1, 2)
    attribution = cam.attribute(Two(), picture, name, targets=target)[name]
    assert attribution.raw.tolist() == [[expected]]


@pytest.mark.parametrize("name", NAMES)
def test_the_model_comes_back_and_its_gradient_is_its_own_again(name):
    network, batch = Network("in place"), pictures()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    saliency = cam.attribute(network, batch, "saliency", targets=1)["saliency"]
    cam.attribute(network, batch, name, targets=1, layers="second")
    assert torch.equal(cam.attribute(network, batch, "saliency", 1)["saliency"].raw, saliency.raw)
    for module in network.modules():
        assert not (module._forward_hooks or module._backward_hooks or module._forward_pre_hooks)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone(name):
    network, batch = Network(), pictures()
    together = cam.attribute(network, batch, name, [2, 0, 1], layers="second")[name]
    for image, target in enumerate([2, 0, 1]):
        single = batch[image : image + 1]
        alone = cam.attribute(network, single, name, target, layers="second")[name]
        assert error(together.raw[image : image + 1], alone.raw) <= 1e-5
    batch[1, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 1 is NaN"):
        attribution = cam.attribute(network, batch, name, [2, 0, 1], layers="second")[name]
    assert attribution.raw[1].isnan().all()
    assert error(attribution.raw[[0, 2]], together.raw[[0, 2]]) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_other_precisions_frozen_models_callables_and_inference_mode(name):
    network, batch = Network().requires_grad_(False), pictures(2)
    single = cam.attribute(network, batch, name, targets=1, layers="second")[name]
    with torch.inference_mode():
        again = cam.attribute(network, batch, name, lambda y: y[1], layers="second")[name]
    assert torch.equal(again.raw, single.raw)
    double = cam.attribute(network.double(), batch.double(), name, 1, layers="second")[name]
    assert error(single.raw, double.raw) <= 1e-4
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), name, 1, layers="second")[name]
    assert error(half.raw, double.raw) <= 0.1


def smooth(*kinks: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    inside = [
        layer for kink in kinks for layer in (nn.Conv2d(3, 3, 3, padding=1, bias=False), kink)
    ]
    return nn.Sequential(*inside, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)).eval()


@pytest.mark.parametrize("name", NAMES)
def test_a_network_without_relus_is_refused_and_other_activations_are_told(name):
    batch = pictures(1)
    for network in (smooth(nn.GELU()), smooth(nn.Hardtanh()), smooth(nn.Threshold(0.5, 0))):
        with pytest.raises(cam.MethodError, match=f"^{name} changes what ReLUs send back, but"):
            cam.attribute(network, batch, name, layers="0")
    network = smooth(nn.ReLU(), nn.GELU(), nn.SiLU())
    with pytest.warns(cam.CamWarning, match=r"also has GELU, SiLU, which kept"):
        cam.attribute(network, batch, name, layers="0")


@pytest.mark.parametrize("name", PEERS)
def test_they_see_one_more_forward_and_backward_each(name):
    cost = cam.attribute(Network(), pictures(), name)[name].cost
    assert (cost.forwards, cost.backwards) == (2, 1)


def test_they_do_not_care_about_the_class_as_saliency_does():
    """Adebayo et al. 2018: guided backpropagation hardly changes with the target."""
    network, batch = Network(), pictures(4)
    alike = {}
    for name in ("guided_backprop", "saliency"):
        maps = [cam.attribute(network, batch, name, target)[name].raw for target in (0, 1)]
        alike[name] = functional.cosine_similarity(*[map_.flatten(1) for map_ in maps]).mean()
    assert alike["guided_backprop"] > alike["saliency"]
