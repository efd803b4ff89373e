"""Layer-wise relevance propagation against zennit, by hand, on odd networks."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import COMPOSITES
from zennit.torchvision import ResNetCanonizer

import cam
from cam._methods.relevance.lrp import COMPOSITES as OURS

NAME = "lrp"
EPSILON = 1e-9
NAMES = tuple(name for name in OURS if name in COMPOSITES)


def unevenly(network: nn.Module) -> nn.Module:
    """Batch norms that do something, as after training."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.weight.shape
            # Zennit leaves it in the batch norms that it has merged.
            module.eps = 1e-12
            module.weight.data = 0.5 + torch.rand(shape, generator=generator)
            module.bias.data = 0.3 * torch.randn(shape, generator=generator)
            module.running_mean = 0.3 * torch.randn(shape, generator=generator)
            module.running_var = 0.5 + torch.rand(shape, generator=generator)
    return network.eval()


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    return unevenly(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 4),
        )
    )


class Functions(nn.Module):
    """The same, with functions, and with its modules listed the other way round."""

    def __init__(self, like: nn.Sequential) -> None:
        super().__init__()
        self.head, self.norm2, self.norm1 = like[9], like[5], like[1]
        self.second, self.first = like[4], like[0]
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(functional.relu_(self.norm1(self.first(x))), 2)
        x = self.norm2(self.second(x)).relu()
        return self.head(x.mean((2, 3), True).flatten(1))


def pictures(count: int = 3, side: int = 14) -> torch.Tensor:
    return torch.randn(count, 3, side, side + 4, generator=torch.Generator().manual_seed(5))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


def zennits(name, network, batch, targets, canonizer) -> torch.Tensor:
    # Zennit adds its stabilizer also where it averages.
    options = {"stabilizer": EPSILON, "epsilon": EPSILON}
    if name == "excitation_backprop":
        del options["epsilon"]
    if name == "epsilon_gamma_box":
        options |= {"low": torch.full_like(batch[:1], -3), "high": torch.full_like(batch[:1], 3)}
    composite = COMPOSITES[name](canonizers=[canonizer], **options)
    one_hot = functional.one_hot(torch.tensor(targets), network(batch).shape[1])
    with Gradient(network, composite, attr_output=lambda output: output * one_hot) as peer:
        return peer(batch)[1].sum(1)


def as_zennit(name: str) -> cam.Method:
    return cam.method(NAME, composite=name, bias="absorb", epsilon=EPSILON)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_zennits(name):
    network, batch, targets = chain().double(), pictures().double(), [0, 3, 1]
    expected = zennits(name, network, batch, targets, SequentialMergeBatchNorm())
    attribution = cam.attribute(network, batch, as_zennit(name), targets, batch_size=2)[NAME]
    assert error(attribution.raw.double(), expected) <= 1e-5
    magnitude = expected.abs()
    low, high = magnitude.amin((1, 2), keepdim=True), magnitude.amax((1, 2), keepdim=True)
    assert error(attribution.heatmap.double(), (magnitude - low) / (high - low)) <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_functions_and_the_order_of_modules_do_not_matter(name):
    network, batch = chain().double(), pictures().double()
    expected = zennits(name, network, batch, [0, 3, 1], SequentialMergeBatchNorm())
    if "flat" in name or "box" in name:
        # Zennit knows the first layer by the order in which modules are listed.
        other = Functions(network)
        other.__dict__["_modules"] = dict(reversed(other._modules.items()))
    else:
        other = Functions(network)
    attribution = cam.attribute(other, batch, as_zennit(name), [0, 3, 1])[NAME]
    assert error(attribution.raw.double(), expected) <= 1e-5


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_a_residual_network_is_what_zennits_canonizer_makes_of_it(kind):
    torch.manual_seed(0)
    network = unevenly(torchvision.models.get_model(kind, weights=None)).double()
    batch = pictures(1, 44).double()
    expected = zennits("epsilon_plus", network, batch, [7], ResNetCanonizer())
    attribution = cam.attribute(network, batch, as_zennit("epsilon_plus"), targets=7)[NAME]
    assert error(attribution.raw.double(), expected) <= 1e-5


