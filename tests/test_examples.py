"""The examples run, and their maps equal the library's."""

import ast
import runpy
import sys
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from PIL import Image

import cam
from tests.support.checkout import ROOT

PATH = ROOT / "examples" / "gradcam_from_scratch.py"


@pytest.fixture(scope="module")
def example() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(PATH)))


@pytest.mark.parametrize(
    ("network", "layer"),
    # The ReLU behind squeezenet's first convolution overwrites what that returns.
    [("resnet18", "layer4"), ("resnet18", "layer2"), ("squeezenet1_1", "features.0")],
)
def test_the_maps_from_scratch_are_the_librarys(example, network, layer):
    torch.manual_seed(0)
    module = torchvision.models.get_model(network, weights=None).eval().double()
    batch = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    targets = torch.tensor([3, 7])
    ours = cam.attribute(module, batch, ["gradcam", "saliency"], targets, layer)
    for method, maps in (
        ("gradcam", example.gradcam(module, layer, batch, targets)),
        ("saliency", example.saliency(module, batch, targets)),
    ):
        assert maps.shape == (2, 96, 64) and maps.amax() > 0.9
        torch.testing.assert_close(maps.float(), ours[method].heatmap, rtol=0, atol=1e-6)


def test_it_leaves_no_hook_behind(example):
    module = torchvision.models.get_model("resnet18", weights=None).eval()
    with pytest.raises(RuntimeError, match="out of bounds"):
        example.gradcam(module, "layer4", torch.randn(1, 3, 64, 64), torch.tensor([1000]))
    assert not any(part._forward_hooks for part in module.modules())


def call(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [str(PATH), *map(str, words)])
    runpy.run_path(str(PATH), run_name="__main__")


def test_it_writes_both_maps_beside_the_picture(tmp_path, monkeypatch, capsys, photos):
    photos[0].save(tmp_path / "cat.jpg")
    call(monkeypatch, tmp_path / "cat.jpg", "--weights", "none")
    for method in ("gradcam", "saliency"):
        with Image.open(tmp_path / f"cat-{method}.png") as picture:
            assert picture.size == (224, 224)
        assert f"cat-{method}.png" in capsys.readouterr().out or method == "saliency"


def test_a_file_of_weights_is_read(tmp_path, monkeypatch, photos):
    photos[0].save(tmp_path / "cat.jpg")
    torch.manual_seed(1)
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "mine.pth")
    written = []
    for weights in (tmp_path / "mine.pth", tmp_path / "mine.pth", "none"):
        call(monkeypatch, tmp_path / "cat.jpg", "--weights", weights)
        written.append((tmp_path / "cat-saliency.png").read_bytes())
    assert written[0] == written[1] != written[2]


def test_weights_that_cannot_be_downloaded_are_one_sentence(tmp_path, monkeypatch, photos):
    def offline(name, weights):
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    photos[0].save(tmp_path / "cat.jpg")
    with pytest.raises(SystemExit, match=r"resnet18's weights .*no route to host.*--weights FILE"):
        call(monkeypatch, tmp_path / "cat.jpg")


def test_it_needs_nothing_of_the_library():
    tree = ast.parse(PATH.read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported == {"argparse", "sys", "pathlib", "urllib", "torch", "torchvision", "PIL"}
