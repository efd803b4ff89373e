"""What holds for every metric: its entry, its promises, its messages."""

import copy
import math
import re

import pytest
import torch
from torch import nn

import cam
from cam import kernels
from cam._metrics.base.metric_registry import register_metric
from tests.support.checkout import ROOT
from tests.support.maps import attribution_of

# What compares with an exact attribution needs a network that has it: tests/cam/_metrics/truth.
NAMES = [name for name, info in cam.metrics().items() if info.family != "truth"]
FEW = {
    "deletion": {"steps": 5},
    "insertion": {"steps": 5},
    "road": {"shares": (0.2, 0.6)},
    "road_morf": {"shares": (0.2, 0.6)},
    "road_lerf": {"shares": (0.2, 0.6)},
    "infidelity": {"samples": 7},
    "max_sensitivity": {"samples": 3},
    "stability_shift": {"pixels": 2},
    "stability_noise": {"samples": 2},
    "randomisation": {"stages": 2},
    "smooth_randomisation": {"stages": 2, "samples": 3},
    "top_k_intersection": {"k": 20},
    "sic": {"sure": 0, "shares": (0.1, 0.5)},
    "aic": {"shares": (0.1, 0.5)},
    "aopc_morf": {"steps": 5},
    "aopc_lerf": {"steps": 5, "baseline": "uniform"},
    "srg": {"steps": 5, "baseline": "neighbours"},
    "monotonicity": {"steps": 5},
    "faithfulness_correlation": {"samples": 9, "pixels": 40},
    "sensitivity_n": {"samples": 9, "shares": (0.1, 0.5)},
    "faithfulness_estimate": {"steps": 6},
    "monotonicity_correlation": {"steps": 6, "samples": 2},
    "region_perturbation": {"size": 6, "regions": 7},
    "irof": {"segments": 8},
    "f_fidelity": {"samples": 6},
    "sufficiency": {"samples": 4},
    "local_lipschitz": {"samples": 3},
    "continuity": {"steps": 3},
    "relative_input_stability": {"samples": 3},
    "relative_output_stability": {"samples": 3},
    "relative_representation_stability": {"samples": 3},
    "random_logit": {"samples": 3},
}
LISTED = {
    "deletion", "insertion", "road", "road_morf", "road_lerf", "average_drop", "increase",
    "average_gain", "adcc", "arcc", "infidelity", "max_sensitivity", "stability_flip",
    "stability_shift", "stability_noise", "stability_light", "pointing_game",
    "energy_pointing_game", "relevance_rank",
    "top_k_intersection", "grid_pointing_game", "sparseness", "complexity", "randomisation",
    "smooth_randomisation", "efficient_randomisation", "sic", "aic", "aopc_morf", "aopc_lerf",
    "srg", "monotonicity", "faithfulness_correlation", "sensitivity_n", "faithfulness_estimate",
    "monotonicity_correlation", "region_perturbation", "irof", "f_fidelity", "sufficiency",
    "local_lipschitz", "continuity", "relative_input_stability", "relative_output_stability",
    "relative_representation_stability", "random_logit", "effective_complexity",
    "truth_correlation", "truth_mass",
}  # fmt: skip


