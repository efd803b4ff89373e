"""Costs and sharing of many methods, fusion of layers, and further passes."""

import pytest
import torch
from torch import nn

import cam
from cam import kernels
from cam._engine.capture import capture
from cam._engine.method_sources import LayerGradients
from cam._engine.passes import Passes
from cam._engine.token_layout import Layout
from cam._methods.base.principal_component import first_component

CAMS = (
    "gradcam",
    "xgradcam",
    "gradcam_plus_plus",
    "layercam",
    "hirescam",
    "gradcam_elementwise",
)
SHARED = (*CAMS, "eigencam", "eigengradcam", "saliency")


class Counted(torch.autograd.Function):
    """The identity, which counts the backward passes through it."""

    backwards = 0

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        Counted.backwards += 1
        return gradient


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        return Counted.apply(x)


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    Counted.backwards = 0
    return nn.Sequential(
        Counter(),
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(1))


def test_everything_that_can_shares_one_forward_one_backward_and_one_kernel(
    network, pictures, monkeypatch
):
    calls = []
    real = kernels.fused_cam
    monkeypatch.setattr(
        kernels, "fused_cam", lambda a, g, rules, **k: calls.append(rules) or real(a, g, rules, **k)
    )
    attributions = cam.attribute(network, pictures, SHARED, layers="5")
    assert tuple(attributions) == SHARED
    assert (network[0].forwards, Counted.backwards) == (1, 1)
    assert [sorted(rules) for rules in calls] == [sorted(CAMS)]


def test_a_method_gives_the_same_alone_as_among_all(network, pictures):
    together = cam.attribute(network, pictures, SHARED, layers="5")
    for name in SHARED:
        alone = cam.attribute(network, pictures, name, layers="5")[name]
        # Where saliency is asked for too, the forward records from the pixels on, and a
        # convolution may then take another algorithm.
        assert torch.allclose(together[name].raw, alone.raw, atol=1e-6), name
        assert torch.allclose(together[name].heatmap, alone.heatmap, atol=1e-5), name


def test_an_attribution_carries_its_cost(network, pictures):
    attributions = cam.attribute(network, pictures, SHARED, layers="5")
    for name, attribution in attributions.items():
        assert attribution.cost.forwards == 1
        assert attribution.cost.backwards == (0 if name == "eigencam" else 1)
        assert 0 < attribution.cost.seconds < 60


@pytest.mark.parametrize("fusion", ["mean", "max"])
def test_several_layers_are_fused(fusion, network, pictures):
    """Each layer's heatmap, upsampled, then the mean or the largest, then min-max."""
    size, layers = (12, 10), ["2", "5"]
    single = []
    for layer in layers:
        raw = cam.attribute(network, pictures, "layercam", layers=layer)["layercam"].raw
        positive = raw.clamp(min=0)
        low, high = (f(positive, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
        scaled = ((positive - low) / (high - low + 1e-7))[:, None]
        single.append(nn.functional.interpolate(scaled, size, mode="bilinear")[:, 0])
    stacked = torch.stack(single)
    expected = stacked.mean(0) if fusion == "mean" else stacked.max(0).values
    expected = expected - expected.amin((1, 2), keepdim=True)
    expected = expected / expected.amax((1, 2), keepdim=True)
    attribution = cam.attribute(network, pictures, "layercam", layers=layers, fusion=fusion)[
        "layercam"
    ]
    assert torch.allclose(attribution.heatmap, expected, atol=1e-5)
    assert attribution.raw.shape == (2, 12, 10)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fusion": "median"}, "fusion is 'median', but must be one of mean, max"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, but is 0"),
        ({"batch_size": 2.5}, "but is 2.5"),
        ({"batch_size": True}, "but is True"),
    ],
)
def test_refuses_an_option_in_one_sentence(options, sentence, network, pictures):
    with pytest.raises(cam.InputError, match=sentence):
        cam.attribute(network, pictures, "gradcam", layers="5", **options)


def passes_of(network, pictures, targets=None, **options) -> Passes:
    captured = capture(network, pictures, targets, lambda label: 0)
    return Passes(network, captured, **{"batch_size": 2, **options})


