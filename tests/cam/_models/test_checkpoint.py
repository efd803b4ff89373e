"""Weights from files: what fits is loaded, no code in them runs."""

import io
import os
import pickle
import random
import re
import warnings
import zipfile

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import cam
from cam._models.checkpoint import read_state_dict

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


# Another number of classes, and their names


MADE = {
    "efficientnet_lite0": lambda n: timm.create_model("tf_efficientnet_lite0", num_classes=n),
    NAME: lambda n: torchvision.models.shufflenet_v2_x0_5(num_classes=n),
    "torchvision/squeezenet1_1": lambda n: torchvision.models.squeezenet1_1(num_classes=n),
    "timm/test_vit": lambda n: timm.create_model("test_vit", num_classes=n),
    # Two classifiers.
    "timm/deit_tiny_distilled_patch16_224": lambda n: timm.create_model(
        "deit_tiny_distilled_patch16_224", num_classes=n
    ),
}


@pytest.mark.parametrize(
    ("name", "prefix"), [*((name, "") for name in MADE), ("timm/test_vit", "module.")]
)
def test_the_classifier_in_the_file_says_how_many_classes(name, prefix, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        trained = MADE[name](3).eval()
    path = tmp_path / "three.pth"
    torch.save(prefixed(trained, prefix), path)
    model = cam.load_model(name, weights=path)
    batch = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    if name == "timm/test_vit":
        batch = batch[..., :160, :160]
    with torch.no_grad():
        expected = trained(batch)
        assert expected.shape == (1, 3)
        assert torch.equal(model.module(batch), expected)
    assert model.labels is None
    assert model.label(2) == "class 2"
    assert not model.module.training


TINY = "timm/test_resnet"


@pytest.fixture
def three(tmp_path) -> object:
    path = tmp_path / "three.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "ant\nbee\nsea lion"),
        ("names.txt", "\ufeffant\r\nbee\r\n  sea lion \r\n\r\n"),
        ("names.json", '["ant", "bee", "sea lion"]'),
        ("names.json", '{"2": "sea lion", "0": "ant", "1": "bee"}'),
        ("names.JSON", '{"bee": 1, "sea lion": 2, "ant": 0}'),
    ],
    ids=["lines", "lines of Windows", "list", "by index", "by name"],
)
def test_labels_from_a_file(name, content, three, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    for labels in (path, str(path)):
        model = cam.load_model(TINY, weights=three, labels=labels)
        assert model.labels == ("ant", "bee", "sea lion")
        assert model.class_index("sea lion") == 2


def test_labels_from_a_list(three):
    assert cam.load_model(TINY, weights=three, labels=["a", "b", "c"]).labels == ("a", "b", "c")


def test_labels_instead_of_imagenets(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(f"number {index}" for index in range(1000)))
    assert cam.load_model(TINY, None, labels=path).label(7) == "number 7"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("names.txt", b"ant\nbee", "names.txt names 2 classes, but the model has 3"),
        ("names.txt", b"a\n\nb\nc", "line 2 of names.txt is empty; write one name a line"),
        ("names.txt", b" \n", "names.txt names no class; write one name a line"),
        ("names.txt", b"\xff\xfe\x00", "cannot be read: it is no text in UTF-8"),
        ("names.txt", None, "cannot be read: No such file or directory"),
        ("names.json", b"[1, 2, 3]", "names.json holds no names of classes; write a list of"),
        ("names.json", b"[]", "names.json holds no names of classes"),
        ("names.json", b"3", "names.json holds no names of classes"),
        ("names.json", b"{", "names.json is no JSON: "),
        ("names.json", b"[" * 100_000, "names.json is no JSON: "),
        (
            "names.json",
            b'{"1": "a", "2": "b", "3": "c"}',
            "names 3 classes, but none of them is number 0; count from 0",
        ),
        ("names.json", b'{"a": 0, "b": 0, "c": 1}', "names 2 classes, but the model has 3"),
    ],
)
def test_labels_that_do_not_fit_are_told_of(name, content, sentence, three, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(cam.ModelError) as caught:
        cam.load_model(TINY, weights=three, labels=path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not re.search(r"[.!?] [A-Z]", str(caught.value)), "more than one sentence"


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["a", "b"], "labels names 2 classes, but the model has 3"),
        ([1, 2, 3], "labels are names, one a class, or the path of a file of them"),
        (3, "labels are names, one a class, or the path of a file of them"),
    ],
)
def test_a_list_of_labels_that_does_not_fit_is_told_of(labels, sentence, three):
    with pytest.raises(cam.ModelError, match=sentence):
        cam.load_model(TINY, weights=three, labels=labels)


# What does not


def test_another_architecture_is_told_by_its_names(tmp_path):
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1000)}, path)
    message = refusal(path)
    assert message.startswith("resnet.pth does not fit ShuffleNetV2: ")
    keys = list(torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict())
    missing = [name for name in keys if name != "fc.bias"]
    first = ", ".join(missing[:3])
    assert f"missing: {first} and {len(missing) - 3} more" in message
    assert "unknown: conv1.weight" in message


