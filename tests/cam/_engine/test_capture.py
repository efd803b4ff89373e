"""Costs of a call, which changes neither model, batch nor thread."""

import copy
import gc
import threading

import pytest
import torch
from torch import nn

import cam


class CountedBackward(torch.autograd.Function):
    """The identity, which counts how often a backward pass walks through it."""

    count = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        CountedBackward.count += 1
        return gradient


class Counter(nn.Module):
    def forward(self, x):
        self.forwards = getattr(self, "forwards", 0) + 1
        return CountedBackward.apply(x)


def network(early: nn.Module | None = None, late: nn.Module | None = None) -> nn.Sequential:
    """Convolution, in-place ReLU, batch norm, dropout, a second convolution, a pooled head."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        early or nn.Identity(),
        nn.ReLU(inplace=True),
        nn.BatchNorm2d(6),
        nn.Dropout(0.5),
        nn.Conv2d(6, 8, 3, padding=1),
        late or nn.Identity(),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, 10, 10)


@pytest.mark.parametrize(
    ("methods", "early_backwards", "late_backwards"),
    [(["gradcam"], 0, 1), (["saliency"], 1, 1), (["gradcam", "saliency"], 1, 1)],
    ids=["gradcam alone stops at the layer", "saliency goes to the pixels", "both share one"],
)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_one_forward_and_one_backward(pictures, methods, early_backwards, late_backwards, frozen):
    for where, expected in (("early", early_backwards), ("late", late_backwards)):
        counter = Counter()
        model = network(**{where: counter}).requires_grad_(not frozen)
        CountedBackward.count = 0
        cam.attribute(model, pictures, methods, layers="5")
        assert counter.forwards == 1
        assert CountedBackward.count == expected, where


def test_several_layers_share_the_passes(pictures):
    counter = Counter()
    model = network(early=counter)
    CountedBackward.count = 0
    cam.attribute(model, pictures, "gradcam", layers=["5", "0", "3"])
    assert (counter.forwards, CountedBackward.count) == (1, 1)


def test_nothing_before_the_layer_is_recorded(pictures):
    """The feature maps are a leaf: no graph, so no memory, hangs on what came before."""
    model = network()
    graphs = {}
    model[5].register_forward_hook(lambda _, inputs, __: graphs.update(before=inputs[0]))
    model[6].register_forward_hook(lambda _, inputs, __: graphs.update(behind=inputs[0]))
    cam.attribute(model, pictures, "gradcam", layers="5")
    assert graphs["before"].grad_fn is None and not graphs["before"].requires_grad
    assert graphs["behind"].requires_grad


def state_of(model: nn.Module) -> dict:
    return {
        "values": {key: value.clone() for key, value in model.state_dict().items()},
        "gradients": [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "identities": [id(p) for p in [*model.parameters(), *model.buffers()]],
        "training": [m.training for m in model.modules()],
        "hooks": [
            (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks))
            for m in model.modules()
        ],
    }


def assert_same_state(before: dict, after: dict) -> None:
    assert before["values"].keys() == after["values"].keys()
    for key, value in before["values"].items():
        assert torch.equal(value, after["values"][key]), key
    for old, new in zip(before["gradients"], after["gradients"], strict=True):
        assert (old is None) == (new is None)
        assert old is None or torch.equal(old, new)
    for part in ("requires", "identities", "training", "hooks"):
        assert before[part] == after[part], part


@pytest.fixture
def lived_in_model(pictures) -> nn.Module:
    """In training mode but for its batch norm, partly frozen, with gradients and a user's hook."""
    model = network()
    model.train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model(pictures).sum().backward()
    model[7].register_forward_hook(lambda *_: None)
    return model


def test_the_model_comes_back_as_it_was(lived_in_model, pictures):
    before = state_of(lived_in_model)
    with pytest.warns(cam.CamWarning, match="training mode"):
        cam.attribute(lived_in_model, pictures, layers=["0", "5"])
    assert_same_state(before, state_of(lived_in_model))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"targets": 5}, cam.TargetError),
        ({"layers": "10"}, cam.LayerError),
        ({"targets": lambda scores: 1 / 0}, ZeroDivisionError),
    ],
    ids=["class out of range", "layer without maps", "the user's target fails"],
)
@pytest.mark.filterwarnings("ignore::cam.CamWarning")
def test_the_model_comes_back_after_an_exception(lived_in_model, pictures, arguments, error):
    before = state_of(lived_in_model)
    with pytest.raises(error):
        cam.attribute(lived_in_model, pictures, **{"layers": "5", **arguments})
    assert_same_state(before, state_of(lived_in_model))
    assert torch.is_grad_enabled()


