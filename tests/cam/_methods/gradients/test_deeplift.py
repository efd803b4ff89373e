"""DeepLIFT against captum, by hand, and complete on networks of all kinds."""

import pytest
import timm
import torch
import torchvision
from captum.attr import DeepLift, DeepLiftShap
from torch import nn
from torch.nn import functional

import cam
from cam._methods.base.background import take_background

NAME = "deeplift"
pytestmark = pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")


class Network(nn.Module):
    """Four kinks and a pooling, written in one of several ways.

    Convolutions stand before and behind the pooling: where the output of one module that captum
    changes is the input of another, captum sends back the second's own gradient, not its slope.
    """

    def __init__(self, way: str = "modules") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.before = nn.Conv2d(6, 6, 1)
        self.between = nn.Conv2d(6, 6, 1)
        self.third = nn.Conv2d(6, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.norm.running_mean.normal_()
        self.head = nn.Linear(8, 4)
        inside = way == "in place"
        self.kinks = nn.ModuleList([nn.ReLU(inside), nn.Sigmoid(), nn.ReLU(inside), nn.Tanh()])
        self.pool = nn.MaxPool2d(2)
        self.way = way
        self.eval()

    def kink(self, number: int, x: torch.Tensor) -> torch.Tensor:
        if self.way == "one module" and number in (0, 2):
            return self.kinks[0](x)
        if self.way == "functions":
            return [functional.relu, torch.sigmoid, torch.Tensor.relu_, torch.tanh][number](x)
        if self.way == "statements" and number == 2:
            x.clamp_(min=0)
            return x
        return self.kinks[number](x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(self.kink(0, self.first(x)))
        x = functional.max_pool2d(x, 2) if self.way == "functions" else self.pool(x)
        x = self.kink(1, self.second(x)) + self.between(x)
        x = self.kink(2, self.norm(self.third(x)))
        return self.head(self.kink(3, x.mean((2, 3))))


def pictures(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 14, 18, generator=torch.Generator().manual_seed(5))


def error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest relative error of an image."""
    assert (expected.flatten(1).std(1) > 0).all(), "a flat map would agree with anything"
    distances = (actual - expected).flatten(1).norm(dim=1)
    return float((distances / expected.flatten(1).norm(dim=1)).max())


@pytest.mark.parametrize("way", ["modules", "in place", "one module", "functions", "statements"])
@pytest.mark.parametrize("baseline", [0.0, -0.4])
def test_it_is_captums_whatever_way_the_activations_are_written(way, baseline):
    """Captum is given the network with modules, because it sees nothing else."""
    batch, targets = pictures().double(), [0, 3, 1]
    peer = DeepLift(Network().double())
    expected = peer.attribute(batch, torch.full_like(batch, baseline), target=targets)
    expected = expected.detach().sum(1)
    method = cam.method(NAME, baseline=baseline)
    attribution = cam.attribute(Network(way).double(), batch, method, targets, batch_size=2)[NAME]
    assert error(attribution.raw.double(), expected) <= 1e-5
    magnitude = expected.abs()
    low, high = magnitude.amin((1, 2), keepdim=True), magnitude.amax((1, 2), keepdim=True)
    assert error(attribution.heatmap.double(), (magnitude - low) / (high - low)) <= 1e-5


def test_a_pooling_before_a_sigmoid_by_hand():
    """Captum's answer adds up to something else: 0.397 instead of 0.454."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.MaxPool2d(2), nn.Sigmoid(), nn.Flatten())
    network[0].weight.data.fill_(1)
    network[0].bias.data.fill_(0)
    picture = torch.randn(1, 1, 4, 4).double()
    head = nn.Linear(4, 1, bias=False)
    head.weight.data.fill_(1)
    attribution = cam.attribute(nn.Sequential(network, head).double().eval(), picture, NAME)[NAME]
    tiles = picture[0, 0].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    largest = tiles.amax(2)
    assert torch.allclose(
        attribution.raw[attribution.raw != 0].sort().values.double(),
        (largest.sigmoid() - 0.5).flatten().sort().values,
        atol=1e-6,
    )


class Gates(nn.Module):
    """A product of two parts, a pooling whose windows overlap, and activations captum passes by."""

    def __init__(self, kink) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)
        self.kink = kink
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.max_pool2d(self.kink(3 * self.first(x)), 3, stride=2, padding=1)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        y = self.gate(x).abs()
        x = x + 1
        x *= y
        return self.head(x.flatten(2).mean(2))


KINKS = {
    "ReLU6": nn.ReLU6(inplace=True),
    "SiLU": nn.SiLU(inplace=True),
    "GELU": nn.GELU(),
    "hardswish": functional.hardswish,
    "ELU": nn.ELU(inplace=True),
    "PReLU": nn.PReLU(6),
    "square": torch.square,
    "LeakyReLU": functional.leaky_relu_,
    "clamp": lambda x: x.clamp(-1, 1),
}


@pytest.mark.parametrize("kink", KINKS)
def test_the_map_adds_up_to_the_difference_of_the_scores(kink):
    network, batch = Gates(KINKS[kink]).double(), pictures().double()
    attribution = cam.attribute(network, batch, cam.method(NAME, baseline=0.3), targets=[0, 3, 1])[
        NAME
    ]
    with torch.no_grad():
        scores = network(batch) - network(torch.full_like(batch, 0.3))
    expected = scores[[0, 1, 2], [0, 3, 1]]
    assert expected.abs().min() > 1e-3
    assert torch.allclose(attribution.raw.sum((1, 2)).double(), expected, rtol=1e-4)
    assert attribution.remarks == ()
    with torch.no_grad():
        assert torch.allclose(attribution.logits.double(), network(batch).double(), atol=1e-6)


def test_it_adds_up_on_the_bundled_model_of_relu6(bundled, batch):
    attribution = cam.attribute(bundled, batch[:2, :, ::2, ::2], NAME)[NAME]
    with torch.no_grad():
        blank = bundled.module(torch.zeros_like(batch[:1, :, ::2, ::2]))[0]
    expected = attribution.scores - blank[attribution.targets]
    assert torch.allclose(attribution.raw.sum((1, 2)), expected, rtol=1e-3)


class Hand(nn.Module):
    """Scores of pixels (a, b): relu(a - 1) + a b, and the larger of the two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = x.flatten(1).unbind(1)
        a, b = a * 1, b * 1
        largest = functional.max_pool2d(x, (1, 2)).flatten()
        return torch.stack([functional.relu(a - 1) + a * b, largest], 1)


@pytest.mark.parametrize(
    ("pixels", "baseline", "target", "expected"),
    [
        # From 0 to 3 the ReLU rises by 2; the product, 12, belongs half to each.
        ([3.0, 4], 0, 0, [2 + 6, 6]),
        # From (1, 1): 2 of the ReLU; (3 - 1)·(4 + 1)/2 and (4 - 1)·(3 + 1)/2 of the product.
        ([3.0, 4], 1, 0, [2 + 5, 6]),
        ([3.0, 4], 0, 1, [0, 4]),
        # The blank picture's maximum lies first and is larger by 1: that goes to its place.
        ([-3.0, -1], 0, 1, [-1, 0]),
    ],
)
def test_by_hand(pixels, baseline, target, expected):
    picture = torch.tensor(pixels).reshape(1, 1, 1, 2).double()
    method = cam.method(NAME, baseline=baseline)
    attribution = cam.attribute(Hand().eval(), picture, method, targets=target)[NAME]
    assert torch.allclose(attribution.raw, torch.tensor([[expected]]).float())


class Quotients(nn.Module):
    """Scores of pixels (a, b): a / b, a³, 1 / b, the maximum, and a softmax's first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = (x * 1).flatten(1).unbind(1)
        pair = torch.stack([a, b], 1)
        shares = [pair.softmax(1)[:, 0], functional.log_softmax(pair, 1)[:, 1].exp()]
        return torch.stack([a / b, a**3, 1 / b, pair.amax(1), pair.max(1)[0], *shares], 1)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        # From (1, 1) to (3, 2): (1/2 + 1)/2 · (3 - 1), and (3 + 1)/2 · (1/2 - 1).
        (0, [1.5, -1]),
        (1, [26, 0]),
        (2, [0, -0.5]),
        # The maxima are both a.
        (3, [2, 0]),
        (4, [2, 0]),
        # e^a S⁻¹, with S = e^a + e^b, divided by e³: (1, e⁻¹) and (e⁻², e⁻²).
        (5, None),
        (6, None),
    ],
)
def test_quotients_by_hand(target, expected):
    if expected is None:
        e = torch.tensor(1.0).double().exp()
        inverse, blank_inverse = 1 / (1 + 1 / e), e**2 / 2
        half, slope = (inverse + blank_inverse) / 2, (inverse - blank_inverse)
        change = torch.stack([1 - e**-2, 1 / e - e**-2])
        # S falls off by what both add to it.
        weight = slope * (1 + e**-2) / 2 / change.sum()
        expected = (weight * change + torch.tensor([half * change[0], 0])).tolist()
        if target == 6:
            expected = [-part for part in expected]
    picture = torch.tensor([3.0, 2]).reshape(1, 1, 1, 2).double()
    method = cam.method(NAME, baseline=1)
    attribution = cam.attribute(Quotients().eval(), picture, method, targets=target)[NAME]
    if target == 6:
        # Its logarithm is another way: only the sum is the same.
        assert float(attribution.raw.sum()) == pytest.approx(sum(expected), rel=1e-5)
        return
    assert torch.allclose(attribution.raw, torch.tensor([[expected]]).float())


