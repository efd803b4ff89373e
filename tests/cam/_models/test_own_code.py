"""A function of the caller's own package makes the model."""

import json
import sys

import pytest
import torch
from click.testing import CliRunner

import cam
from cam._cli.commands import main
from cam._models.own_code import names_code

CODE = """
import torch
import cam
from torch import nn
from torchvision import transforms

torch.manual_seed(3)
network = nn.Sequential(
    nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
)
steps = transforms.Compose([transforms.Resize((40, 40)), transforms.ToTensor()])


def build():
    return cam.Model(network, steps, ["ant", "bee", "cow"])


def plain():
    return network


def wrong():
    return 7


def fails():
    raise KeyError("weights")


class Nets:
    @staticmethod
    def make():
        return build()
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "zoo_of_tests").mkdir()
    (tmp_path / "zoo_of_tests" / "__init__.py").touch()
    (tmp_path / "zoo_of_tests" / "nets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("zoo_of_tests")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "is_code"),
    [
        ("package.module:function", True),
        ("nets:build", True),
        ("nets:Nets.make", True),
        ("torchvision/resnet18", False),
        ("hf/google/vit:main", False),
        ("C:/weights", False),
        (":build", False),
        ("nets:", False),
        ("nets:build()", False),
    ],
)
def test_what_names_code(name, is_code):
    assert names_code(name) == is_code


def test_the_function_makes_the_model(package):
    model = cam.load_model("zoo_of_tests.nets:build")
    assert model.labels == ("ant", "bee", "cow") and not model.module.training
    from zoo_of_tests import nets

    photo = cam.sample("coffee")
    with torch.no_grad():
        scores = nets.network.eval()(nets.steps(photo)[None])
    assert torch.equal(model.score(model.prepare(photo)), scores)
    assert cam.load_model("zoo_of_tests.nets:Nets.make").labels == model.labels
    named = cam.load_model("zoo_of_tests.nets:plain", labels=["x", "y", "z"])
    assert named.label(2) == "z"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("zoo_of_testz.nets:build", "cannot be imported: No module named 'zoo_of_testz'"),
        ("zoo_of_tests.nets:bild", "names no 'bild'.*build"),
        ("zoo_of_tests.nets:wrong", "returned a int; it must return a cam.Model"),
        ("zoo_of_tests.nets:fails", "failed with KeyError: 'weights'"),
    ],
)
def test_what_makes_no_model_is_one_sentence(package, name, sentence):
    with pytest.raises(cam.ModelError, match=sentence):
        cam.load_model(name)


def test_its_weights_are_its_own(package):
    with pytest.raises(cam.ModelError, match="has its own weights"):
        cam.load_model("zoo_of_tests.nets:build", weights=None)


def test_the_command_line_takes_it(package):
    words = ["explain", "sample:coffee", "--model", "zoo_of_tests.nets:build", "--json"]
    done = CliRunner().invoke(main, [*words, "--target", "bee", "--out", str(package / "out")])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)[0]
    assert record["target"]["label"] == "bee" and record["model"] == "zoo_of_tests.nets:build"


def test_a_run_goes_on_by_that_name(package):
    run = cam.evaluate(
        cam.load_model("zoo_of_tests.nets:build"),
        cam.dataset("photo-grid", size=2),
        methods="saliency",
        metrics="sparseness",
        targets="predicted",
        out=package / "run",
    )
    assert run.call.model.name == "zoo_of_tests.nets:build"
    assert cam.resume(package / "run").scores().equals(run.scores())


def test_a_device_that_is_not_here_is_one_sentence(package):
    words = ["explain", "sample:coffee", "--device", "xpu", "--out", str(package / "out")]
    done = CliRunner().invoke(main, words)
    if torch.xpu.is_available():
        pytest.skip("there is one here")
    assert done.exit_code == 1
    assert "there is no device 'xpu' here; use one of cpu" in done.output