def test_a_model_that_fails_in_its_forward_comes_back(pictures):
    class Failing(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of luck")

    model = network(late=Failing())
    before = state_of(model)
    with pytest.raises(cam.ModelError, match=r"failed on a torch.float32 batch.*out of luck"):
        cam.attribute(model, pictures, layers=["0", "5"])
    assert_same_state(before, state_of(model))
    assert torch.is_grad_enabled()


def test_training_mode_is_explained_in_evaluation_mode(pictures):
    """Dropout would make two calls differ, and batch norm would change its statistics."""
    model = network()
    expected = cam.attribute(model, pictures, layers="5")
    model.train()
    with pytest.warns(cam.CamWarning, match="evaluation mode"):
        attributions = cam.attribute(model, pictures, layers="5")
    for name in expected:
        assert torch.equal(attributions[name].heatmap, expected[name].heatmap)


def test_the_batch_is_left_alone(pictures):
    model = nn.Sequential(nn.ReLU(inplace=True), *network())
    negative = pictures - 0.5
    before = negative.clone()
    cam.attribute(model, negative, layers="6")
    assert torch.equal(negative, before)
    assert negative.grad is None and not negative.requires_grad


def test_a_batch_that_requires_grad_is_not_given_one(pictures):
    wanting = pictures.clone().requires_grad_()
    attributions = cam.attribute(network(), wanting, layers="5")
    assert wanting.grad is None
    assert all(not attribution.heatmap.requires_grad for attribution in attributions.values())


def test_an_in_place_relu_behind_the_layer_does_not_change_its_maps(pictures):
    """The maps before the ReLU, as the same network without in-place operations has them."""
    in_place = network()
    plain = copy.deepcopy(in_place)
    for module in plain.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for layer in ("0", "5"):
        attributions = cam.attribute(in_place, pictures, layers=layer)
        expected = cam.attribute(plain, pictures, layers=layer)
        for name in attributions:
            assert torch.equal(attributions[name].raw, expected[name].raw), (layer, name)


@pytest.mark.parametrize(
    "context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"]
)
def test_inside_the_callers_context(pictures, context):
    model = network()
    expected = cam.attribute(model, pictures, layers="5")
    with context():
        inside = pictures * 1  # in inference mode this tensor can never join a graph
        attributions = cam.attribute(model, inside, layers="5")
        assert not torch.is_grad_enabled()
    for name in attributions:
        assert torch.equal(attributions[name].heatmap, expected[name].heatmap)


def test_a_frozen_model_is_explained_the_same(pictures):
    model = network()
    expected = cam.attribute(model, pictures, layers="5")
    attributions = cam.attribute(model.requires_grad_(False), pictures, layers="5")
    for name in attributions:
        assert torch.equal(attributions[name].heatmap, expected[name].heatmap)


def test_a_shared_module_is_explained_at_its_last_run(pictures):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.relu = self.last = nn.ReLU()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            x = self.relu(self.first(x))
            x = self.last(self.second(x))
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    model = Twice().eval()
    shared = cam.attribute(model, pictures, "gradcam", layers="relu")["gradcam"]
    # No module is registered that never runs: it would change the layout, and so the last bits.
    model.last = nn.ReLU()
    apart = cam.attribute(model, pictures, "gradcam", layers="last")["gradcam"]
    assert torch.equal(shared.raw, apart.raw)


def test_a_compiled_model_is_explained_as_its_original(pictures):
    model = network()
    expected = cam.attribute(model, pictures, "gradcam", layers="5")["gradcam"]
    # Nothing is compiled until the wrapper is called, and the engine calls what it wraps.
    attribution = cam.attribute(torch.compile(model), pictures, "gradcam", layers="5")["gradcam"]
    assert torch.equal(attribution.heatmap, expected.heatmap)


def test_calls_leave_no_memory_and_no_hooks(pictures):
    model = network()

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

    cam.attribute(model, pictures, layers="5")
    hooks, before = state_of(model)["hooks"], tensors()
    for _ in range(200):
        cam.attribute(model, pictures, layers="5")
    # What an earlier test left behind may go meanwhile.
    assert tensors() <= before
    assert state_of(model)["hooks"] == hooks


def test_threads_that_share_a_cam_model_get_their_own_answers(pictures):
    model = cam.Model(network(), layers="5")
    expected = [cam.attribute(model, pictures, targets=target) for target in range(5)]
    answers: dict[tuple[int, int], dict] = {}

    def explain(worker: int, target: int) -> None:
        answers[worker, target] = cam.attribute(model, pictures, targets=target)

    threads = [
        threading.Thread(target=explain, args=(worker, target))
        for worker in range(4)
        for target in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    for (_, target), maps in answers.items():
        for name, attribution in maps.items():
            assert torch.equal(attribution.heatmap, expected[target][name].heatmap)