def test_a_global_maximum_goes_to_its_place():
    class Largest(Network):
        def forward(self, x):
            x = functional.adaptive_max_pool2d(self.first(x).relu(), 1).flatten(1)
            return self.head(torch.cat([x, x.amax(1, True), x.amin(1, True) * 0], 1))

    batch = pictures().double()
    attribution = cam.attribute(Largest().double(), batch, NAME, targets=[0, 3, 1])[NAME]
    network = Largest().double()
    expected = (network(batch) - network(torch.zeros_like(batch)))[[0, 1, 2], [0, 3, 1]]
    assert torch.allclose(attribution.raw.sum((1, 2)).double(), expected, rtol=1e-4)
    # A window of 3 × 3 for each of the 6 maxima, for picture and blank one.
    assert (attribution.raw != 0).flatten(1).sum(1).max() <= 2 * 6 * 9


@pytest.mark.parametrize("kind", ["torchvision", "timm", "windows"])
def test_it_adds_up_through_attention(kind):
    torch.manual_seed(0)
    if kind == "torchvision":
        network = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
        nn.init.normal_(network.heads.head.weight)
    elif kind == "timm":
        network = timm.create_model("test_vit", img_size=32, patch_size=8, depth=2, num_classes=4)
    else:
        network = torchvision.models.SwinTransformer([2, 2], 8, [2, 2], [2, 4], [4, 4])
    network = network.eval().double()
    batch = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5)).double()
    attribution = cam.attribute(network, batch, NAME, targets=[3, 1])[NAME]
    expected = (network(batch) - network(torch.zeros_like(batch)))[[0, 1], [3, 1]]
    assert torch.allclose(attribution.raw.sum((1, 2)).double(), expected, rtol=1e-4)
    assert attribution.remarks == ()


