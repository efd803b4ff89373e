"""Explanations as files: whole or not at all, and their records."""

import io
import json
import os
import platform
import re
import stat
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._output.explanation_files import (
    distinct_stems,
    npz_bytes,
    png_bytes,
    record,
    versions,
    write_explanation,
)

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
KINDS = ("png", "npz", "json")


def write(folder: Path, stem: str = "cat.gradcam", arrays: bytes = b"arrays") -> dict:
    facts = {"image": "cat.png", "label": "Kätzchen"}
    return write_explanation(folder, stem, PICTURE, arrays, facts)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(folder: Path) -> str:
    with pytest.raises(cam.CamError) as caught:
        write(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert not re.search(r"[.!?] [A-Z]", text), "more than one sentence"
    assert repr(str(folder)) in text
    return text


@pytest.fixture(scope="module")
def explained(bundled, batch) -> cam.Attribution:
    return cam.attribute(bundled, batch, "gradcam", targets=[282, "espresso", 657])["gradcam"]


# Writing


def test_three_files_are_written(tmp_path):
    facts = write(tmp_path / "new" / "folder")
    files = contents(tmp_path / "new" / "folder")
    assert facts["files"] == {kind: f"cat.gradcam.{kind}" for kind in KINDS}
    assert set(files) == set(facts["files"].values())
    assert files["cat.gradcam.npz"] == b"arrays"
    assert json.loads(files["cat.gradcam.json"]) == facts
    assert "Kätzchen" in files["cat.gradcam.json"].decode()
    reread = Image.open(io.BytesIO(files["cat.gradcam.png"]))
    assert np.array_equal(np.asarray(reread), np.asarray(PICTURE))


def test_others_may_read_the_files_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path)
    finally:
        assert os.umask(before) == 0o027, "the umask was not put back"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o640}


@pytest.mark.parametrize("failing", [1, 2, 3])
@pytest.mark.parametrize("earlier", [False, True], ids=["new-folder", "over-an-earlier-run"])
def test_where_a_rename_fails_nothing_is_left(tmp_path, monkeypatch, failing, earlier):
    if earlier:
        write(tmp_path, "dog.gradcam")
    before = contents(tmp_path)
    calls = []
    replace = Path.replace

    def fail_at_last(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail_at_last)
    assert refusal(tmp_path).endswith("No space left on device")
    assert len(calls) == failing
    assert contents(tmp_path) == before


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_where_the_disk_is_full_an_earlier_explanation_stays_whole(tmp_path, monkeypatch, failing):
    write(tmp_path, arrays=b"earlier")
    before = contents(tmp_path)
    assert len(before) == 3
    opened = []
    open_file = Path.open

    class Full(io.RawIOBase):
        def write(self, _content: bytes) -> int:
            raise OSError(28, "No space left on device")

    def fill_up(path: Path, mode: str):
        opened.append(path)
        file = open_file(path, mode)
        if len(opened) < failing:
            return file
        file.close()
        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fill_up)
        assert refusal(tmp_path).endswith("No space left on device")
    assert contents(tmp_path) == before


def test_an_interruption_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(_path: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert contents(tmp_path) == {}


def test_a_file_in_the_folders_place_is_told_of(tmp_path):
    (tmp_path / "taken").write_text("mine")
    refusal(tmp_path / "taken")
    refusal(tmp_path / "taken" / "below")
    assert contents(tmp_path) == {"taken": b"mine"}


def test_a_folder_in_a_files_place_is_told_of(tmp_path):
    (tmp_path / "cat.gradcam.json").mkdir()
    refusal(tmp_path)
    assert contents(tmp_path) == {}


# Names


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a/cat.png", "b/cat.png", "c/cat.jpg"], ["cat", "cat-2", "cat-3"]),
        (["cat.png", "cat-2.png", "cat.png"], ["cat", "cat-2", "cat-3"]),
        (["cat.png", "cat.png", "cat-2.png"], ["cat", "cat-2", "cat-2-2"]),
        (["sample:coffee", "coffee.png"], ["coffee", "coffee-2"]),
        (["my.holiday.photo.png", ".hidden"], ["my.holiday.photo", ".hidden"]),
        (["", "/"], ["picture", "picture-2"]),
    ],
)
def test_stems_are_distinct(names, stems):
    assert list(distinct_stems(names)) == stems