@pytest.mark.parametrize("inside", [True, False])
def test_a_batch_norm_behind_an_activation_is_not_merged(inside):
    """In place the activation returns the very tensor that the convolution did."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(inside), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1)]
    network = unevenly(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6, 4))).double()
    batch = pictures(1).double()
    raw = cam.attribute(network, batch, NAME, targets=1)[NAME].raw
    with torch.no_grad():
        hidden = network[0](batch).relu()
        normed = network[2](hidden)
        # Each channel's mean is a share of the logit, to which its bias goes in proportion.
        parts = network[5].weight[1] * normed.mean((2, 3))
        parts = parts + network[5].bias[1] * parts.abs() / parts.abs().sum()
        relevance = parts[..., None, None] * normed / normed.sum((2, 3), keepdim=True)
        columns = functional.unfold(batch, 3).mT[0, :, None]  # (positions, 1, 27)
        products = (columns * network[0].weight.flatten(1)).clamp(min=0)
        shares = products / products.sum(-1, keepdim=True)
        shared = (shares * relevance[0].flatten(1).mT[..., None]).sum(1)
        expected = functional.fold(shared.mT[None], batch.shape[2:], 3).sum(1)
    assert error(raw.double(), expected) <= 1e-5


class Hand(nn.Module):
    """Scores of pixels (a, b): a sum, a gated product and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        self.linear.weight.data = torch.eye(2)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x.flatten(1))
        a, b = x[:, 0] * 1, x[:, 1] * 1
        return torch.stack([a + b, (x * a[:, None]).sum(1), x.mean(1)], 1)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # Of a + b each gets what it is.
        (0, [3.0, -1]),
        # Of a (a, b) the pair, which is larger than its gate, gets all, each its part: a², a b.
        (1, [9.0, -3]),
        # Of a mean each gets its share.
        (2, [1.5, -0.5]),
    ],
    ids=["sum", "product", "mean"],
)
def test_by_hand(target, expected):
    picture = torch.tensor([3.0, -1]).reshape(1, 1, 1, 2).double()
    attribution = cam.attribute(Hand().double(), picture, NAME, targets=target)[NAME]
    assert torch.allclose(attribution.raw, torch.tensor([[expected]]).float(), atol=1e-4)


class Scaled(nn.Module):
    """A network whose features meet a constant factor that says nothing."""

    def __init__(self, change) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 6, 3, bias=False), nn.Conv2d(6, 6, 3, bias=False)
        self.head = nn.Linear(6, 4, bias=False)
        self.scale = nn.Parameter(torch.rand(6, 1, 1) / 10)
        self.change = change
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.change(self.first(x).relu(), self.scale)
        return self.head(self.second(x).relu().mean((2, 3)))


@pytest.mark.parametrize(
    "change",
    [
        lambda x, _scale: x * 2,
        lambda x, _scale: 2 * x,
        lambda x, _scale: x / 2,
        lambda x, _scale: x.div_(4),
        lambda x, scale: x * scale,
        lambda x, scale: scale.abs() * x,
        lambda x, scale: x * nn.functional.softplus(scale),
        lambda x, scale: (x * 2 + x.mul(scale)) / 3,
    ],
    ids=["x*2", "2*x", "x/2", "in place", "x*g", "g*x", "of a parameter", "several"],
)
def test_a_constant_factor_takes_nothing(change):
    """As a layer scale; the first three alone gave 2, 2 and a half times the score."""
    batch = pictures(1).double()
    attribution = cam.attribute(Scaled(change).double(), batch, NAME, targets=1)[NAME]
    assert torch.allclose(attribution.raw.sum((1, 2)), attribution.scores, rtol=1e-3)


def test_two_and_a_half_make_no_difference():
    batch = pictures(2).double()
    plain, scaled = Scaled(lambda x, _: x), Scaled(lambda x, _: x * 2 / 2)
    maps = [
        cam.attribute(network.double(), batch, NAME, 2)[NAME].raw for network in (plain, scaled)
    ]
    assert torch.allclose(*maps, rtol=1e-4, atol=1e-9)


def convnext() -> nn.Module:
    network = torchvision.models.convnext_tiny(num_classes=7)
    for block in network.modules():
        if hasattr(block, "layer_scale"):
            block.layer_scale.data.uniform_(0.2, 0.8)
    return network


def other_norms() -> nn.Module:
    norms = [nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True), nn.LayerNorm([6, 34, 38])]
    for norm in norms:
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_()
    layers = [layer for norm in norms for layer in (nn.Conv2d(6, 6, 3), norm, nn.SiLU())]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7)]
    return nn.Sequential(nn.Conv2d(3, 6, 1), *layers, *last)