def test_a_network_that_it_cannot_follow_is_told_in_the_notes():
    class Normed(Network):
        def forward(self, x):
            return 3 * super().forward(x / (1 + x.flatten(1).var(1)[:, None, None, None]))

    attribution = cam.attribute(Normed(), 0.1 + pictures(), cam.method(NAME, baseline=0.5), 0)[NAME]
    assert len(attribution.remarks) == 3 and attribution.remarks[0][1].endswith("off)")


def test_the_model_comes_back_also_after_an_exception():
    network, batch = Network("in place"), pictures()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    saliency = cam.attribute(network, batch, "saliency", targets=1)["saliency"]
    cam.attribute(network, batch, NAME, targets=1)
    with pytest.raises(cam.Cancelled):
        cam.attribute(network, batch, NAME, batch_size=1, progress=lambda p: p.done < 1)
    assert torch.equal(cam.attribute(network, batch, "saliency", 1)["saliency"].raw, saliency.raw)
    for module in network.modules():
        assert not (module._forward_hooks or module._backward_hooks or module._forward_pre_hooks)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.overrides._get_current_function_mode() is None


def test_an_image_has_its_map_alone_and_in_a_batch_and_nan_stays_alone():
    network, batch = Network(), pictures()
    together = cam.attribute(network, batch, NAME, [2, 0, 1])[NAME]
    for image, target in enumerate([2, 0, 1]):
        alone = cam.attribute(network, batch[image : image + 1], NAME, target)[NAME]
        assert error(together.raw[image : image + 1], alone.raw) <= 1e-4
    batch[1, 0, 0, 0] = torch.nan
    with pytest.warns(cam.CamWarning, match="image 1 is NaN"):
        attribution = cam.attribute(network, batch, NAME, [2, 0, 1])[NAME]
    assert attribution.raw[1].isnan().all()
    assert error(attribution.raw[[0, 2]], together.raw[[0, 2]]) <= 1e-4


