"""On a linear model every exact method scores the same, the best."""

import dataclasses

import pytest
import torch
from torch import nn

import cam
from cam.polarity import KINDS, as_heatmap, polarise
from tests.support.maps import attribution_of

SIDE = 6
EXACT = {
    "integrated_gradients": {"steps": 3},
    "input_x_gradient": {},
    "deeplift": {},
    "lrp": {},
    "occlusion": {"window": 1, "stride": 1},
    "kernelshap": {"segments": SIDE * SIDE, "samples": 4000},
}


class Linear(nn.Module):
    """A score that is linear in the pixels: every contribution is w ⊙ x, whatever the method."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = nn.Linear(SIDE * SIDE, 1, bias=False)
        generator = torch.Generator().manual_seed(5)
        self.sum.weight.data = torch.randn(1, SIDE * SIDE, generator=generator)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.sum(pictures.flatten(1))


@pytest.fixture
def linear() -> Linear:
    return Linear().eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(6))


def explain(network: nn.Module, pictures: torch.Tensor, name: str) -> cam.Attribution:
    return cam.attribute(network, pictures, cam.method(name, **EXACT[name]), 0)[name]


def curve_area(contributions: torch.Tensor, order: torch.Tensor, insert: bool) -> float:
    """The area under the score's curve of a linear model, from its contributions alone."""
    steps = torch.cat([torch.zeros(1), contributions.flatten()[order].cumsum(0)])
    scores = steps if insert else steps[-1] - steps
    return ((scores[1:] + scores[:-1]) / 2).mean().item()


@pytest.mark.parametrize("name", EXACT)
def test_exact_methods_get_the_same_on_a_linear_model_and_nothing_does_better(
    name, linear, pictures
):
    contributions = (linear.sum.weight.detach().view(SIDE, SIDE) * pictures[:, 0]).detach()
    result = explain(linear, pictures, name)
    for metric, insert, better in (("deletion", False, min), ("insertion", True, max)):
        measure = cam.metric(metric, steps=SIDE * SIDE, baseline=0.0)
        actual = measure(linear, pictures, result, 0)
        for image in range(2):
            best = contributions[image].flatten().argsort(descending=True)
            expected = curve_area(contributions[image], best, insert)
            assert actual[image].item() == pytest.approx(expected, abs=1e-5)
            # Nothing does better: the bound over all orders is that of the sorted contributions.
            for seed in range(20):
                order = torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(seed))
                other = curve_area(contributions[image], order, insert)
                assert better(other, expected) == expected


