"""CAMs with further passes against grad-cam, torchcam and float64 formulas."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import FinerCAM, FullGrad, GradCAM, LayerCAM, RefineCAM, ShapleyCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputReST, ClassifierOutputTarget
from timm.layers import BatchNormAct2d
from torch import nn
from torchcam import methods as torchcam

import cam
from cam._engine.capture import capture
from cam._engine.passes import Passes
from cam._methods.gradients.full_gradient import Biases, bias_shares
from tests.support.networks import Curved, Pooled, conv, near, pictures

TARGETS = [3, 1]
PEER_TARGETS = [ClassifierOutputTarget(index) for index in TARGETS]


def ours(network, name, layers="0", targets=TARGETS, batch_size=32, **parameters):
    method = cam.method(name, **parameters)
    return cam.attribute(
        network, pictures(), method, targets=targets, layers=layers, batch_size=batch_size
    )[name]


def theirs(peer, network, layers=("0",), targets=PEER_TARGETS, **options) -> torch.Tensor:
    explainer = peer(network, [network.get_submodule(layer) for layer in layers])
    return torch.from_numpy(np.asarray(explainer(pictures(), targets, **options)))


def activations(network, layer="0") -> torch.Tensor:
    outputs = []
    handle = network.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: outputs.append(output.detach().clone())
    )
    with torch.no_grad():
        network(pictures().to(next(network.parameters())))
    handle.remove()
    return outputs[0]


def ranged(raw) -> torch.Tensor:
    """torchcam's normalisation."""
    positive = raw.clamp(min=0)
    positive = positive - positive.amin((1, 2), keepdim=True)
    return positive / (positive.amax((1, 2), keepdim=True) + 1e-8)


# Shapley CAM.


def test_shapleycam_is_grad_cams():
    network = Curved()
    actual = ours(network, "shapleycam", utility="score")
    assert near(actual.heatmap, theirs(ShapleyCAM, network))
    assert not near(actual.heatmap, theirs(GradCAM, network), 1e-3), "the Hessian changes nothing"
    assert (actual.cost.forwards, actual.cost.backwards) == (2, 2)


def test_shapleycam_is_the_formula_in_float64():
    network = Curved().double()
    maps = activations(network)
    behind = nn.Sequential(*list(network)[1:])
    for image, target in enumerate(TARGETS):
        leaf = maps[image]
        gradient = torch.autograd.functional.jacobian(
            lambda a, t=target: behind(a[None])[0, t], leaf
        )
        # H A by central differences of the gradient along A.
        step = 1e-4
        above, below = (
            torch.autograd.functional.jacobian(
                lambda a, t=target: behind(a[None])[0, t], leaf * (1 + sign * step)
            )
            for sign in (1, -1)
        )
        weights = (gradient - (above - below) / (2 * step) / 2).mean((1, 2))
        expected = torch.einsum("c,chw->hw", weights, leaf).float()
        assert near(ours(network.float(), "shapleycam", utility="score").raw[image], expected)
        network.double()


def test_shapleycam_is_gradcam_where_all_behind_the_layer_is_linear():
    network = Pooled()
    assert near(
        ours(network, "shapleycam", "2", utility="score").raw, ours(network, "gradcam", "2").raw
    )


def test_shapleycam_explains_the_papers_utility_by_default():
    """As grad-cam's program with its target ReST, and with ours."""
    network = Pooled()
    targets = [ClassifierOutputReST(index) for index in TARGETS]
    actual = ours(network, "shapleycam", "2")
    assert near(actual.heatmap, theirs(ShapleyCAM, network, ["2"], targets))
    rest = [cam.targets.ReST(index) for index in TARGETS]
    assert near(actual.raw, ours(network, "shapleycam", "2", rest).raw)
    assert not near(actual.raw, ours(network, "gradcam", "2").raw, 1e-3)


# Finer-CAM.


@pytest.mark.parametrize("alpha", [0.6, 1.0])
@pytest.mark.parametrize("references", [1, 3, 9])
@pytest.mark.parametrize("base", ["gradcam", "layercam"])
def test_finercam_is_torchcams(alpha, references, base):
    network = Curved()
    peer = {"gradcam": torchcam.GradCAM, "layercam": torchcam.LayerCAM}[base]
    options = {"gamma": alpha, "num_references": references, "base_method": peer}
    with torchcam.FinerCAM(network, "0", **options) as explainer:
        (expected,) = explainer(TARGETS, network(pictures()))
    actual = ours(network, "finercam", alpha=alpha, references=references, base=base).raw
    assert near(ranged(actual), expected)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_finercam_by_probability_is_grad_cams(alpha):
    network = Curved()
    actual = ours(network, "finercam", targets=3, alpha=alpha, weighting="probability").heatmap
    assert near(actual, theirs(FinerCAM, network, targets=None, target_idx=3, alpha=alpha))