def test_other_precisions_frozen_models_callables_and_inference_mode():
    network, batch = Network().requires_grad_(False), pictures(2)
    single = cam.attribute(network, batch, NAME, targets=1)[NAME]
    assert (single.cost.forwards, single.cost.backwards) == (3, 1)
    with torch.inference_mode():
        again = cam.attribute(network, batch, NAME, lambda y: y[1])[NAME]
    assert torch.equal(again.raw, single.raw)
    double = cam.attribute(network.double(), batch.double(), NAME, 1)[NAME]
    assert error(single.raw, double.raw) <= 1e-4
    half = cam.attribute(network.bfloat16(), batch.bfloat16(), NAME, 1)[NAME]
    assert error(half.raw, double.raw) <= 0.2


def test_a_wrong_baseline_is_named():
    with pytest.raises(cam.MethodError, match=r"^deeplift's baseline must be a finite number"):
        cam.attribute(Network(), pictures(1), cam.method(NAME, baseline=None))


# DeepSHAP.


def test_deepshap_is_captums_and_the_mean_of_deeplifts():
    batch, references = pictures(2).double(), pictures(4).double().flip(3)
    ours = cam.attribute(
        Network().double(), batch, cam.method("deepshap", references=references), [3, 1]
    )["deepshap"]
    peer = DeepLiftShap(Network().double())
    expected = peer.attribute(batch, references, target=[3, 1]).detach().sum(1)
    assert error(ours.raw.double(), expected) <= 1e-6
    assert not any("no references" in sentence for _, sentence in ours.notes())


def test_deepshap_adds_up_and_says_that_photos_stand_in():
    network, batch = Network(), pictures(2)
    maps = cam.attribute(network, batch, "deepshap", targets=1)["deepshap"]
    assert sum("had no references" in sentence for _, sentence in maps.notes()) == 2
    for image in range(2):
        others = take_background(None, batch[image])
        with torch.no_grad():
            rise = network(batch[image : image + 1])[0, 1] - network(others)[:, 1].mean()
        assert torch.isclose(maps.raw[image].sum(), rise, rtol=1e-3)
    alone = cam.attribute(network, batch[:1], "deepshap", targets=1, batch_size=2)["deepshap"]
    assert torch.allclose(alone.raw[0], maps.raw[0], rtol=1e-4, atol=1e-6)


def test_deepshap_refuses_a_background_of_another_size():
    method = cam.method("deepshap", references=torch.zeros(2, 3, 9, 9))
    with pytest.raises(cam.MethodError, match=r"^deepshap's references must have the shape \(R, 3"):
        cam.attribute(Network(), pictures(1), method)
