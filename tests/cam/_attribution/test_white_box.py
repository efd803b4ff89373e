"""Maps of a network whose evidence is known, as set by hand.

It sees three colours: a detector each, a blur of 3 × 3, the mean over the picture, and a head
y_0 = 40 red - 20 green, y_1 = 20 green. The picture is grey with a red, a larger green and a blue
square. So for class 0 the red square is the evidence, the green one speaks against it, and the blue
one and the grey say nothing; for class 1 it is the green one alone.
"""

import pytest
import torch
from torch import nn

import cam

SIDE = 24
RED = (slice(4, 10), slice(4, 10))
GREEN = (slice(13, 21), slice(12, 20))
BLUE = (slice(4, 8), slice(16, 20))
HEAD = torch.tensor([[40.0, -20.0, 0.0], [0.0, 20.0, 0.0]])


def white_box() -> nn.Sequential:
    colour = nn.Conv2d(3, 3, 1, bias=False)
    blur = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
    head = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        # Each colour less the mean of the others, so that grey of any brightness is nothing.
        colour.weight[:, :, 0, 0] = 1.5 * torch.eye(3) - 0.5
        blur.weight.fill_(1 / 9)
        head.weight.copy_(HEAD)
    return nn.Sequential(
        colour, nn.ReLU(), blur, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    ).eval()


def picture() -> torch.Tensor:
    photo = torch.full((1, 3, SIDE, SIDE), 0.5)
    for channel, square in enumerate((RED, GREEN, BLUE)):
        photo[(0, slice(None), *square)] = 0
        photo[(0, channel, *square)] = 1
    return photo


def explained(method: str | cam.Method, target: int = 0) -> cam.Attribution:
    attributions = cam.attribute(white_box(), picture(), method, target, "2")
    return next(iter(attributions.values()))


def share(heatmap: torch.Tensor, square: tuple[slice, slice], around: int = 0) -> float:
    """Of a map's mass, what lies in a square and some pixels around it."""
    rows, columns = (slice(side.start - around, side.stop + around) for side in square)
    return float(heatmap[rows, columns].sum() / heatmap.sum())


# Method → parameters. Each finds the evidence for either class.
FINDS = {
    "gradcam": {},
    "xgradcam": {},
    "gradcam_plus_plus": {},
    "layercam": {},
    "hirescam": {},
    "gradcam_elementwise": {},
    "cam": {},
    "finercam": {},
    "refinecam": {},
    "shapleycam": {},
    "smoothgradcam_plus_plus": {},
    "guided_gradcam": {},
    "guided_backprop": {},
    "iscam": {},
    "lime": {"samples": 500, "steady": 1},  # what is left of chance hides little, but not nothing
    "kernelshap": {},
    "occlusion": {"window": 4, "stride": 2, "baseline": 0.5},
}


@pytest.mark.parametrize("name", FINDS)
@pytest.mark.parametrize(("target", "square"), [(0, RED), (1, GREEN)], ids=["red", "green"])
def test_the_evidence_is_found(name, target, square):
    actual = explained(cam.method(name, **FINDS[name]), target).heatmap[0]
    rows, columns = square
    highest = divmod(int(actual.argmax()), SIDE)
    assert rows.start <= highest[0] < rows.stop
    assert columns.start <= highest[1] < columns.stop
    # The blur spreads a detector by a pixel; a window of four hides a square from three outside.
    assert share(actual, square, 3) > 0.98


def detectors() -> torch.Tensor:
    """What the blurred detectors show, (3, H, W), computed without the network."""
    patterns = torch.zeros(3, SIDE, SIDE)
    for channel, square in enumerate((RED, GREEN, BLUE)):
        patterns[(channel, *square)] = 1
    padded = torch.nn.functional.pad(patterns, (1, 1, 1, 1))
    return padded.unfold(1, 3, 1).unfold(2, 3, 1).mean((3, 4))