def test_own_passes_give_the_scores_and_gradients_of_the_owners_targets(network, pictures):
    inputs = torch.rand(5, 3, 12, 10, generator=torch.Generator().manual_seed(2))
    owner = torch.tensor([0, 1, 1, 0, 1])
    leaf = inputs.clone().requires_grad_()
    expected = network(leaf).gather(1, torch.tensor([3, 1, 1, 3, 1])[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    network[0].forwards = Counted.backwards = 0
    with passes_of(network, pictures, [3, 1]).of("some_method") as passes:
        network[0].forwards = Counted.backwards = 0
        scores = passes.scores(inputs, owner)
        assert torch.allclose(scores, expected.detach(), atol=1e-6)
        assert not scores.requires_grad
        assert (network[0].forwards, passes.forwards, passes.backwards) == (3, 3, 0)
        scores, gradients = passes.gradients(inputs, owner)
    assert torch.allclose(scores, expected.detach(), atol=1e-6)
    assert torch.allclose(gradients, gradient, atol=1e-6)
    assert (passes.forwards, passes.backwards, Counted.backwards) == (6, 3, 3)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_own_passes_take_callables(network, pictures):
    targets = [lambda y: y[0] - y[1], lambda y: y[2] * 2]
    with passes_of(network, pictures, targets).of("some_method") as passes:
        actual = passes.scores(pictures[[1, 0, 1]], torch.tensor([1, 0, 1]))
    y = network(pictures).detach()
    expected = torch.stack([y[1, 2] * 2, y[0, 0] - y[0, 1], y[1, 2] * 2])
    assert torch.allclose(actual, expected, atol=1e-6)


def test_own_passes_tell_how_far_they_are(network, pictures):
    reports = []
    with passes_of(network, pictures, report=reports.append).of("some_method") as passes:
        passes.expect(5)
        passes.scores(pictures[[0, 1, 0, 1, 0]], torch.tensor([0, 1, 0, 1, 0]))
    assert [(report.method, report.done, report.total) for report in reports] == [
        ("some_method", done, 5) for done in (0, 2, 4, 5)
    ]


def test_own_passes_can_be_cancelled(network, pictures):
    network.train()
    forwards = network[0].forwards
    passes = passes_of(network, pictures, report=lambda progress: progress.done < 4)
    sentence = "some_method was cancelled after 4 inputs"
    with pytest.raises(cam.Cancelled, match=sentence), passes.of("some_method"):
        passes.scores(pictures[[0] * 9], torch.zeros(9, dtype=torch.int64))
    assert network[0].forwards == forwards + 1 + 2  # the capture's, and two batches
    assert all(module.training for module in network.modules())


def test_own_passes_halve_their_batch_where_memory_runs_out(network, pictures, monkeypatch):
    """A GPU that holds three inputs at most, and what it was asked for."""
    sizes = []

    class Small(nn.Module):
        def forward(self, x):
            sizes.append(len(x))
            if len(x) > 3:
                raise torch.OutOfMemoryError("no memory")
            return network(x)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    inputs = torch.rand(9, 3, 12, 10, generator=torch.Generator().manual_seed(3))
    owner = torch.zeros(9, dtype=torch.int64)
    small = passes_of(Small(), pictures, [2, 2], batch_size=8)
    whole = passes_of(network, pictures, [2, 2], batch_size=9)
    sizes.clear()
    with small.of("some_method"), whole.of("some_method"):
        assert torch.allclose(small.scores(inputs, owner), whole.scores(inputs, owner), atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2, 1]


def eigen_truth(features):
    """pytorch-grad-cam's get_2d_projection, up to the direction of the axis, in float64."""
    projections = []
    for channels in features.double():
        vectors = channels.flatten(1).T
        vectors = vectors - vectors.mean(0)
        _, _, axes = torch.linalg.svd(vectors, full_matrices=False)
        raw = vectors @ axes[0]
        projections.append((raw if raw @ vectors.sum(1) >= 0 else -raw).view(channels.shape[1:]))
    return torch.stack(projections)


@pytest.mark.parametrize("shape", [(3, 40, 5, 4), (2, 3, 9, 8), (1, 1, 4, 4), (2, 5, 1, 1)])
def test_first_component_is_that_of_a_decomposition(shape):
    features = torch.rand(shape, generator=torch.Generator().manual_seed(4)) ** 3
    actual, truth = first_component(features), eigen_truth(features)
    if shape[2:] == (1, 1):  # one place has no variance
        assert torch.equal(actual, torch.zeros(2, 1, 1))
    else:
        assert (actual - truth).norm() <= 1e-5 * truth.norm()


def test_eigencams_by_hand():
    """Channel 1 alone varies, so its axis is the first, and the map is that channel, centred."""
    a = torch.tensor([[[[2.0, 2.0], [2.0, 2.0]], [[0.0, 1.0], [5.0, 0.0]]]])
    layer = LayerGradients("some", a, Layout("maps", (2, 2)), torch.full_like(a, -1.0), inputs=a)
    eigencam = cam.methods()["eigencam"].function
    assert torch.allclose(eigencam(layer).raw, a[:, 1] - 1.5, atol=1e-6)
    positive = torch.tensor([[[0.0, 0.0], [3.5, 0.0]]])
    assert torch.allclose(eigencam(layer).normalised, positive / 3.5, atol=1e-6)
    # Of A·G the varying channel is -A.
    raw = cam.methods()["eigengradcam"].function(layer).raw
    assert torch.allclose(raw, 1.5 - a[:, 1], atol=1e-6)


def test_eigencam_reports_a_bad_image_and_leaves_the_others():
    features = torch.rand(3, 6, 4, 4, generator=torch.Generator().manual_seed(5))
    clean = first_component(features)
    features[1, 2, 0, 0] = torch.inf
    actual = first_component(features)
    assert actual[1].isnan().all()
    assert torch.equal(actual[[0, 2]], clean[[0, 2]])


def test_methods_that_differ_in_a_large_tensor_are_two():
    """Their names tell only its corners."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 900, 2))
    batch = torch.rand(1, 3, 32, 32)
    first = torch.zeros(1, 3, 32, 32)
    second = first.clone()
    second[0, 1, 16, 16] = 1
    methods = [
        cam.method("expected_gradients", samples=2, references=result)
        for result in (first, second, first.clone())
    ]
    assert str(methods[0]) == str(methods[1])
    attributions = cam.attribute(model.eval(), batch, methods, 0)
    assert len(attributions) == 2, "the third is the first again"
    result, other = attributions.values()
    assert not torch.equal(result.raw, other.raw)
