"""Test that only the files that the operator allowed are offered."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import cam
from cam.pages.ui.subject import allowed_files
from tests.support.dashboard_page import (
    check,
    find,
    list_values,
    open_page,
    read_address,
    read_maps,
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    inside, outside = tmp_path / "allowed", tmp_path / "outside"
    (inside / "below").mkdir(parents=True)
    outside.mkdir()
    cam.sample("rocket").save(inside / "below" / "start.png")
    cam.sample("coffee").save(outside / "cup.png")
    (inside / "way.png").symlink_to(outside / "cup.png")
    (inside / "notes.txt").write_text("no image")
    (inside / "torn.png").write_bytes(b"no picture either")
    monkeypatch.setenv("CAM_DATA_ROOTS", str(inside))
    monkeypatch.setenv("CAM_CHECKPOINT_ROOTS", str(inside))
    allowed_files._list_files.clear()
    return inside


def test_nothing_is_offered_where_nothing_is_allowed(monkeypatch):
    monkeypatch.delenv("CAM_DATA_ROOTS", raising=False)
    monkeypatch.delenv("CAM_CHECKPOINT_ROOTS", raising=False)
    labels = [box.label for box in open_page().selectbox]
    assert "Server files" not in labels and "Own weights" not in labels


def test_a_picture_of_an_allowed_folder(folder):
    app = open_page(image="file:below/start.png")
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


@pytest.mark.parametrize(
    ("file", "says"), [("way.png", "outside"), ("torn.png", "is not an image")]
)
def test_a_picture_that_may_not_or_cannot_be_read(folder, file, says):
    app = open_page(image=f"file:{file}")
    assert len(app.error) == 1 and says in app.error[0].value
    assert read_maps(app) == []


def test_a_link_to_a_file_that_is_not_offered(folder):
    app = open_page(image="file:../outside/cup.png")
    [error] = list_values(app.error)
    assert "which this server has not" in error
    # Another image in its place would be an explanation of what nobody asked for.
    assert read_maps(app) == []
    # The way on is there: a file that the server has.
    app = check(find(app.selectbox, "Server files").set_value("below/start.png").run())
    assert read_address(app) == {"image": ["file:below/start.png"]} and not app.error
    assert read_maps(app)[0] == "Grad-CAM heatmap for missile"


def test_weights_of_an_allowed_folder(folder):
    torch.manual_seed(3)
    state = timm.create_model("tf_efficientnet_lite0", num_classes=7).state_dict()
    save_file(state, folder / "seven.safetensors")
    app = open_page(checkpoint="seven.safetensors")
    [classes] = [box for box in app.selectbox if box.label == "Class to explain"]
    assert sorted(classes.options) == [f"class {index}" for index in range(7)]
    assert not app.error


def test_weights_that_do_not_fit_are_told(folder):
    save_file({"conv.weight": torch.zeros(2, 3)}, folder / "other.safetensors")
    app = open_page(checkpoint="other.safetensors")
    assert len(app.error) == 1 and app.error[0].value.endswith(".")