class Network(nn.Sequential):
    """Small, but with all that can be disturbed: batch norm, dropout, an in-place ReLU."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(32, 5),
        )
        self[-1].weight.data *= 6


@pytest.fixture
def network() -> Network:
    return Network().eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    rough = torch.randn(3, 3, 5, 4, generator=generator)
    smooth = nn.functional.interpolate(rough, (20, 16), mode="bilinear")
    return smooth + 0.1 * torch.randn(smooth.shape, generator=generator)


@pytest.fixture
def masks() -> torch.Tensor:
    boxes = torch.zeros(3, 20, 16, dtype=torch.bool)
    boxes[0, 2:9, 3:12] = boxes[1, 10:, :8] = boxes[2, 5:15, 5:15] = True
    return boxes


def explain(network, pictures) -> cam.Attribution:
    return cam.attribute(network, pictures, "layercam", layers="4")["layercam"]


def measured(name, network, pictures, masks, **options) -> cam.Scores:
    maps = options.pop("maps", None)
    maps = explain(network, pictures) if maps is None else maps
    maps = attribution_of(maps) if isinstance(maps, torch.Tensor) else maps
    options = {"method": "layercam", "layers": "4", **options}
    return cam.metric(name, **FEW.get(name, {})).measure(
        network, pictures, maps, None, masks, **options
    )


def same(actual: cam.Scores, expected: cam.Scores) -> bool:
    close = torch.allclose(actual.values, expected.values, rtol=1e-4, atol=1e-6, equal_nan=True)
    return close and actual.reasons == expected.reasons


def test_the_list_is_complete_and_each_entry_says_what_it_is():
    assert set(cam.metrics()) == LISTED
    for name, info in cam.metrics().items():
        assert info.name == name and info.direction in (1, -1)
        assert info.range[0] < info.range[1]
        for text in (info.title, info.description, info.definition, info.baseline, info.citation):
            assert len(text) > 3, name
        assert re.search(r"\b(19|20)\d\d\b", info.citation), "a paper has a year"
        assert info.needs_model == (info.cost != "none")
        assert set(info.rules) == set(info.parameters)
        for parameter, default in info.parameters.items():
            assert info.rules[parameter].holds(default), (name, parameter)


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_1_3_and_64_and_images_alone_give_the_same(name, network, pictures, masks):
    whole = measured(name, network, pictures, masks)
    assert whole.values.dtype == torch.float32 and whole.values.shape == (3,)
    # This network names the class of each blurred picture too.
    assert whole.values.isfinite().any() or name == "aic", whole.reasons
    low, high = cam.metrics()[name].range
    for value, reason in zip(whole.values.tolist(), whole.reasons, strict=True):
        assert math.isnan(value) == (reason is not None)
        assert math.isnan(value) or low - 1e-6 <= value <= high + 1e-6
    for size in (1, 3, 64):
        assert same(measured(name, network, pictures, masks, batch_size=size), whole), size
    for index in range(3):
        part = slice(index, index + 1)
        alone = measured(name, network, pictures[part], masks[part])
        assert same(alone, cam.Scores(whole.values[part], whole.reasons[part])), index


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_nan_and_an_unsound_map_stay_alone(name, network, pictures, masks):
    maps = explain(network, pictures)
    whole = measured(name, network, pictures, masks, maps=maps)
    broken, unsound = pictures.clone(), maps.signed.clone()
    broken[0, 0, 3, 3] = torch.nan
    unsound[1, 2, 2] = torch.inf
    scores = measured(name, network, broken, masks, maps=attribution_of(unsound))
    assert torch.allclose(scores.values[2], whole.values[2], rtol=1e-4, atol=1e-6, equal_nan=True)
    assert scores.values[1].isnan() and scores.reasons[1] == "the map is not finite"
    if cam.metrics()[name].needs_model:
        assert scores.values[0].isnan() and scores.reasons[0] == "the image is not finite"


@pytest.mark.parametrize("name", NAMES)
def test_model_batch_and_maps_come_back_as_they_were(name, pictures, masks):
    network = Network().train()
    network[1].eval()
    modes = [child.training for child in network.modules()]
    network[0].weight.grad = torch.ones_like(network[0].weight)
    before = copy.deepcopy(network.state_dict())
    maps = torch.rand(3, 20, 16, generator=torch.Generator().manual_seed(0))
    copies = [tensor.clone() for tensor in (pictures, maps, masks)]
    seed = torch.random.get_rng_state()
    measured(name, network, pictures, masks, maps=maps)
    assert torch.equal(seed, torch.random.get_rng_state())
    assert [child.training for child in network.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(network[0].weight.grad, torch.ones_like(network[0].weight))
    assert network[8].weight.grad is None
    assert not any(child._forward_hooks for child in network.modules())
    assert all(torch.equal(a, b) for a, b in zip(copies, (pictures, maps, masks), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_changes_its_input_does_not_change_the_batch(name, network, pictures, masks):
    changing = nn.Sequential(nn.ReLU(inplace=True), *network).eval()
    before = pictures.clone()
    maps = torch.rand(3, 20, 16, generator=torch.Generator().manual_seed(0))
    scores = measured(name, changing, pictures, masks, maps=maps, layers="5")
    assert torch.equal(before, pictures)
    careful = nn.Sequential(nn.ReLU(), *network).eval()
    assert same(scores, measured(name, careful, pictures, masks, maps=maps, layers="5"))


RUNNING = [name for name in NAMES if cam.metrics()[name].needs_model]


@pytest.mark.parametrize("name", RUNNING)
def test_tells_how_far_it_is_and_can_be_cancelled(name, network, pictures, masks):
    reports = []
    measured(name, network, pictures, masks, batch_size=2, progress=reports.append)
    assert {report.method for report in reports} == {name}
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert reports[-1].done == reports[-1].total
    network.train()
    with pytest.raises(cam.Cancelled, match=name):
        measured(
            name, network, pictures, masks, batch_size=2, progress=lambda report: report.done < 4,
            maps=torch.rand(3, 20, 16),
        )  # fmt: skip
    assert network.training and network[7].training


class Watched(nn.Module):
    """Writes down how many inputs come at once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.counts = network, []

    def forward(self, x):
        self.counts.append(len(x))
        return self.network(x)