NETWORKS = {
    "ResNet-18": lambda: torchvision.models.resnet18(num_classes=7),
    "DenseNet": lambda: torchvision.models.densenet121(num_classes=7),
    "ConvNeXt-T with layer scales": convnext,
    "gates": lambda: timm.create_model("test_efficientnet", num_classes=7),
    "constants": lambda: timm.create_model("test_nfnet", num_classes=7),
    "other norms": other_norms,
    "GoogLeNet": lambda: torchvision.models.googlenet(
        num_classes=7, init_weights=False, transform_input=True, aux_logits=False
    ),
}


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_gamma_box"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_sum_is_the_score(kind, composite):
    torch.manual_seed(0)
    network = unevenly(NETWORKS[kind]()).double()
    method = cam.method(NAME, composite=composite)
    attribution = cam.attribute(network, pictures(2, 40).double(), method, targets=[3, 5])[NAME]
    assert torch.allclose(attribution.raw.sum((1, 2)), attribution.scores, rtol=0.02)
    assert attribution.remarks == ()


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box"])
def test_the_bundled_models_score_arrives_at_the_pixels(bundled, batch, composite):
    """Of the cat's 9.27, 0.009 % did: merged batch norms' biases kept the rest."""
    method = cam.method(NAME, composite=composite)
    attribution = cam.attribute(bundled, batch[:1], method)[NAME]
    assert attribution.scores.item() == pytest.approx(9.27, abs=0.01)
    assert attribution.raw.sum().item() == pytest.approx(attribution.scores.item(), rel=0.05)
    assert attribution.remarks == ()


def test_what_biases_absorb_is_remarked(bundled, batch):
    method = cam.method(NAME, bias="absorb")
    ((image, sentence),) = cam.attribute(bundled, batch[:1], method)[NAME].notes()
    assert image == 0
    assert "adds up to 0.000853 at the pixels, but the score is 9.27" in sentence
    assert "bias='share'" in sentence


class Matrix(nn.Module):
    """A layer on four pixels, some of them 0, and its output."""

    def __init__(self, weight: list[list[float]], bias: list[float]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, len(bias))
        self.layer.weight.data = torch.tensor(weight)
        self.layer.bias.data = torch.tensor(bias)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Contributions 2, -1, 3, 0 and a bias of 2: an output of 6.
        ({"linear": "epsilon", "bias": "absorb"}, [2, -1, 3, 0]),
        # The bias goes to 2, 1, 3 of 6.
        ({"linear": "epsilon"}, [2 + 4 / 6, -1 + 2 / 6, 3 + 1, 0]),
        ({"linear": "z_plus"}, [6 * 2 / 5, 0, 6 * 3 / 5, 0]),
        ({"linear": "z_plus", "bias": "absorb"}, [6 * 2 / 7, 0, 6 * 3 / 7, 0]),
        ({"linear": "alpha_beta", "alpha": 3, "beta": 2}, [18 * 2 / 5, -12, 18 * 3 / 5, 0]),
        # Positive ones twice: 4, -1, 6 and a bias of 4.
        ({"linear": "gamma", "gamma": 1, "bias": "absorb"}, [6 * c / 13 for c in (4, -1, 6, 0)]),
        (
            {"linear": "gamma", "gamma": 1},
            [6 / 13 * c for c in (4 + 8 / 6, -1 + 4 / 6, 6 + 2, 0)],
        ),
        ({"first": "flat"}, [1.5] * 4),
        ({"first": "w_square"}, [6 * c / 31 for c in (4, 1, 1, 25)]),
        # x W - low W⁺ - high W⁻ for pixels from -1 to 4: 4, 3, 4 and 5.
        ({"first": "box", "low": -1, "high": 4}, [6 * c / 16 for c in (4, 3, 4, 5)]),
    ],
    ids=str,
)
def test_rules_by_hand(options, expected):
    network = Matrix([[2.0, -1, 1, 5], [0, 0, 0, 0]], [2.0, 0]).double()
    picture = torch.tensor([1.0, 1, 3, 0]).reshape(1, 1, 2, 2).double()
    method = cam.method(NAME, epsilon=0, **options)
    attribution = cam.attribute(network, picture, method, targets=0)[NAME]
    assert torch.allclose(attribution.raw.flatten(), torch.tensor(expected).float(), atol=1e-5)


def test_what_a_bias_alone_brought_about_is_shared_evenly():
    network = Matrix([[0.0, 0, 0, 5]], [2.0]).double()
    picture = torch.tensor([1.0, 1, 3, 0]).reshape(1, 1, 2, 2).double()
    raw = cam.attribute(network, picture, NAME, targets=0)[NAME].raw
    assert torch.allclose(raw, torch.full_like(raw, 0.5))


