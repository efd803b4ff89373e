"""cam.compat.torchcam beside torchcam 0.5.0, on the same arguments and seeds."""

import pytest
import torch
from torch import nn
from torchcam import methods as theirs

import cam
from cam.compat.torchcam import methods as ours

# Weights are sums of some hundred float32 products; a map in [0, 1] is rounded by no more.
TOLERANCE = 1e-5
NAMES = ["GradCAM", "GradCAMpp", "XGradCAM", "LayerCAM", "SmoothGradCAMpp"]
PLAIN = ["CAM", "ScoreCAM", "SSCAM", "ISCAM"]
OPTIONS = {"SSCAM": {"num_samples": 3}, "ISCAM": {"num_samples": 3}}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.Softplus(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 12, 8, generator=torch.Generator().manual_seed(1))


def explain(library, name, pictures, call, layers="4", **options):
    model = network()
    torch.manual_seed(7)
    with getattr(library, name)(model, layers, **options) as extractor:
        maps = call(extractor, model(pictures))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    return maps


def assert_same(actual, expected):
    assert isinstance(actual, list)
    assert len(actual) == len(expected)
    for ours_, theirs_ in zip(actual, expected, strict=True):
        assert ours_.shape == theirs_.shape
        assert ours_.dtype == theirs_.dtype
        assert not ours_.requires_grad
        assert theirs_.std() > 1e-6
        assert (ours_ - theirs_).abs().max() <= TOLERANCE * theirs_.abs().max()


CALLS = {
    "one class": lambda extractor, out: extractor(1, out),
    "a class each": lambda extractor, out: extractor([3, 1], out),
    "raw": lambda extractor, out: extractor(class_idx=2, scores=out, normalized=False),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", NAMES + PLAIN)
def test_maps_are_torchcams(name, call, pictures):
    actual, expected = (
        explain(library, name, pictures, CALLS[call], **OPTIONS.get(name, {}))
        for library in (ours, theirs)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("name", [*NAMES, "ScoreCAM", "SSCAM"])
def test_functions_as_targets(name, pictures):
    def call(extractor, out):
        return extractor(scores=out, targets=[lambda row: row[3] - row[0], lambda row: row.sum()])

    actual, expected = (
        explain(library, name, pictures, call, **OPTIONS.get(name, {}))
        for library in (ours, theirs)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("name", [*NAMES, "ScoreCAM"])
def test_several_layers_and_their_fusion(name, pictures):
    def call(extractor, out):
        maps = extractor(1, out)
        return [*maps, extractor.fuse_cams(maps), extractor.fuse_cams(maps, (7, 9))]

    actual, expected = (
        explain(library, name, pictures, call, layers=["1", "4"]) for library in (ours, theirs)
    )
    assert [tuple(part.shape[1:]) for part in actual] == [(12, 8), (6, 4), (12, 8), (7, 9)]
    assert_same(actual, expected)


@pytest.mark.parametrize("name", NAMES + PLAIN)
def test_the_default_layer_is_torchcams(name):
    options = {"input_shape": (3, 12, 8)}
    with getattr(ours, name)(network(), **options) as extractor:
        actual = extractor.target_names
    with getattr(theirs, name)(network(), **options) as extractor:
        assert actual == extractor.target_names == ["4"]


@pytest.mark.parametrize("name", ["GradCAM", "ScoreCAM"])
def test_tokens_by_a_transform(name, pictures):
    def grid(tokens):
        return tokens.transpose(1, 2).unflatten(2, (6, 4))

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = network()[:5]
            self.tokens = nn.Flatten(2)
            self.block = nn.Linear(8, 8)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.block(self.tokens(self.stem(x)).transpose(1, 2)).square().mean(1))

    torch.manual_seed(1)
    model = Tokens().eval()
    maps = []
    for library in (ours, theirs):
        with getattr(library, name)(model, model.block, reshape_transform=grid) as extractor:
            maps.append(extractor(2, model(pictures)))
    assert_same(*maps)


@pytest.mark.parametrize("base", ["GradCAM", "LayerCAM", "GradCAMpp"])
@pytest.mark.parametrize("comparison", [None, 2, [0, 2], [[0, 2], [4, 3]]], ids=str)
def test_finer_cam_is_torchcams(base, comparison, pictures):
    def call(extractor, out):
        return extractor([3, 1], out, comparison_idx=comparison)

    actual, expected = (
        explain(library, "FinerCAM", pictures, call, base_method=getattr(library, base))
        for library in (ours, theirs)
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("options", [{}, {"normalized": False}, {"target_shape": (9, 9)}], ids=str)
def test_refine_cam_is_torchcams(options, pictures):
    actual, expected = (
        explain(
            library,
            "RefineCAM",
            pictures,
            lambda extractor, out: extractor(1, out, **options),
            layers=["1", "4"],
        )
        for library in (ours, theirs)
    )
    assert_same(actual, expected)


def test_hooks_can_be_disabled_and_the_graph_retained(pictures):
    model = network()
    with ours.GradCAM(model, "4") as extractor:
        out = model(pictures)
        (first,) = extractor(1, out, retain_graph=True)
        extractor.disable_hooks()
        model(pictures * 0)
        (second,) = extractor(1, out)
    assert torch.equal(first, second)


def test_a_raised_exception_passes_and_removes_the_hooks():
    model = network()
    with pytest.raises(KeyError), ours.ScoreCAM(model, "4"):
        raise KeyError
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


def run(name, call, **options):
    model = network()
    with getattr(ours, name)(model, options.pop("layer", "4"), **options) as extractor:
        return call(extractor, model(torch.zeros(2, 3, 12, 8)))


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda: run("GradCAM", lambda e, o: e(1)), cam.InputError, "needs the model's output"),
        (lambda: run("GradCAM", lambda e, o: e(None, o)), cam.TargetError, "either class_idx or"),
        (lambda: run("GradCAM", lambda e, o: e(-1, o)), cam.TargetError, "at least 0"),
        (lambda: run("GradCAM", lambda e, o: e([1], o)), cam.TargetError, "1 entries for 2 images"),
        (
            lambda: run("GradCAM", lambda e, o: e(1, o.detach())),
            cam.LayerError,
            "no gradient comes from the scores",
        ),
        (
            lambda: run("CAM", lambda e, o: e(scores=o, targets=torch.sum)),
            cam.TargetError,
            "CAM explains classes only",
        ),
        (lambda: run("CAM", None, layer=["1", "4"]), cam.LayerError, "at one layer"),
        (lambda: ours.GradCAM(network(), "5x"), cam.LayerError, "no layer '5x'"),
        (lambda: ours.GradCAM(network(), nn.ReLU()), cam.LayerError, "not a part of the model"),
        (lambda: ours.GradCAM(network(), 4), cam.LayerError, "a module or its name, not int"),
        (lambda: ours.GradCAM(network(), "4")(1, torch.zeros(2, 5)), cam.InputError, "run the"),
        (lambda: ours.LeGrad(network()), cam.MethodError, "'legrad'"),
        (lambda: ours.RefineCAM(network(), ["4"]), cam.LayerError, "at least two"),
        (
            lambda: run("FinerCAM", lambda e, o: e(1, o, comparison_idx=[1])),
            cam.TargetError,
            "other than the explained",
        ),
    ],
)
def test_refuses_in_one_sentence(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()
