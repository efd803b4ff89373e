"""A project file lists a team's models and data."""

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import resnet18

import cam
from cam._project import read_project

GOOD = """
[models.pets]
load = "torchvision/resnet18"
weights = "pets.safetensors"
labels = ["cat", "dog"]

[models.plain]
load = "efficientnet_lite0"

[data.photos]
source = "photos"

[data.answers]
source = "known"
network = "patch"
size = 3
"""


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_file(resnet18(num_classes=2).state_dict(), tmp_path / "pets.safetensors")
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "photos" / label / "1.png")
    return tmp_path


def test_paths_are_relative_to_the_file(folder, monkeypatch):
    (folder / "cam.toml").write_text(GOOD)
    monkeypatch.chdir("/")
    project = read_project(folder / "cam.toml")
    assert list(project.models) == ["pets", "plain"] and list(project.data) == ["photos", "answers"]
    pets = project.models["pets"]()
    assert pets.name == "pets" and pets.labels == ("cat", "dog")
    torch.manual_seed(0)
    assert torch.equal(pets.module.fc.weight, resnet18(num_classes=2).fc.weight)
    assert project.data["photos"]().labels == ("cat", "dog")
    assert len(project.data["answers"]()) == 3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no model and no data set"),
        ("[models]", "names no model and no data set"),
        ("models = 3", "models must hold tables"),
        ("[models]\npets = 'x'", "models must hold tables"),
        ("[models.pets]", "'pets' needs load = a text"),
        ("[data.photos]\nsource = 3", "'photos' needs source = a text"),
        ("[models.pets]\nload = 'x'\nweight = 'y'", "has no 'weight'.*weights"),
        ("[model.pets]\nload = 'x'", "has 'model'"),
        ("[models", "cannot be read"),
    ],
)
def test_what_says_something_else_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "cam.toml").write_text(text)
    with pytest.raises(cam.InputError, match=sentence):
        read_project(tmp_path / "cam.toml")
    with pytest.raises(cam.InputError, match="cannot be read: No such file"):
        read_project(tmp_path / "nowhere.toml")