def test_absolute_values_lose_what_signs_tell(linear, pictures):
    """The case of the review: judged without its sign, the exact answer inserts like chance."""
    result = explain(linear, pictures, "input_x_gradient")
    areas = {
        polarity: cam.metric("insertion", steps=36, baseline=0.0, polarity=polarity)(
            linear, pictures, result, 0
        )
        for polarity in ("signed", "positive", "absolute")
    }
    assert (areas["signed"] > areas["positive"]).all()
    assert (areas["positive"] > areas["absolute"]).all()
    assert torch.equal(
        areas["absolute"],
        cam.metric("insertion", steps=36, baseline=0.0)(linear, pictures, result.signed.abs(), 0),
    )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_of_exact_methods_on_a_linear_model_is_0(name, normalise, linear, pictures):
    result = explain(linear, pictures, name)
    measure = cam.metric("infidelity", normalise=normalise, size=0.5)
    assert measure(linear, pictures, result, 0).max() < 1e-8
    noise = torch.randn(2, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    random = dataclasses.replace(result, raw=noise * result.raw.std(), heatmap=noise)
    zeros = dataclasses.replace(result, raw=noise * 0, heatmap=noise)
    assert measure(linear, pictures, random, 0).min() > 0.1
    assert measure(linear, pictures, zeros, 0).min() > 0.1


def test_infidelity_of_a_sensitivity_is_that_of_its_gradient(linear, pictures):
    """Of a score with weights above 0, saliency is the gradient: exact for noise too."""
    linear.sum.weight.data.abs_()
    result = cam.attribute(linear, pictures, "saliency", 0)["saliency"]
    for change in ("square", "noise"):
        measure = cam.metric("infidelity", change=change, normalise=False)
        assert measure(linear, pictures, result, 0).max() < 1e-8
    with pytest.raises(cam.MetricError, match="needs the sensitivity of each pixel"):
        cam.metric("infidelity", change="noise")(
            linear, pictures, explain(linear, pictures, "deeplift"), 0
        )


def test_every_method_says_what_its_numbers_are():
    for name, info in cam.methods().items():
        assert info.kind in KINDS, name
    with pytest.raises(ValueError, match="there is no kind 'contributions'; did you mean"):
        cam.register_method(
            "mine", title="", family="cam", kind="contributions", reads=cam.sources.Pixels, cost=""
        )


def test_polarities_by_hand():
    signed = torch.tensor([[[-3.0, -1], [0, 2]]])
    assert torch.equal(polarise(signed, "signed"), signed)
    assert polarise(signed, "positive").flatten().tolist() == [0, 0, 0, 2]
    assert polarise(signed, "absolute").flatten().tolist() == [3, 1, 0, 2]
    # A sensitivity has no sign.
    assert polarise(signed, "signed", "sensitivity").flatten().tolist() == [3, 1, 0, 2]
    assert as_heatmap(signed).flatten().tolist() == [0, 0, 0, 1]
    assert as_heatmap(signed + 5).flatten().tolist() == pytest.approx([2 / 7, 4 / 7, 5 / 7, 1])
    assert as_heatmap(signed + 5, "evidence").flatten().tolist() == pytest.approx([0, 0.4, 0.6, 1])
    assert as_heatmap(-signed.abs() - 1).eq(0).all()


def test_the_signed_map_is_the_raw_one_at_the_inputs_resolution(bundled, batch):
    results = cam.attribute(bundled, batch[:1], ["gradcam", "input_x_gradient"])
    coarse = results["gradcam"]
    expected = nn.functional.interpolate(
        coarse.raw[:, None], size=batch.shape[2:], mode="bilinear", align_corners=False
    )[:, 0]
    assert torch.equal(coarse.signed, expected)
    assert results["input_x_gradient"].signed is results["input_x_gradient"].raw


def test_a_run_reads_all_methods_by_one_rule(tmp_path):
    run = cam.evaluate(
        cam.load_model("efficientnet_lite0"), "photo-grid", ["input_x_gradient", "gradcam"],
        ["deletion", cam.metric("insertion", steps=4, polarity="positive")],
        tmp_path / "run", limit=1, polarity="absolute",
    )  # fmt: skip
    by_name = {metric["name"]: metric["parameters"] for metric in run.config["metrics"]}
    assert by_name["deletion"]["polarity"] == "absolute"
    assert by_name["insertion"]["polarity"] == "positive"
    with pytest.raises(cam.InputError, match="polarity must be"):
        cam.evaluate(
            cam.load_model("efficientnet_lite0"),
            "photo-grid",
            out=tmp_path / "other",
            polarity="unsigned",
        )


def test_a_map_of_pure_rounding_says_so():
    """A layer behind weights of 1e-12 moves the score by nothing that float32 can tell."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    picture = torch.rand(1, 3, 12, 12)
    assert not cam.attribute(network, picture, "gradcam", 0, layers="1")["gradcam"].notes()
    network[4].weight.data *= 1e-12
    for name, layers in (("gradcam", "1"), ("integrated_gradients", None)):
        result = cam.attribute(network, picture, name, 0, layers=layers)[name]
        assert any("is rounding beside scores of" in text for _, text in result.notes()), name


def test_pictures_of_contributions_have_two_signs():
    signed = torch.tensor([[[-3.0, -1], [0, 2]]])
    values, two_signs = attribution_of(signed, "contribution").picture()
    assert two_signs and torch.equal(values, signed / 3)
    evidence = attribution_of(signed, "evidence")
    assert evidence.picture() == (evidence.heatmap, False)
    assert evidence.picture(signed=True)[1] and not attribution_of(signed.abs()).picture(True)[1]
    zeros, two_signs = attribution_of(signed * 0, "contribution").picture()
    assert two_signs and not zeros.any()