# What they hold


def test_the_arrays_are_the_attributions(explained):
    for index in range(3):
        stored = np.load(io.BytesIO(npz_bytes(explained, index)))
        assert sorted(stored) == ["heatmap", "raw"]
        for name in ("heatmap", "raw"):
            assert stored[name].dtype == np.float32
            assert np.array_equal(stored[name], getattr(explained, name)[index].numpy())


def test_a_png_loses_nothing():
    reread = Image.open(io.BytesIO(png_bytes(PICTURE)))
    assert np.array_equal(np.asarray(reread), np.asarray(PICTURE))


def test_a_record_names_what_was_predicted_and_explained(bundled, batch, explained):
    with torch.no_grad():
        logits = bundled.module(batch).double()
    chances = logits.exp() / logits.exp().sum(1, keepdim=True)
    for index, target in enumerate((282, 967, 657)):
        facts = record(bundled, explained, index, "cat.png", ["a note"])
        assert json.loads(json.dumps(facts)) == facts
        order = logits[index].argsort(descending=True)[:5].tolist()
        assert [prediction["index"] for prediction in facts["predictions"]] == order
        for prediction in [*facts["predictions"], facts["target"]]:
            assert prediction["label"] == bundled.labels[prediction["index"]]
            assert prediction["score"] == pytest.approx(
                logits[index, prediction["index"]].item(), abs=1e-4
            )
            assert prediction["probability"] == pytest.approx(
                chances[index, prediction["index"]].item(), abs=1e-5
            )
        assert facts["target"]["index"] == target
        assert (facts["image"], facts["model"], facts["method"], facts["layers"]) == (
            "cat.png",
            "efficientnet_lite0",
            "gradcam",
            ["bn2"],
        )
        assert (facts["heatmap_shape"], facts["raw_shape"]) == ([224, 224], [7, 7])
        assert facts["notes"] == ["a note"]
        assert facts["device"] == "cpu"


def test_a_record_tells_of_an_empty_map_in_its_own_image_only(bundled, explained):
    raw = explained.raw.clone()
    raw[1] = -1
    flat = cam.Attribution(**{**vars(explained), "raw": raw})
    assert record(bundled, flat, 0, "cat.png")["notes"] == []
    (note,) = record(bundled, flat, 1, "cup.png")["notes"]
    assert "speaks against the target" in note


def test_a_model_with_few_classes_has_few_predictions(bundled, explained):
    of_two = {"logits": torch.tensor([[0.0, 1.0]] * 3), "targets": torch.tensor([0, 1, 0])}
    two = cam.Attribution(**{**vars(explained), **of_two})
    facts = record(cam.Model(bundled.module, labels=["no", "yes"]), two, 0, "cat.png")
    assert [prediction["label"] for prediction in facts["predictions"]] == ["yes", "no"]


def test_a_record_of_a_callable_has_its_score(bundled, batch):
    def difference(output: torch.Tensor) -> torch.Tensor:
        return output[0] - output[1]

    maps = cam.attribute(bundled, batch, "saliency", targets=difference)
    facts = record(bundled, maps["saliency"], 1, "cat.png")
    with torch.no_grad():
        score = float(difference(bundled.score(batch)[1]))
    assert facts["target"] == {"label": "the target", "score": pytest.approx(score, abs=1e-4)}
    assert len(facts["predictions"]) == 5


def test_versions_are_those_installed():
    listed = versions()
    assert listed["cam"] == cam.__version__
    assert listed["python"] == platform.python_version()
    for package in ("torch", "torchvision", "timm", "numpy", "pillow"):
        assert listed[package] == version(package)
