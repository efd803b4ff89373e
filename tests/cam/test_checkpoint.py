"""Weights from files: what fits is loaded, what does not is told, and no code in them runs."""

import os
import pickle
import re
import warnings

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import cam

NAME = "torchvision/shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """Somebody's model: torchvision's own, with weights that no other has."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return torchvision.models.shufflenet_v2_x0_5(weights=None).eval()


def assert_loads(path: object, trained: nn.Module) -> None:
    model = cam.load_model(NAME, weights=path)
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.module(batch), trained(batch))
    assert model.name == NAME
    assert not model.module.training


def refusal(path: object, name: str = NAME) -> str:
    """The one sentence that refuses a file; not even a warning beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(cam.CheckpointError) as caught:
            cam.load_model(name, weights=path)
    text = str(caught.value)
    assert "\n" not in text
    assert not re.search(r"[.!?] [A-Z]", text), "more than one sentence"
    return text


def prefixed(module: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in module.state_dict().items()}


# What fits


def test_safetensors(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    assert_loads(path, trained)
    assert_loads(str(path), trained)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt"])
@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
def test_a_state_dict_of_torch(trained, tmp_path, name, as_zip):
    path = tmp_path / name
    torch.save(trained.state_dict(), path, _use_new_zipfile_serialization=as_zip)
    assert_loads(path, trained)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.module."],
)
def test_prefixes_of_wrappers_are_taken_off(trained, tmp_path, prefix):
    path = tmp_path / "wrapped.pth"
    torch.save(prefixed(trained, prefix), path)
    assert_loads(path, trained)


def test_the_prefix_of_data_parallel_itself(trained, tmp_path):
    path = tmp_path / "parallel.pth"
    torch.save(nn.DataParallel(trained).state_dict(), path)
    assert_loads(path, trained)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_training_scripts_checkpoint(trained, tmp_path, key):
    path = tmp_path / "checkpoint.pth"
    beside = {"epoch": 3, "best": 0.5, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
    torch.save({key: prefixed(trained, "module."), **beside}, path)
    assert_loads(path, trained)


def test_the_bundled_model_takes_other_weights(bundled, tmp_path):
    path = tmp_path / "zeros.safetensors"
    other = {name: torch.zeros_like(value) for name, value in bundled.module.state_dict().items()}
    save_file(other, path)
    model = cam.load_model("efficientnet_lite0", weights=path)
    assert not any(value.any() for value in model.module.state_dict().values())


def test_a_timm_model_takes_a_file(tmp_path):
    first = cam.load_model("timm/test_resnet", weights=None).module
    path = tmp_path / "weights.safetensors"
    save_file(first.state_dict(), path)
    second = cam.load_model("timm/test_resnet", weights=path).module
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


# What does not


def test_another_architecture_is_told_by_its_names(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1000)}, path)
    told = refusal(path)
    assert told.startswith("resnet.pth does not fit ShuffleNetV2: ")
    own = list(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict())
    missing = [name for name in own if name != "fc.bias"]
    first = ", ".join(missing[:3])
    assert f"missing: {first} and {len(missing) - 3} more" in told
    assert "unknown: conv1.weight" in told


def test_another_number_of_classes_is_told_by_its_shape(tmp_path):
    path = tmp_path / "ten.safetensors"
    save_file(torchvision.models.shufflenet_v2_x0_5(num_classes=10).state_dict(), path)
    assert refusal(path) == (
        "ten.safetensors does not fit ShuffleNetV2: of another shape: "
        "fc.weight (10, 1024) instead of (1000, 1024), fc.bias (10,) instead of (1000,)"
    )


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0.5, 0.01, 0], ids=["half", "head", "empty"])
def test_a_cut_file_is_told_of(trained, tmp_path, kind, kept):
    path = tmp_path / f"cut.{kind}"
    if kind == "safetensors":
        save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    told = refusal(path)
    assert told.startswith(f"cut.{kind} is ")
    assert "damaged" in told or "no whole .safetensors file" in told


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html>Please log in</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
    ids=["page", "lfs-pointer", "picture"],
)
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_what_is_no_weights_file_is_refused(tmp_path, content, kind):
    path = tmp_path / f"weights.{kind}"
    path.write_bytes(content)
    assert refusal(path).startswith(f"weights.{kind} is ")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.zeros(3), "holds no state dict"),
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"epoch": 3}, "holds no tensors"),
        ({7: torch.zeros(3)}, "holds no tensors"),
    ],
    ids=["tensor", "empty", "list", "no-tensors", "numbered"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, told):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    assert f"odd.pth {told}" in refusal(path)


def test_a_missing_file_is_told_of(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        assert refusal(path) == f"there is no weights file {str(path)!r}"


# What would run


class Payload:
    """Unpickled by anything that trusts it, it makes a file."""

    def __init__(self, proof: object) -> None:
        self.command = f"touch '{proof}'"

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


def write_zip(path, content):
    torch.save(content, path)


def write_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


def write_old_pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=0))


def write_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [write_zip, write_legacy, write_pickle, write_old_pickle])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_code_in_a_file_is_refused_and_does_not_run(trained, tmp_path, write, name):
    proof = tmp_path / "ran"
    path = tmp_path / name
    write(path, {"state_dict": trained.state_dict(), "note": Payload(proof)})
    told = refusal(path)
    assert not proof.exists(), "the code ran"
    assert name in told
    if not name.endswith(".safetensors"):
        assert "is refused" in told
        assert "could run code" in told


def test_the_payload_would_run(tmp_path):
    """The test above can fail: the same file makes the proof where pickle is trusted."""
    proof = tmp_path / "ran"
    path = tmp_path / "weights.pth"
    torch.save({"note": Payload(proof)}, path)
    torch.load(path, weights_only=False)
    assert proof.exists()


def test_a_whole_pickled_model_is_refused(trained, tmp_path):
    path = tmp_path / "model.pth"
    torch.save(trained, path)
    assert "save model.state_dict() alone" in refusal(path)