def test_another_shape_than_the_classifiers_is_told(trained, tmp_path):
    path = tmp_path / "odd.safetensors"
    odd = trained.state_dict() | {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    save_file(odd, path)
    assert refusal(path) == (
        "odd.safetensors does not fit ShuffleNetV2: of another shape: "
        "fc.weight (10, 512) instead of (1000, 1024), fc.bias (10,) instead of (1000,)"
    )
    odd = trained.state_dict() | {"fc.weight": torch.zeros(10, 1024), "fc.bias": torch.zeros(9)}
    save_file(odd, path)
    assert "fc.weight (10, 1024) instead of (1000, 1024), fc.bias (9,)" in refusal(path)
    odd = trained.state_dict() | {"conv1.0.weight": torch.zeros(10, 3, 3, 3)}
    save_file(odd, path)
    assert "conv1.0.weight (10, 3, 3, 3) instead of (24, 3, 3, 3)" in refusal(path)
    odd = trained.state_dict() | {"fc.weight": torch.zeros(0, 1024), "fc.bias": torch.zeros(0)}
    save_file(odd, path)
    assert "fc.weight (0, 1024) instead of" in refusal(path)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize("share", [0.5, 0.01, 0], ids=["half", "head", "empty"])
def test_a_cut_file_is_told_of(trained, tmp_path, kind, share):
    path = tmp_path / f"cut.{kind}"
    if kind == "safetensors":
        save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    message = refusal(path)
    assert message.startswith(f"cut.{kind} is ")
    assert "damaged" in message or "no whole .safetensors file" in message


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
    ("content", "phrase"),
    [
        (torch.zeros(3), "holds no state dict"),
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"epoch": 3}, "holds no tensors"),
        ({7: torch.zeros(3)}, "holds no tensors"),
    ],
    ids=["tensor", "empty", "list", "no-tensors", "numbered"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, phrase):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    assert f"odd.pth {phrase}" in refusal(path)


@pytest.mark.parametrize(
    ("key", "value", "phrase"),
    [
        (
            "fc.weight",
            torch.zeros(1, 1024).expand(10**12, -1),
            "fc.weight claims 4,096,000,000,000,000 bytes of the 4,096 that are stored",
        ),
        ("fc.bias", torch.zeros(1000, device="meta"), "on meta"),
        ("fc.bias", torch.zeros(1000).to_sparse(), "fc.bias is no dense tensor (torch.sparse_coo"),
        (
            "fc.bias",
            torch.quantize_per_tensor(torch.zeros(1000), 0.1, 0, torch.qint8),
            "fc.bias is no dense tensor (quantized)",
        ),
        ("<img src=x onerror=alert(1)>", torch.zeros(3), "names no parameter"),
        ("fc\nbias", torch.zeros(3), "names no parameter"),
        ("", torch.zeros(3), "names no parameter"),
    ],
    ids=["stride", "meta", "sparse", "quantized", "html", "line", "empty"],
)
def test_what_no_network_has_is_refused_before_one_is_built(
    trained, tmp_path, monkeypatch, key, value, phrase
):
    path = tmp_path / "odd.pth"
    torch.save(trained.state_dict() | {key: value}, path)
    with pytest.raises(cam.CheckpointError) as caught:
        read_state_dict(path)
    assert str(caught.value).startswith("odd.pth is refused: ") and phrase in str(caught.value)
    assert refusal(path) == str(caught.value)


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Change, cut out or repeat a few bytes."""
    mutated = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        start = generator.randrange(len(mutated))
        match generator.randrange(3):
            case 0:
                mutated[start] = generator.randrange(256)
            case 1:
                del mutated[start : start + generator.randint(1, 8)]
            case _:
                mutated[start:start] = mutated[start : start + generator.randint(1, 8)]
    return bytes(mutated)


def mutate_pickle(content: bytes, generator: random.Random) -> bytes:
    """Mutate an archive's pickle, with checksums that fit."""
    mutated = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(mutated, "w") as new:
        for name in old.namelist():
            part = old.read(name)
            new.writestr(name, mutate(part, generator) if name.endswith(".pkl") else part)
    return mutated.getvalue()


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["legacy", "zip", "safetensors"])
def test_mutated_files_are_read_or_refused(tmp_path, kind, count):
    path = tmp_path / ("file.safetensors" if kind == "safetensors" else "file.pth")
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    content, generator = path.read_bytes(), random.Random(kind)
    change = mutate_pickle if kind == "zip" else mutate
    refused = 0
    for number in range(count):
        path.write_bytes(change(content, generator))
        try:
            read = read_state_dict(path)
        except cam.CheckpointError as error:
            assert "\n" not in str(error), number
            refused += 1
        else:
            assert all(value.sum() is not None for value in read.values()), number
    assert 0.3 < refused / count < 1


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
    message = refusal(path)
    assert not proof.exists(), "the code ran"
    assert name in message
    if not name.endswith(".safetensors"):
        assert "is refused" in message
        assert "could run code" in message


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
