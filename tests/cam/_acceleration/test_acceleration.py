"""Copies in ONNX Runtime: their scores are torch's, or they stand back."""

import copy
import gc
import weakref

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import cam
from cam._acceleration import acceleration, kept_copies
from cam._cli.commands import main
from cam._engine.fast_ops.replacement import find_replacement, get_replacement
from cam._engine.forward import run_model

SIDE = 24


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, 5),
    )
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    return network.eval()


def make_model(seed: int = 0) -> cam.Model:
    return cam.Model(make_network(seed))


def make_batch(count: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("copies")


@pytest.fixture(autouse=True)
def _cache(folder, monkeypatch) -> None:
    """Converted once for all tests, and nothing in the user's cache."""
    monkeypatch.setenv("CAM_CACHE", str(folder))


@pytest.fixture
def model() -> cam.Model:
    model = make_model()
    result = cam.accelerate(model, "onnxruntime", make_batch())
    assert result.engine.startswith("onnxruntime ") and result.deviation < 1e-5
    return model


def is_replaced(model: cam.Model, batch: torch.Tensor) -> bool:
    with torch.no_grad():
        return find_replacement(model.module, batch) is not None


@pytest.mark.parametrize("count", [1, 2, 7])
def test_scores_are_those_of_double_precision(model, count):
    batch = make_batch(count, seed=2)
    with torch.no_grad():
        exact = make_network().double()(batch.double())
    assert is_replaced(model, batch)
    assert torch.allclose(model.score(batch).double(), exact, atol=1e-5)


def test_maps_and_metrics_are_torchs(model):
    batch = make_batch(2, seed=3)
    plain = make_model()
    methods = [cam.method("rise", masks=30, cells=4, steady=1), "occlusion", "scorecam", "gradcam"]
    maps = cam.attribute(model, batch, methods, targets=1, layers="4")
    expected = cam.attribute(plain, batch, methods, targets=1, layers="4")
    for name, each in expected.items():
        scale = each.raw.abs().max()
        assert torch.allclose(maps[name].raw, each.raw, atol=1e-4 * scale), name
    # What needs a gradient is torch's, to the bit.
    assert torch.equal(maps["gradcam"].raw, expected["gradcam"].raw)
    metric = cam.metric("deletion", steps=6)
    values = metric(model, batch, expected["gradcam"], 1)
    assert torch.allclose(values, metric(plain, batch, expected["gradcam"], 1), atol=1e-5)


def test_the_copy_computes_the_passes_of_a_method(model, monkeypatch):
    counted = []
    original = acceleration.OnnxCopy.__call__

    def count(self, pixels):
        counted.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(acceleration.OnnxCopy, "__call__", count)
    cam.attribute(model, make_batch(1), cam.method("rise", masks=30, cells=4, steady=1), targets=0)
    assert sum(counted) >= 30


def change_in_place(network: nn.Module) -> None:
    with torch.no_grad():
        network[4].weight.mul_(2)


def change_behind_the_version(network: nn.Module) -> None:
    network[4].weight.data.mul_(2)


def change_a_buffer(network: nn.Module) -> None:
    network[1].running_mean.add_(1)


def change_a_parameter(network: nn.Module) -> None:
    network[9].bias = nn.Parameter(torch.ones(5))


def change_a_part(network: nn.Module) -> None:
    network[5] = nn.Sigmoid()


def change_a_forward(network: nn.Module) -> None:
    network[5].forward = torch.sigmoid


def hook_a_part(network: nn.Module) -> None:
    network[5].register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_the_network(network: nn.Module) -> None:
    network.register_forward_hook(lambda module, inputs, output: 2 * output)


def hook_its_input(network: nn.Module) -> None:
    network.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))


@pytest.mark.parametrize(
    "change",
    [
        change_in_place, change_behind_the_version, change_a_buffer, change_a_parameter,
        change_a_part, change_a_forward, hook_a_part, hook_the_network, hook_its_input,
    ],
)  # fmt: skip
def test_a_network_that_changed_computes_itself(model, change):
    other = make_network()
    change(model.module)
    change(other)
    batch = make_batch()
    with torch.no_grad():
        expected = other(batch)
    assert not is_replaced(model, batch)
    assert torch.equal(model.score(batch), expected)
    # Not what the copy still computes.
    assert not torch.allclose(expected, make_network()(batch), atol=1e-3)