def test_where_all_contributions_are_negative_they_take_all():
    network = Matrix([[-1.0, -2, -1, 0]], [1.0]).double()
    picture = torch.tensor([1.0, 1, 3, 0]).reshape(1, 1, 2, 2).double()
    raw = cam.attribute(network, picture, cam.method(NAME, linear="z_plus"), targets=0)[NAME].raw
    assert torch.allclose(raw.flatten(), torch.tensor([-5 / 6, -10 / 6, -15 / 6, 0]), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_comes_back_also_after_an_exception(name):
    network, batch = chain(), pictures()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    pointers = [parameter.data_ptr() for parameter in network.parameters()]
    saliency = cam.attribute(network, batch, "saliency", targets=1)["saliency"]
    method = cam.method(NAME, composite=name, bias="absorb")
    cam.attribute(network, batch, method, targets=1)
    with pytest.raises(cam.Cancelled):
        cam.attribute(network, batch, method, batch_size=1, progress=lambda p: p.done < 1)
    assert torch.equal(cam.attribute(network, batch, "saliency", 1)["saliency"].raw, saliency.raw)
    for module in network.modules():
        assert not (module._forward_hooks or module._backward_hooks or module._forward_pre_hooks)
    assert network[2].inplace and network[0].bias is None
    assert list(before) == list(network.state_dict())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert pointers == [parameter.data_ptr() for parameter in network.parameters()]
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_bundled_models_batch_norms_are_merged(bundled, batch):
    """Timm's are no leaves, which zennit's own search looks for; so a merged twin is the truth."""
    from copy import deepcopy

    from torch.nn.utils.fusion import fuse_conv_bn_weights

    twin = deepcopy(bundled.module)
    leaves = dict(twin.named_modules())
    for norm, module in leaves.items():
        if isinstance(module, nn.BatchNorm2d):
            near = {"bn1": "conv1", "bn2": "conv2", "bn3": "conv3"}
            parent, _, child = norm.rpartition(".")
            kind = type(leaves[parent]).__name__ if parent else ""
            if kind == "DepthwiseSeparableConv":
                near = {"bn1": "conv_dw", "bn2": "conv_pw"}
            elif kind == "InvertedResidual":
                near = {"bn1": "conv_pw", "bn2": "conv_dw", "bn3": "conv_pwl"}
            else:
                near = {"bn1": "conv_stem", "bn2": "conv_head"}
            conv = leaves[f"{parent}.{near[child]}" if parent else near[child]]
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                module.running_mean,
                module.running_var,
                module.eps,
                module.weight,
                module.bias,
            )
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)
            module.weight.data.fill_(1)
            module.bias.data.zero_()
    small = batch[:1, :, ::2, ::2]
    attribution = cam.attribute(bundled, small, NAME, targets=281)[NAME]
    expected = cam.attribute(twin, small, NAME, targets=281)[NAME]
    assert torch.allclose(attribution.scores, expected.scores, rtol=1e-3)
    assert error(attribution.raw, expected.raw) <= 0.02


def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone():
    network, batch = chain(), pictures()
    together = cam.attribute(network, batch, NAME, [2, 0, 1])[NAME]
    for image, target in enumerate([2, 0, 1]):
        alone = cam.attribute(network, batch[image : image + 1], NAME, target)[NAME]
        assert error(together.raw[image : image + 1], alone.raw) <= 1e-4
    batch[0, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, batch, NAME, [2, 0, 1])[NAME]
    assert attribution.raw[0].isnan().all()
    assert error(attribution.raw[1:], together.raw[1:]) <= 1e-4


def test_other_precisions_frozen_models_callables_and_inference_mode():
    network, batch = chain().requires_grad_(False), pictures(2)
    single = cam.attribute(network, batch, NAME, targets=1)[NAME]
    assert (single.cost.forwards, single.cost.backwards) == (2, 1)
    with torch.inference_mode():
        again = cam.attribute(network, batch, NAME, lambda y: y[1])[NAME]
    assert torch.equal(again.raw, single.raw)
    double = cam.attribute(network.double(), batch.double(), NAME, 1)[NAME]
    assert error(single.raw, double.raw) <= 1e-3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"composite": "epsilon_pluss"},
            "composite must be one of .*, but is 'epsilon_pluss'",
        ),
        ({"composite": 3}, "composite must be one of .*, but is 3"),
        ({"low": "dark"}, "low must be a finite number, but is 'dark'"),
        ({"high": float("inf")}, "high must be a finite number, but is inf"),
        ({"low": 1, "high": 1}, "low must be below its high"),
        ({"alpha": 2, "beta": 2}, "alpha must be its beta plus 1"),
        (
            {"convolution": "flat"},
            "convolution must be one of composite, epsilon, gamma, z_plus, alpha_beta, but",
        ),
        ({"first": "zbox"}, "first must be one of composite, .*box, but is 'zbox'"),
        ({"bias": None}, "bias must be one of share, absorb, but is None"),
    ],
    ids=str,
)
def test_wrong_parameters_are_named(wrong, sentence):
    with pytest.raises(cam.MethodError, match=sentence):
        cam.attribute(chain(), pictures(1), cam.method(NAME, **wrong))
