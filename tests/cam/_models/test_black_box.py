"""Functions, ONNX files and programs are explained by what they answer."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torchvision import transforms

import cam
from cam._cli.commands import main
from cam.pages.ui.server import served

SIDE = 32
WITHOUT = [name for name, info in cam.methods().items() if not info.needs_gradients]


class Corner(nn.Module):
    """Scores the mean of the upper left quarter, which is all that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, pixels):
        corner = self.features(pixels[..., : SIDE // 2, : SIDE // 2]).relu()
        return self.head(corner.mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    return Corner().eval()


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def onnx_file(network, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("onnx") / "corner.onnx"
    torch.onnx.export(network, (torch.zeros(1, 3, SIDE, SIDE),), str(path), dynamo=False)
    return str(path)


def settings(name: str) -> cam.Method:
    """A method in its smallest size."""
    small = {"rise": {"masks": 64}, "sobol": {"grid": 4}, "hsic": {"grid": 4}}
    parameters = {
        key: value
        for key, value in small.get(name, {}).items()
        if key in cam.methods()[name].parameters
    }
    return cam.method(name, **parameters)


def test_some_methods_need_no_gradient():
    assert {"occlusion", "rise", "lime", "kernelshap"} <= set(WITHOUT)


@pytest.mark.parametrize("name", WITHOUT)
def test_without_gradients_a_function_is_explained_as_the_network(network, batch, name):
    if name == "drise":
        pytest.skip("it asks for a detector")

    def ask(arrays: np.ndarray) -> np.ndarray:
        assert isinstance(arrays, np.ndarray)
        with torch.no_grad():
            return network(torch.from_numpy(arrays)).numpy()

    method = settings(name)
    expected = cam.attribute(network, batch, method, targets=1)[name]
    maps = cam.attribute(cam.black_box(ask, arrays=True), batch, method, targets=1)[name]
    torch.testing.assert_close(maps.raw, expected.raw, atol=1e-6, rtol=1e-5)
    if maps.kind != "contribution":
        return
    # The evidence lies where the network looks.
    mass = maps.signed.abs()
    assert mass[..., : SIDE // 2 + 8, : SIDE // 2 + 8].sum() > 0.5 * mass.sum()


@pytest.mark.parametrize("name", sorted(set(cam.methods()) - set(WITHOUT)))
def test_what_needs_gradients_refuses_and_names_what_does_not(network, batch, name):
    model = cam.black_box(lambda pixels: network(pixels).detach())
    if cam.methods()[name].layer or cam.methods()[name].attention:
        pytest.skip("it asks for a layer first")
    with pytest.raises(cam.CamError) as caught:
        cam.attribute(model, batch, name)
    if isinstance(caught.value, cam.NoGradientError):
        assert "methods that need no gradient: occlusion" in str(caught.value)


def test_saliency_names_what_remains(network, batch):
    model = cam.black_box(lambda pixels: network(pixels).detach())
    with pytest.raises(cam.NoGradientError, match=r"need no gradient: .*rise"):
        cam.attribute(model, batch, "saliency")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda pixels: [1.0] * len(pixels), "the function returned a list; it must return"),
        (lambda pixels: None, "the function returned a NoneType"),
        (lambda pixels: pixels.sum(), r"returned shape \(\) for a batch of 2"),
        (lambda pixels: pixels[:1].mean((2, 3)), r"returned shape \(1, 3\) for a batch of 2"),
        (lambda pixels: 1 / 0, "division by zero"),
    ],
)
def test_what_gives_no_scores_is_one_sentence(batch, function, sentence):
    with pytest.raises(cam.CamError, match=sentence):
        cam.attribute(cam.black_box(function), batch, "occlusion")


def test_a_black_box_is_a_function():
    with pytest.raises(cam.ModelError, match="is a function, and not a int"):
        cam.black_box(7)


def test_an_onnx_file_scores_as_the_network(network, batch, onnx_file):
    with pytest.warns(cam.CamWarning, match=r"corner\.onnx does not say how.*32 × 32"):
        model = cam.load_model(onnx_file, labels=["no", "yes"])
    with torch.no_grad():
        expected = network(batch)
    torch.testing.assert_close(model.score(batch), expected, atol=1e-5, rtol=1e-5)
    assert model.prepare(cam.sample("coffee")).shape == (1, 3, SIDE, SIDE)
    maps = cam.attribute(model, batch, "occlusion", targets="yes")["occlusion"]
    truth = cam.attribute(network, batch, "occlusion", targets=1)["occlusion"]
    torch.testing.assert_close(maps.raw, truth.raw, atol=1e-5, rtol=1e-4)


def test_the_command_line_takes_a_file(onnx_file, tmp_path):
    words = ["explain", "sample:coffee", "--model", onnx_file, "--method", "occlusion"]
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert list(tmp_path.glob("*.png"))


def test_programs_of_torch_let_gradients_through(network, batch, tmp_path):
    exported, scripted = tmp_path / "corner.pt2", tmp_path / "corner.torchscript"
    sizes = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.export.save(torch.export.export(network, (batch,), dynamic_shapes=(sizes,)), exported)
    torch.jit.save(torch.jit.trace(network, batch), scripted)
    expected = cam.attribute(network, batch, ["saliency", "occlusion"], targets=0)
    for path in (exported, scripted):
        with pytest.warns(cam.CamWarning, match="does not say how its images are prepared"):
            model = cam.load_model(str(path))
        maps = cam.attribute(model, batch, ["saliency", "occlusion"], targets=0)
        for name, attribution in expected.items():
            torch.testing.assert_close(maps[name].raw, attribution.raw, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".torchscript"])
def test_a_damaged_file_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    with pytest.raises(cam.ModelError, match="there is no file"):
        cam.load_model(str(path))
    path.write_bytes(b"not a model" * 20)
    with pytest.raises(cam.ModelError, match=f"broken{suffix} cannot be loaded"):
        cam.load_model(str(path))


def test_a_visitor_opens_no_file(onnx_file):
    with pytest.raises(cam.ModelError, match="was not started with the model"):
        served.refuse_code(onnx_file)


def test_a_transform_is_given_where_it_is_known(network):
    steps = transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()])
    model = cam.black_box(network, steps, ["no", "yes"], "corner")
    assert (model.name, model.labels) == ("corner", ("no", "yes"))
    maps = cam.attribute(model, cam.sample("coffee"), "occlusion", targets="no")
    assert maps["occlusion"].overlay().size == model.crop(cam.sample("coffee")).size