def test_what_the_copy_was_not_compared_on_is_torchs(model):
    batch = make_batch()
    assert not is_replaced(model, batch.double())
    assert not is_replaced(model, torch.randn(2, 3, SIDE + 8, SIDE))
    assert find_replacement(model.module, batch) is None  # with gradients
    model.module.train()
    assert not is_replaced(model, batch)
    model.module.eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_replaced(model, batch)
    with Observing(), torch.no_grad():
        assert find_replacement(model.module, batch) is None
    assert is_replaced(model, batch)


def test_a_twin_is_accelerated_and_a_copy_is_not(model):
    batch = make_batch()
    assert is_replaced(model.twin(), batch)
    assert not is_replaced(copy.deepcopy(model), batch)
    cam.accelerate(model, "torch")
    assert not is_replaced(model, batch)


def test_nothing_keeps_the_network():
    model = make_model()
    cam.accelerate(model, "onnxruntime", make_batch())
    reference = weakref.ref(model.module)
    del model
    gc.collect()
    assert reference() is None


class Observing(torch.overrides.TorchFunctionMode):
    """Another program's mode, which wants to see each operation."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Branching(nn.Module):
    """A network whose operations depend on what it sees, which no export holds."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x if x.sum() > 0 else -x)


class Counting(nn.Module):
    """A network that is another one at each call, as the copy cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_network()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.network(x) * self.calls


@pytest.mark.parametrize("network", [Branching, Counting])
def test_a_network_that_cannot_be_copied_says_why_and_stays(network):
    model = cam.Model(network().eval())
    with pytest.raises(cam.ModelError, match="ONNX"):
        cam.accelerate(model, "onnxruntime", make_batch())
    result = cam.accelerate(model, "auto", make_batch())
    assert result.engine == "torch" and "ONNX" in result.reason
    assert get_replacement(model.module) is None


def test_double_precision_is_refused_in_a_sentence():
    model = cam.Model(make_network().double())
    with pytest.raises(cam.ModelError, match="has weights in float64"):
        cam.accelerate(model, "onnxruntime", make_batch().double())


@pytest.mark.parametrize("engine", ["onnx", "", None])
def test_another_engine_is_refused(engine):
    with pytest.raises(cam.InputError, match="engine must be one of auto, torch, onnxruntime"):
        cam.accelerate(make_model(), engine)


def test_a_batch_that_does_not_fit_leaves_all_as_it_was(model):
    with pytest.raises(cam.CamError):
        cam.accelerate(model, "onnxruntime", torch.randn(3, SIDE, SIDE))
    assert is_replaced(model, make_batch())


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("cam._extras.find_spec", lambda name: None)
    with pytest.raises(cam.CamError, match="needs the extra 'fast': pip install"):
        cam.accelerate(make_model(), "onnxruntime", make_batch())
    assert "the extra 'fast'" in cam.accelerate(make_model(), "auto", make_batch()).reason


def test_auto_takes_what_is_faster(monkeypatch):
    """The clock is the test's: a pass of torch takes two seconds, one of the copy one, or four."""
    for seconds, engine in ((1, "onnxruntime"), (4, "torch")):
        monkeypatch.setattr(
            acceleration,
            "_measure",
            lambda module, run, batch, key, seconds=seconds: acceleration.Estimate(
                2 / seconds, 1.9 / seconds, 2.1 / seconds
            ),
        )
        result = cam.accelerate(make_model(), "auto", make_batch())
        assert result.engine.startswith(engine)


def test_a_measurement_is_kept_with_its_machine(model):
    batch = make_batch()
    first = cam.accelerate(model, "auto", batch)
    again = cam.accelerate(make_model(), "auto", batch)
    assert first.speedup is None or first.speedup == again.speedup
    key = kept_copies.identify(model.module, batch)
    assert kept_copies.read_choice(key, "another machine") is None