@pytest.mark.parametrize("name", ["deletion", "insertion", "road", "infidelity"])
def test_batches_are_full_across_images_and_steps(name, network, pictures, masks):
    watched = Watched(network)
    steps = {"deletion": 5, "insertion": 5, "road": 4, "infidelity": 7}[name]
    measured(name, watched, pictures, masks, batch_size=4, maps=torch.rand(3, 20, 16))
    assert watched.counts[0] == 3  # the pictures themselves
    assert sum(watched.counts[1:]) == 3 * steps
    assert all(count == 4 for count in watched.counts[1:-1])


def test_a_gpu_that_is_too_small_gets_smaller_batches(network, pictures, masks, monkeypatch):
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x):
            if len(x) > 2:
                raise torch.OutOfMemoryError("no memory")
            return self.network(x)

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    maps = explain(network, pictures)
    for name, layer in (("deletion", "4"), ("stability_noise", "network.4")):
        whole = measured(name, network, pictures, masks, maps=maps)
        scores = measured(name, Small(), pictures, masks, maps=maps, layers=layer)
        assert same(scores, whole), name


def test_a_callable_target_is_taken_as_it_is(network, pictures, masks):
    """The logit is the area under the logit, and not under the probability."""
    maps = explain(network, pictures)
    metric = cam.metric("deletion", steps=4)
    actual = metric(network, pictures, maps, cam.targets.Logit(2))
    order = kernels_order(maps.signed)
    with torch.no_grad():
        curve = []
        for count in (0, 80, 160, 240, 320):
            hidden = pictures * (order >= count)[:, None]
            curve.append(network(hidden)[:, 2])
    expected = (curve[0] / 2 + curve[1] + curve[2] + curve[3] + curve[4] / 2) / 4
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5)


def kernels_order(maps: torch.Tensor) -> torch.Tensor:
    """Each pixel's place, one image and pixel at a time."""
    ranks = torch.zeros_like(maps, dtype=torch.long)
    for image, heatmap in enumerate(maps):
        pixels = sorted(range(heatmap.numel()), key=lambda at: -float(heatmap.flatten()[at]))
        for rank, at in enumerate(pixels):
            ranks[image].view(-1)[at] = rank
    return ranks


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["deletion", "road", "infidelity", "stability_noise", "adcc"])
def test_networks_of_other_dtypes(name, dtype, network, pictures, masks):
    whole = measured(name, network, pictures, masks)
    maps = explain(network, pictures)
    scores = measured(name, copy.deepcopy(network).to(dtype), pictures.to(dtype), masks, maps=maps)
    assert scores.values.dtype == torch.float32
    tolerance = {torch.float64: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}[dtype]
    assert torch.allclose(scores.values, whole.values, atol=tolerance, rtol=tolerance)


