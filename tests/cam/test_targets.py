"""Each kind of target by hand, on real photos, and wrong ones."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import cam
from cam.targets import (
    Binary,
    Contrast,
    Counterfactual,
    Logit,
    LogProbability,
    Probability,
    ReST,
    Segment,
    Several,
    Similarity,
)

Y = torch.tensor([1.0, 3.0, 0.0, 2.0], dtype=torch.float64)
E = torch.tensor([2.718281828459045**y for y in (1.0, 3.0, 0.0, 2.0)], dtype=torch.float64)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Logit(1), 3.0),
        (Probability(1), float(E[1] / E.sum())),
        (LogProbability(3), float((E[3] / E.sum()).log())),
        (ReST(3), 2.0 + float((E[3] / E.sum()).log())),
        (Contrast(1, 3), 1.0),
        (Contrast(1), 3.0 - (1 + 0 + 2) / 3),
        (Counterfactual(3), -2.0),
        (Several((0, 3)), 3.0),
    ],
    ids=lambda value: repr(value) if not isinstance(value, float) else "",
)
def test_classes_by_hand(target, expected):
    assert float(target(Y)) == pytest.approx(expected, rel=1e-12)


def test_binary_heads_by_hand():
    for output in (torch.tensor([1.5]), torch.tensor(1.5)):
        assert float(Binary()(output)) == 1.5
        assert float(Binary(positive=False)(output)) == -1.5


def test_segments_by_hand():
    output = torch.tensor([[[1.0, 5.0], [2.0, 0.0]], [[2.0, 1.0], [3.0, 4.0]]])
    assert float(Segment(1)(output)) == 2 + 3 + 4  # it wins everywhere but at 5 against 1
    mask = torch.tensor([[True, True], [False, False]])
    assert float(Segment(1, mask)(output)) == 2 + 1


def test_similarity_by_hand():
    output, other = torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0])
    assert float(Similarity(other)(output)) == pytest.approx(0.6)
    assert float(Similarity(other, cosine=False)(output)) == 6.0


class Linear(nn.Module):
    """Feature maps, their mean, a linear head: scores are linear in what the CAMs read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def raw(model, picture, targets):
    return cam.attribute(model, picture, "gradcam", targets=targets, layers="features")[
        "gradcam"
    ].raw


def test_a_linear_map_of_a_contrast_is_the_difference_of_the_maps(picture):
    model = Linear()
    first, two, three = (raw(model, picture, index) for index in range(3))
    assert torch.allclose(raw(model, picture, Contrast(0, 1)), first - two, atol=1e-6)
    assert torch.allclose(raw(model, picture, Contrast(0)), first - (two + three) / 2, atol=1e-6)
    assert torch.allclose(raw(model, picture, Counterfactual(2)), -three, atol=1e-6)
    assert torch.allclose(raw(model, picture, Several((0, 2))), first + three, atol=1e-6)
    assert torch.allclose(raw(model, picture, Logit(1)), two, atol=1e-6)


def test_the_maps_of_all_probabilities_cancel(picture):
    """They add up to 1 whatever the picture is."""
    model = Linear()
    maps = [raw(model, picture, Probability(index)) for index in range(3)]
    assert maps[0].abs().max() > 1e-3
    assert torch.stack(maps).sum(0).abs().max() < 1e-6


def test_each_image_has_its_own_target(picture):
    model = Linear()
    together = raw(model, picture, [Contrast(0, 1), Counterfactual(2)])
    assert torch.allclose(together[0], raw(model, picture, Contrast(0, 1))[0], atol=1e-6)
    assert torch.allclose(together[1], raw(model, picture, Counterfactual(2))[1], atol=1e-6)


def test_labels_are_looked_up_in_the_models_own(bundled, photos):
    batch = bundled.prepare(photos[:1])
    options = {"methods": "gradcam", "layers": None}
    by_label = cam.attribute(bundled, batch, targets=Contrast("tiger cat", "tabby"), **options)
    by_index = cam.attribute(bundled, batch, targets=Contrast(282, 281), **options)
    tabby = cam.attribute(bundled, batch, targets="tabby", **options)
    assert torch.equal(by_label["gradcam"].heatmap, by_index["gradcam"].heatmap)
    logits = by_label["gradcam"].logits[0]
    assert by_label["gradcam"].scores[0] == pytest.approx(float(logits[282] - logits[281]))
    assert (by_label["gradcam"].heatmap - tabby["gradcam"].heatmap).abs().max() > 0.2