@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "hirescam", "shapleycam"])
@pytest.mark.parametrize("target", [0, 1])
def test_rules_that_add_up_to_the_score(name, target):
    """Head weights over the number of places, times the detectors: y is their sum."""
    expected = torch.einsum("c,chw->hw", HEAD[target], detectors()) / SIDE**2
    options = {"utility": "score"} if name == "shapleycam" else {}
    actual = explained(cam.method(name, **options), target)
    assert torch.allclose(actual.raw[0], expected, atol=1e-6)
    assert torch.allclose(actual.raw.sum(), actual.scores[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels"), [("layercam", (40.0, 0.0)), ("gradcam_elementwise", (40.0, 0.0))]
)
def test_rules_that_leave_out_what_speaks_against(name, channels):
    weights = torch.tensor([*channels, 0.0])
    expected = torch.einsum("c,chw->hw", weights, detectors()) / SIDE**2
    assert torch.allclose(explained(name).raw[0], expected, atol=1e-6)


def pixel_weights(target: int) -> torch.Tensor:
    """∂y/∂detector before the blur, (3, H, W): at the edge the blur leaves some of it outside."""
    covered = torch.nn.functional.pad(torch.ones(SIDE, SIDE), (1, 1, 1, 1))
    within = covered.unfold(0, 3, 1).unfold(1, 3, 1).mean((2, 3))
    return HEAD[target][:, None, None] * within / SIDE**2


@pytest.mark.parametrize("target", [0, 1])
def test_the_gradient_by_hand(target):
    """Where a detector is on, a pixel of its colour counts once and the others minus a half."""
    expected = torch.zeros(SIDE, SIDE)
    for channel, square in enumerate((RED, GREEN, BLUE)):
        expected[square] = pixel_weights(target)[channel][square].abs()
    assert torch.allclose(explained("saliency", target).raw[0], expected, atol=1e-7)


@pytest.mark.parametrize(
    "method",
    ["input_x_gradient", cam.method("integrated_gradients", steps=5), "deeplift"],
    ids=str,
)
@pytest.mark.parametrize("target", [0, 1])
def test_what_adds_up_to_the_score(method, target):
    """Without biases the network is linear along the way from black, so both are exact there."""
    expected = torch.zeros(SIDE, SIDE)
    for channel, square in enumerate((RED, GREEN, BLUE)):
        expected[square] = pixel_weights(target)[channel][square]
    actual = explained(method, target)
    assert torch.allclose(actual.raw[0], expected, atol=1e-6)
    assert torch.allclose(actual.raw.sum(), actual.scores[0], rtol=1e-5)


def test_ablation_by_hand():
    """Without red the score is -20 green, without green it is 40 red: shares of the whole."""
    means = detectors().mean((1, 2))
    parts = HEAD[0] * means
    expected = torch.einsum("c,chw->hw", parts / parts.sum(), detectors())
    assert torch.allclose(explained("ablationcam").raw[0], expected, atol=1e-5)


@pytest.mark.parametrize(("target", "square"), [(0, RED), (1, GREEN)], ids=["red", "green"])
def test_scorecam_leaves_some_to_channels_that_do_nothing(target, square):
    """Its weights pass a softmax: seen alone, red scores 2, blue 0, so blue keeps a tenth.

    The blurred square that the picture is masked with is less than 1 at the square's own edge.
    """
    masks = zip(detectors(), (RED, GREEN, BLUE), strict=True)
    visible = torch.stack([mask[region].sum() for mask, region in masks])
    alone = HEAD[target] * visible / SIDE**2
    weights = alone.softmax(0)
    expected = torch.einsum("c,chw->hw", weights, detectors())
    actual = explained("scorecam", target)
    assert torch.allclose(actual.raw[0], expected, atol=1e-4)
    assert share(actual.heatmap[0], square, 1) > 0.85


def test_rise_finds_the_square_in_expectation():
    actual = explained(cam.method("rise", masks=2000, cells=6), 1).raw[0]
    assert actual[GREEN].mean() > actual.mean() + 2 * actual.std()


# Failures that are known of a method, each by what it is.


@pytest.mark.parametrize("name", ["eigencam", "kpcacam", "fem", "randomcam"])
def test_methods_that_do_not_ask_for_the_class(name):
    """They read the feature maps alone: the green square is larger, so it stands out for both."""
    first, second = (explained(name, target) for target in (0, 1))
    assert torch.equal(first.raw, second.raw)
    if name != "randomcam":
        assert share(first.heatmap[0], GREEN, 1) > 0.7


def test_fullgrad_counts_what_speaks_against():
    """It adds up sizes without signs: 40 · 36 pixels of red, 20 · 64 of green."""
    actual = explained("fullgrad").heatmap[0]
    assert share(actual, GREEN, 1) > 0.4


def test_deconvnet_does_not_know_what_was_on():
    """Its backward pass lets through what is positive, also where no detector saw anything."""
    actual = explained("deconvnet").raw[0]
    assert actual[15:23, 0:8].mean() > 0.5 * actual[RED].mean()
    assert explained("saliency").raw[0, 15:23, 0:8].abs().max() == 0


def test_eigengradcam_takes_what_speaks_against_for_evidence():
    """A·G varies most where |40 · 36 pixels| and |20 · 64 pixels| do: red, but green counts too."""
    actual = explained("eigengradcam").heatmap[0]
    assert share(actual, RED, 1) > 0.9


def noisy(name: str, target: int = 0) -> torch.Tensor:
    return explained(cam.method(name, samples=400, noise=0.2, steady=1, seed=1), target).raw[0]


def test_smoothgrad_lights_up_the_grey():
    """Noise on grey looks red half of the time, and as often green, against which red speaks.

    ∂/∂red there is ½ (40 · 1 + 20 · ½) = 25, and 40 in the red square.
    """
    actual = noisy("smoothgrad")
    grey = actual[22:24, 4:10].mean() / (pixel_weights(0)[0, 22:24, 4:10].mean())
    assert grey == pytest.approx(25 / 40, abs=0.05)
    red = actual[RED].mean() / pixel_weights(0)[0][RED].mean()
    assert red == pytest.approx(1, abs=0.01)


def test_vargrad_leaves_out_what_is_certain():
    """The red detector is always on in red and half of the time in grey: its variance is ¼ there.

    The green detector adds its own, with half of the weight and against it.
    """
    actual = noisy("vargrad")
    assert actual[RED].max() < 0.05 * actual[22:24, 4:10].mean()


def test_squaregrad_by_hand():
    actual = noisy("squaregrad")
    assert actual[RED].mean() == pytest.approx(
        float((pixel_weights(0)[0][RED] ** 2).mean()), rel=0.02
    )