def test_finercam_says_what_it_cannot_tell_apart():
    with pytest.raises(cam.MethodError, match="its targets are classes, not callables"):
        ours(Curved(), "finercam", targets=cam.targets.Logit(2))
    alone = nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(1120, 1)).eval()
    with pytest.raises(cam.MethodError, match="the model has one output"):
        ours(alone, "finercam", targets=0)


# RefineCAM.


@pytest.mark.parametrize("base", ["gradcam", "layercam"])
def test_refinecam_is_grad_cams(base):
    network = Pooled()
    peer = {"gradcam": GradCAM, "layercam": LayerCAM}[base]
    actual = ours(network, "refinecam", ["0", "2"], base=base)
    explainer = RefineCAM(network, [network[0], network[2]], base_method=peer)
    assert near(actual.heatmap, torch.from_numpy(explainer(pictures(), PEER_TARGETS)))


def test_refinecam_is_torchcams_at_the_finest_layer():
    network = Pooled()
    with torchcam.RefineCAM(network, ["0", "2"], base_method=torchcam.LayerCAM) as explainer:
        (expected,) = explainer(TARGETS, network(pictures()))
    assert near(ranged(ours(network, "refinecam", ["0", "2"], base="layercam").raw), expected)


def test_refinecam_multiplies_whatever_the_fusion_of_others_and_costs_no_pass_of_its_own():
    network = Pooled()
    layers = ["0", "2"]
    mean, most = (
        cam.attribute(network, pictures(), "refinecam", layers=layers, fusion=fusion)["refinecam"]
        for fusion in ("mean", "max")
    )
    assert torch.equal(mean.heatmap, most.heatmap)
    assert (mean.cost.forwards, mean.cost.backwards) == (1, 1)
    single = ours(network, "refinecam", "2", base="xgradcam")
    assert near(single.heatmap, ours(network, "xgradcam", "2").heatmap)


# Smooth Grad-CAM++.


def test_smoothgradcam_is_torchcams_where_the_gradient_is_the_same_everywhere():
    """Behind a mean and a linear layer, with so little noise that the peer's maps are not noisy.

    And with gradients of a size that the peer's ε of 1e-8 does not outweigh.
    """
    network = Pooled()
    network[-1].weight.data *= 1000
    with torchcam.SmoothGradCAMpp(network, "2", num_samples=3, std=1e-6) as explainer:
        with torch.no_grad():
            network(pictures())
        (expected,) = explainer(TARGETS)
    actual = ours(network, "smoothgradcam_plus_plus", "2", samples=3).raw
    assert near(ranged(actual), expected)


def test_smoothgradcam_is_the_formula_in_float64():
    network = Curved().double()
    maps = activations(network)
    samples, noise, seed = 4, 0.2, 5
    expected = []
    for image, target in enumerate(TARGETS):
        picture = pictures()[image]
        generator = torch.Generator().manual_seed(seed)
        powers = [0, 0, 0]
        for _ in range(samples):
            drawn = torch.randn(picture.shape, generator=generator)
            copy = picture + noise * (picture.max() - picture.min()) * drawn
            leaf = network[0](copy[None].double()).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(
                nn.Sequential(*list(network)[1:])(leaf)[0, target], leaf
            )
            powers = [old + gradient[0] ** (p + 1) / samples for p, old in enumerate(powers)]
        weights = []
        for channel in range(6):
            total = maps[image, channel].sum()
            first, second, third = (power[channel] for power in powers)
            share = second / (2 * second + third * total)
            share[second == 0] = 0
            weights.append((share * first.clamp(min=0)).sum())
        expected.append(torch.einsum("c,chw->hw", torch.stack(weights), maps[image]))
    actual = ours(
        network.float(),
        "smoothgradcam_plus_plus",
        batch_size=3,
        samples=samples,
        noise=noise,
        seed=seed,
    )
    assert near(actual.raw.double(), torch.stack(expected))
    assert actual.cost.forwards == 1 + 2 * 2 and actual.cost.backwards == 2 * 2


def test_smoothgradcam_takes_a_gradient_of_zero():
    """Behind a max pool three places of four have none."""
    raw = ours(Pooled(), "smoothgradcam_plus_plus", samples=1, noise=1e-6).raw
    assert near(raw, ours(Pooled(), "gradcam_plus_plus").raw, 1e-3)
    assert raw.isfinite().all()


# SS-CAM and IS-CAM.