class Wrapped(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        self.inner = Linear()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, "more"),
        lambda y: [None, y],
        lambda y: {"logits": y, "out": None},
        lambda y: {"out": y},
        lambda y: SimpleNamespace(logits=y, loss=None),
    ],
    ids=["tuple", "list", "logits", "out", "object"],
)
def test_outputs_that_hold_the_logits(wrap, picture):
    expected = raw(Linear(), picture, 1)
    model = Wrapped(wrap)
    attributions = cam.attribute(model, picture, "gradcam", targets=1, layers="inner.features")
    assert torch.equal(attributions["gradcam"].raw, expected)


@pytest.mark.parametrize("wrap", [lambda y: {"scores": y}, lambda y: "words", lambda y: (None,)])
def test_outputs_without_logits_are_refused(wrap, picture):
    with pytest.raises(cam.ModelError, match="without logits; wrap it in a module"):
        cam.attribute(Wrapped(wrap), picture, "gradcam", layers="inner.features")


EMPTY = torch.zeros(2, 2, dtype=torch.bool)
MAPS = torch.zeros(3, 2, 2)
MAPS[2] = -1


@pytest.mark.parametrize(
    ("target", "output", "sentence"),
    [
        (Logit(4), Y, "target 4 is out of range: the model has 4 classes, 0 to 3"),
        (Logit(-1), Y, "target -1 is out of range"),
        (Logit("cat"), Y, "'cat' means nothing without a model"),
        (Contrast(0, 9), Y, "target 9 is out of range"),
        (Contrast(0), Y[:1], "needs a second class"),
        (Several(()), Y, "none is named"),
        (Binary(), Y, r"takes one logit an image, not shape \(4,\)"),
        (Logit(0), torch.tensor(1.0), "one number an image"),
        (Segment(0), Y, r"an output \(classes, H, W\) an image, not of shape \(4,\)"),
        (Segment(2), MAPS, "class 2 to explain: it wins nowhere"),
        (Segment(0, EMPTY), MAPS, "its mask is empty"),
        (Segment(0, MAPS[0]), MAPS, r"must be bool of shape \(2, 2\), but is torch.float32"),
        (Segment(0, EMPTY[:1]), MAPS, r"but is torch.bool of shape \(1, 2\)"),
        (
            Similarity(torch.zeros(3)),
            Y,
            r"has shape \(4,\), and the one it is compared with \(3,\)",
        ),
    ],
)
def test_refuses_in_one_sentence(target, output, sentence):
    with pytest.raises(cam.TargetError, match=sentence):
        target(output)


class Single(nn.Module):
    """A regression of w · (mean of the picture), with any number of axes of length 1."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes
        self.weight = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * x.mean((1, 2, 3))).reshape(len(x), *[1] * self.axes)


@pytest.mark.parametrize("axes", [0, 1, 3])
def test_a_single_number_needs_no_target_and_can_be_raised_or_lowered(axes):
    batch = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    method = cam.method("input_x_gradient")
    raw = {}
    for target in (None, "raise", "lower", ["lower", "raise"]):
        result = cam.attribute(Single(axes).eval(), batch, method, target)["input_x_gradient"]
        raw[str(target)] = result.raw
        value = -2 * batch.mean((1, 2, 3))
        signs = {"lower": [-1, -1], "['lower', 'raise']": [-1, 1]}.get(str(target), [1, 1])
        assert torch.allclose(result.scores, value * torch.tensor(signs))
    assert torch.allclose(raw["None"], -2 / 48 * batch.sum(1))
    assert torch.equal(raw["raise"], raw["None"])
    assert torch.equal(raw["lower"], -raw["None"])
    assert torch.equal(raw["['lower', 'raise']"], torch.stack([raw["lower"][0], raw["raise"][1]]))


def test_raise_is_not_asked_of_several_numbers():
    with pytest.raises(cam.TargetError, match="one number an image, and this one returns several"):
        cam.attribute(nn.Flatten(), torch.rand(1, 3, 2, 2), "saliency", "raise")