def test_frozen_models_and_callers_without_gradients(network, pictures, masks):
    whole = measured("adcc", network, pictures, masks)
    maps = explain(network, pictures)
    network.requires_grad_(False)
    with torch.no_grad():
        assert same(measured("adcc", network, pictures, masks, maps=maps), whole)
    with torch.inference_mode():
        assert same(measured("adcc", network, pictures, masks, maps=maps), whole)


def test_the_callers_autocast_is_the_models_and_not_the_metrics(network, pictures, masks):
    whole = measured("adcc", network, pictures, masks)
    maps, kinds = explain(network, pictures), set()
    network[4].register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        scores = measured("adcc", network, pictures, masks, maps=maps)
        drop = measured("infidelity", network, pictures, masks, maps=maps)
    assert kinds == {torch.bfloat16}
    assert scores.values.dtype == drop.values.dtype == torch.float32
    assert torch.allclose(scores.values, whole.values, atol=0.1)
    kinds.clear()
    measured("adcc", network, pictures, masks, maps=maps)
    assert kinds == {torch.float32}


def test_a_call_is_the_values_of_measure(network, pictures, masks):
    maps = explain(network, pictures)
    metric = cam.metric("average_drop")
    assert torch.equal(
        metric(network, pictures, maps), metric.measure(network, pictures, maps).values
    )


def test_labels_and_the_models_own_layers(bundled, batch):
    maps = cam.attribute(bundled, batch[:1], "gradcam", targets="tiger cat")["gradcam"]
    metric = cam.metric("deletion", steps=2)
    actual = metric(bundled, batch[:1], maps, "tiger cat")
    assert torch.equal(actual, metric(bundled, batch[:1], maps, 282))
    assert not torch.equal(actual, metric(bundled, batch[:1], maps, 281))
    flip = cam.metric("stability_flip")(bundled, batch[:1], maps, 282, method="gradcam")
    assert 0.5 < flip.item() <= 1


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: cam.metric("deletoin"), "there is no metric 'deletoin'; did you mean 'deletion'?"),
        (
            lambda: cam.metric("increase", steps=2),
            "no parameter 'steps'; known: baseline, polarity",
        ),
        (lambda: cam.metric("deletion", step=2), "no parameter 'step'; did you mean 'steps'"),
        (lambda: cam.metric("deletion", steps=0), "steps must be a whole number of at least 1, bu"),
        (lambda: cam.metric("deletion", steps=True), "but is True"),
        (
            lambda: cam.metric("deletion", baseline="grey"),
            "mean, black, blur, uniform, neighbours, but is",
        ),
        (lambda: cam.metric("road", shares=(0.5, 0.2)), "growing numbers above 0 and below 1"),
        (lambda: cam.metric("road", shares=(0.5, 1.0)), "growing numbers above 0 and below 1"),
        (lambda: cam.metric("road", noise=-1), "road's noise must be a number of at least 0"),
        (lambda: cam.metric("road", seed=-1), "road's seed must be a whole number"),
        (lambda: cam.metric("infidelity", change="blur"), "must be one of square, noise, but is"),
        (lambda: cam.metric("infidelity", normalise=1), "must be True or False, but is 1"),
        (lambda: cam.metric("max_sensitivity", radius=math.nan), "radius must be a number above 0"),
        (lambda: cam.metric("randomisation", similarity="l2"), "must be one of spearman, ssim"),
    ],
)
def test_refuses_parameters_when_it_is_made(make, sentence):
    with pytest.raises(cam.MetricError, match=re.escape(sentence)):
        make()


MAPS, MASKS = torch.rand(3, 20, 16), torch.ones(3, 20, 16, dtype=torch.bool)
RESULT = attribution_of(MAPS)