def test_a_network_is_converted_once(monkeypatch):
    cam.accelerate(make_model(5), "onnxruntime", make_batch())

    def refuse(module, batch):
        raise AssertionError("it is converted again")

    monkeypatch.setattr(acceleration, "convert", refuse)
    cam.accelerate(make_model(5), "onnxruntime", make_batch())


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_damaged_copy_is_made_anew(content, folder):
    batch = make_batch()
    key = kept_copies.identify(make_network(), batch)
    (folder / f"{key}.onnx").write_bytes(content)
    model = make_model()
    cam.accelerate(model, "onnxruntime", batch)
    assert is_replaced(model, batch)
    assert len((folder / f"{key}.onnx").read_bytes()) > 1000


def test_a_copy_of_other_code_is_made_anew(folder):
    """As if the class had been edited since: the same weights, name and text, another network."""
    batch = make_batch()
    key = kept_copies.identify(make_network(), batch)
    other = kept_copies.identify(make_network(6), batch)
    cam.accelerate(make_model(6), "onnxruntime", batch)
    (folder / f"{key}.onnx").write_bytes((folder / f"{other}.onnx").read_bytes())
    model = make_model()
    cam.accelerate(model, "onnxruntime", batch)
    with torch.no_grad():
        assert torch.allclose(model.score(batch), make_network()(batch), atol=1e-5)


def test_the_oldest_copies_go(tmp_path, monkeypatch):
    monkeypatch.setenv("CAM_CACHE", str(tmp_path / "new"))
    for number in range(kept_copies.MOST_COPIES + 3):
        kept_copies.keep_copy(f"{number:03}", b"content")
        kept_copies.keep_choice(f"{number:03}", "here", {"speedup": [1.0, 1.0, 1.0]})
    assert len(list((tmp_path / "new").glob("*.onnx"))) == kept_copies.MOST_COPIES
    assert not list((tmp_path / "new").glob(".writing-*"))


def test_a_folder_that_cannot_be_written_is_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CAM_CACHE", str(tmp_path / "file" / "folder"))
    kept_copies.keep_copy("key", b"content")
    assert kept_copies.read_copy("key") is None


def test_a_run_names_the_engine_and_goes_on_with_no_other(model, tmp_path):
    batch = make_batch(4)
    data = [(image, number % 2) for number, image in enumerate(batch)]
    model.transform = lambda image: image
    arguments = (["occlusion", "saliency"], [cam.metric("deletion", steps=4)], tmp_path / "run")
    run = cam.evaluate(model, data, *arguments, heatmaps=0)
    assert run.config["inference"].startswith("onnxruntime ")
    assert run.scores()["value"].notna().all()
    plain = make_model()
    plain.transform = model.transform
    with pytest.raises(cam.RunError, match=r"inference: onnxruntime .* → torch"):
        cam.evaluate(plain, data, *arguments, heatmaps=0)


def test_logits_of_a_record_are_read():
    class Record(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_network()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"features": x, "logits": self.network(x)}

    model, batch = cam.Model(Record().eval()), make_batch()
    cam.accelerate(model, "onnxruntime", batch)
    assert is_replaced(model, batch)
    with torch.no_grad():
        expected = make_network()(batch)
        assert torch.allclose(run_model(model.module, batch), expected, atol=1e-5)


def test_a_run_that_is_resumed_computes_as_before(tmp_path):
    model = cam.load_model("known/patch")
    cam.accelerate(model, "onnxruntime")
    metric = cam.metric("deletion", steps=4)
    run = cam.evaluate(model, "known", "occlusion", metric, tmp_path / "run", limit=2)
    assert "--inference onnxruntime" in run.call.command("out")
    assert "cam.accelerate(model, 'onnxruntime')" in run.call.python("out")
    assert get_replacement(run.call.load_model().module) is not None
    assert cam.resume(tmp_path / "run").done == 2


def test_the_command_line_says_what_computes(tmp_path):
    words = ["explain", "sample:chelsea", "--model", "known/patch", "--method", "occlusion"]
    words += ["--target", "0", "--inference", "onnxruntime", "--out", str(tmp_path / "maps")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "Note: passes without gradients run in onnxruntime" in result.output