class Recorded:
    """In the place of torchcam's distribution: the noise that cam draws, in the peer's order."""

    def __init__(self, noise: float, seed: int, size: tuple[int, int]) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._noise, self._size = noise, size

    def sample(self, shape) -> torch.Tensor:
        # The peer draws for all pictures at once; cam gives each the same.
        noise = [torch.randn(self._size, generator=self._generator) for _ in range(shape[1])]
        return self._noise * torch.stack(noise).expand(shape)


def peers_map(peer, network) -> torch.Tensor:
    with torch.no_grad():
        network(pictures())
    (expected,) = peer(TARGETS)
    return expected


@pytest.mark.parametrize("batch_size", [5, 32])
def test_sscam_is_torchcams(batch_size):
    network = Pooled()
    network[-1].weight.data *= 5  # scores that differ enough between channels
    actual = ours(network, "sscam", batch_size=batch_size, samples=3, noise=0.7, seed=4)
    with torchcam.SSCAM(network, "0", num_samples=3, std=0.7) as peer:
        peer._distrib = Recorded(0.7, 4, (20, 14))
        assert near(ranged(actual.raw), peers_map(peer, network))
    assert not near(actual.raw, ours(network, "sscam", samples=3, noise=0.7, seed=5).raw, 1e-3)


@pytest.mark.parametrize("layer", ["0", "2"])
def test_iscam_is_torchcams(layer):
    network = Pooled()
    network[-1].weight.data *= 5
    network[2][0].bias.data[[1, 4]] = -9  # two maps that are dead
    actual = ours(network, "iscam", layer, steps=4, batch_size=3)
    with torchcam.ISCAM(network, layer, num_samples=4) as peer:
        assert near(ranged(actual.raw), peers_map(peer, network))


def test_iscam_tries_dead_maps_once():
    network = Pooled()
    network[2][0].bias.data[[1, 4, 5]] = -9
    reports = []
    method = cam.method("iscam", steps=2)
    cam.attribute(network, pictures(), method, layers="2", progress=reports.append)
    assert reports[-1].done == reports[-1].total == 2 * 2 * (8 - 2)


# FullGrad.


class Normed(nn.Module):
    """Convolutions with and without bias, batch norms, a ReLU in place, a function."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.second, self.head = nn.Conv2d(6, 8, 3, stride=2), nn.Linear(8, 6)
        for buffer in (self.norm.running_mean, self.norm.running_var):
            buffer.uniform_(0.5, 1.5)
        for parameter in (self.norm.weight, self.norm.bias):
            parameter.data.uniform_(-1, 1)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = torch.relu_(self.norm(self.first(x)))
        return self.head(self.second(maps).relu().mean((2, 3)))


@pytest.mark.parametrize("kind", [Normed, Pooled])
def test_fullgrad_is_grad_cams(kind):
    network = kind()
    # The peer's hooks see what an in-place ReLU made of a layer's output.
    peer = kind()
    peer.forward = lambda x, f=peer.forward: f(x)
    actual = ours(network, "fullgrad", None)
    if kind is Normed:
        peer.forward = lambda x: peer.head(
            peer.second(peer.norm(peer.first(x)).relu()).relu().mean((2, 3))
        )
    expected = theirs(FullGrad, peer, ())
    assert near(actual.heatmap, expected)
    assert actual.raw.amin() >= 0


@pytest.mark.parametrize("kind", [Normed, Pooled])
def test_what_pixels_and_biases_give_adds_up_to_the_score(kind):
    """The paper's equation 2, of a ReLU network; the last layer's bias is no map's."""
    network = kind().double()
    leaf = pictures().double().requires_grad_()
    with Biases() as biases:
        scores = network(leaf).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
        shares = bias_shares(leaf, scores, biases)
    assert len(shares) == 3
    head = network.head if kind is Normed else network[-1]
    total = sum(share.flatten(1).sum(1) for share in shares) + head.bias[TARGETS]
    assert torch.allclose(total, scores, rtol=1e-10)


def test_fullgrad_lets_go_of_a_pass_that_memory_did_not_suffice_for(monkeypatch):
    """A second picture is too much at first; what the first attempt kept must be free by then."""
    network, held = Normed(), []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    whole, real = network.second.forward, Biases.clear

    def limited(maps: torch.Tensor) -> torch.Tensor:
        if len(maps) > 1:
            raise torch.OutOfMemoryError("no memory")
        return whole(maps)

    def clear(biases: Biases) -> None:
        held.append(len(biases.outputs))
        real(biases)

    monkeypatch.setattr(Biases, "clear", clear)
    expected = ours(network, "fullgrad", None).raw
    captured = capture(network, pictures(), TARGETS, lambda label: 0)
    held.clear()
    network.second.forward = limited
    passes = Passes(network, captured, 32)
    with passes.of("fullgrad"):
        actual = cam.methods()["fullgrad"].function(captured.pixels, passes).raw
    assert near(actual, expected)
    # Before each forward and after each use: the failed one had kept its norm.
    assert held == [0, 1, 2, 0, 2]