@pytest.mark.parametrize(
    ("name", "arguments", "options", "error", "sentence"),
    [
        ("pointing_game", (MAPS,), {}, cam.MetricError, "give masks (B, H, W) of bool"),
        ("adcc", (MAPS,), {}, cam.MetricError, "give the method that made the map"),
        ("adcc", (RESULT,), {"method": 3}, cam.MetricError, "a cam.method(…), not int"),
        ("adcc", (MAPS,), {"method": "gradcam"}, cam.MetricError, "cam.attribute's result itself"),
        ("adcc", (RESULT,), {"method": "grad"}, cam.MethodError, "there is no method 'grad'"),
        ("adcc", (RESULT,), {"method": "gradcam", "layers": "x"}, cam.LayerError, "no layer 'x'"),
        ("deletion", (MAPS[:2],), {}, cam.InputError, "(3, 20, 16), but the shape is (2, 20, 16)"),
        (
            "deletion",
            (MAPS.numpy(),),
            {},
            cam.InputError,
            "result or a tensor (B, H, W)",
        ),
        ("deletion", (MAPS.int(),), {}, cam.InputError, "attribution must be floats"),
        ("deletion", (MAPS, 9), {}, cam.TargetError, "target 9 is out of range"),
        ("deletion", (MAPS, "cat"), {}, cam.TargetError, "means nothing without a model"),
        ("deletion", (MAPS,), {"batch_size": 0}, cam.InputError, "batch_size must be a whole"),
        ("relevance_rank", (MAPS, 1, MASKS.float()), {}, cam.InputError, "masks must be bool"),
        ("relevance_rank", (MAPS, 1, MASKS[0]), {}, cam.InputError, "the shape is (20, 16)"),
        (
            "stability_shift",
            (RESULT,),
            {"method": "saliency"},
            cam.MetricError,
            "8 pixels, too far",
        ),
        ("infidelity", (MAPS,), {}, cam.MetricError, "must know what the map's numbers are"),
        ("aic", (MAPS, cam.targets.Logit(1)), {}, cam.MetricError, "so it must be a class"),
    ],
)
def test_refuses_a_call_in_one_sentence(name, arguments, options, error, sentence, network):
    with pytest.raises(error, match=re.escape(sentence)):
        cam.metric(name)(network, torch.rand(3, 3, 20, 16), *arguments, **options)


@pytest.mark.parametrize("baseline", [(0.0, 1.0), torch.zeros(3, 5)])
def test_refuses_a_baseline_that_does_not_fit(baseline, network, pictures):
    with pytest.raises(cam.MetricError, match="the baseline does not fit the image"):
        cam.metric("deletion", baseline=baseline)(network, pictures, MAPS)


def test_refuses_what_is_no_model(pictures):
    with pytest.raises(cam.ModelError, match="not str"):
        cam.metric("deletion")("resnet18", pictures, MAPS)


def test_the_docs_list_every_metric_as_it_is():
    text = (ROOT / "docs" / "metrics.md").read_text()
    for name, info in cam.metrics().items():
        arrow = "↑" if info.direction > 0 else "↓"
        low, high = (f"{end:g}".replace("inf", "∞") for end in info.range)
        parameters = ", ".join(f"{key}={value!r}" for key, value in info.parameters.items())
        for part in (
            f"### `{name}` {arrow} {info.title}\n",
            f"- {info.description} Range {low} … {high}.\n",
            f"- Definition: {info.definition}.\n",
            f"- Baseline: {info.baseline}.\n",
            f"- Source: {info.citation}.\n",
            f"- Parameters: {f'`{parameters}`' if parameters else 'none'}.",
        ):
            assert part in text, (name, part)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="registered already"):
        register_metric(
            "deletion", title="", family="", definition="", direction=1, range=(0, 1), baseline="",
        )(cam.metrics()["deletion"].function)  # fmt: skip


def test_the_writing_of_batches_is_left_to_the_kernels(network, pictures, masks, monkeypatch):
    calls = []
    real = kernels.ranked_batch
    monkeypatch.setattr(kernels, "ranked_batch", lambda *a, **k: calls.append(1) or real(*a, **k))
    measured("deletion", network, pictures, masks, batch_size=64)
    assert len(calls) == 1