def test_fullgrad_sees_what_a_norm_with_its_activation_adds():
    """timm's BatchNormAct2d is no BatchNorm2d, and its output is behind the activation."""
    torch.manual_seed(0)
    norm = BatchNormAct2d(6)
    norm.running_mean.uniform_(0.5, 1.5)
    norm.weight.data.uniform_(-1, 1)
    layers = nn.Conv2d(3, 6, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6)
    network = nn.Sequential(*layers).eval().double()
    leaf = pictures().double().requires_grad_()
    with Biases() as biases:
        scores = network(leaf).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
        shares = bias_shares(leaf, scores, biases)
    assert len(shares) == 3 and shares[2].abs().sum() > 0
    total = sum(share.flatten(1).sum(1) for share in shares) + network[-1].bias[TARGETS]
    assert torch.allclose(total, scores, rtol=1e-10)


# What all of them promise.

ALL = {
    "shapleycam": {"utility": "score"},
    "finercam": {},
    "refinecam": {},
    "smoothgradcam_plus_plus": {"samples": 3},
    "sscam": {"samples": 2},
    "iscam": {"steps": 2},
    "fullgrad": {},
}


@pytest.mark.parametrize("name", ALL)
def test_a_batch_gives_what_its_images_give_one_by_one(name):
    network = Curved()
    together = ours(network, name, batch_size=5, **ALL[name])
    for index, target in enumerate(TARGETS):
        single, method = pictures()[index : index + 1], cam.method(name, **ALL[name])
        alone = cam.attribute(network, single, method, targets=target, layers="0")[name]
        assert near(together.raw[index], alone.raw[0])
        assert near(together.heatmap[index], alone.heatmap[0])


@pytest.mark.parametrize("name", ALL)
def test_an_image_of_nan_stays_alone(name):
    network, broken = Curved(), pictures()
    broken[0] = torch.nan
    method = cam.method(name, **ALL[name])
    with pytest.warns(cam.CamWarning, match="image 0 is NaN"):
        attribution = cam.attribute(network, broken, method, targets=TARGETS, layers="0")[name]
    assert attribution.raw[0].isnan().all() and near(
        attribution.raw[1], ours(network, name, **ALL[name]).raw[1]
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_takes_other_precisions(name, dtype):
    network = Curved()
    expected = ours(network, name, **ALL[name]).raw
    method, changed = cam.method(name, **ALL[name]), network.to(dtype)
    attribution = cam.attribute(changed, pictures().to(dtype), method, targets=TARGETS, layers="0")[
        name
    ]
    assert near(attribution.raw, expected, 0.1 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_leaves_nothing_behind(name, mode):
    """A frozen network, partly in training mode, called where no gradients are recorded."""
    network = Curved().requires_grad_(False)
    network[3].train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    expected = ours(network.eval(), name, **ALL[name]).raw
    network[3].train()
    with mode(), pytest.warns(cam.CamWarning, match="training mode"):
        actual = ours(network, name, **ALL[name])
    assert near(actual.raw, expected)
    assert network[3].training and not network[0].training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(child._forward_hooks for child in network.modules())


@pytest.mark.parametrize("name", [name for name in ALL if name != "finercam"])
def test_takes_callables(name):
    network = Curved()
    plain = ours(network, name, targets=2, **ALL[name])
    called = ours(network, name, targets=cam.targets.Logit(2), **ALL[name])
    assert near(called.raw, plain.raw)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("finercam", {"alpha": -1}, "alpha must be a number of at least 0, but is -1"),
        ("finercam", {"references": 0}, "references must be a whole number of at least 1"),
        ("finercam", {"base": "eigencam"}, "base must be one of gradcam, xgradcam"),
        ("finercam", {"weighting": "all"}, "weighting must be one of equal, probability"),
        ("refinecam", {"base": 3}, "base must be one of gradcam, xgradcam"),
        ("smoothgradcam_plus_plus", {"samples": 0}, "samples must be a whole number of at least 1"),
        ("smoothgradcam_plus_plus", {"noise": 0}, "noise must be a number above 0"),
        ("sscam", {"noise": -1}, "noise must be a number of at least 0"),
        ("sscam", {"seed": 0.5}, "seed must be a whole number"),
        ("iscam", {"steps": True}, "steps must be a whole number"),
    ],
)
def test_refuses_a_parameter_in_one_sentence(name, parameters, sentence):
    with pytest.raises(cam.MethodError, match=f"{name}'s? {sentence}"):
        ours(Curved(), name, **parameters)
