"""The precision of a network's passes, which leaves no setting behind."""

import json

import pytest
import torch
from torch import nn

import cam
from cam._engine import fidelity

PHOTOS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


def settings() -> tuple:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_forward_by_hand_in_that_precision(precision):
    """The features of the same network under torch's own autocast, weighted by hand."""
    module = network()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with torch.autocast("cpu", dtype, enabled=precision != "fp32"):
        maps = module[:4](PHOTOS).detach().requires_grad_()
        scores = module[4:](maps)[:, 1].sum()
    gradient = torch.autograd.grad(scores, maps)[0]
    assert maps.dtype == dtype
    expected = (gradient.float().mean((2, 3), keepdim=True) * maps.float()).sum(1)
    attribution = cam.attribute(module, PHOTOS, "gradcam", 1, "3", precision=precision)["gradcam"]
    assert attribution.precision == precision
    assert torch.allclose(attribution.raw, expected.detach(), rtol=1e-4, atol=1e-6)
    assert (
        attribution.heatmap.dtype
        == attribution.scores.dtype
        == attribution.logits.dtype
        == torch.float32
    )


def test_short_numbers_are_really_shorter():
    module = network()
    actual = {
        precision: cam.attribute(module, PHOTOS, "saliency", 1, precision=precision)["saliency"]
        for precision in ("fp32", "bf16")
    }
    pair = torch.stack([actual["fp32"].raw.flatten(), actual["bf16"].raw.flatten()])
    assert not torch.equal(pair[0], pair[1])
    # Not the same at every pixel: a ReLU near zero may open or close.
    assert pair.corrcoef()[0, 1] > 0.97


def test_passes_of_its_own_are_in_that_precision_too():
    dtypes = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            features = self.network[0](pixels)
            dtypes.append(features.dtype)
            return self.network[1:](features)

    method = cam.method("rise", masks=4)
    cam.attribute(Watching().eval(), PHOTOS, method, 1, precision="bf16")
    assert len(dtypes) > 1
    assert set(dtypes) == {torch.bfloat16}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto", None])
def test_the_callers_settings_stay(precision):
    module = network()
    before = settings()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    cam.attribute(module, PHOTOS, ["gradcam", "saliency"], precision=precision)
    assert settings() == before
    with pytest.raises(cam.TargetError):
        cam.attribute(module, PHOTOS, "saliency", 77, precision=precision)
    assert settings() == before
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float32
        assert value.stride() == state[name].stride()
        assert torch.equal(value, state[name])


def test_under_the_callers_autocast():
    """Left alone, the caller's setting counts; asked for, fp32 is fp32 there too."""
    module = network()
    plain = cam.attribute(module, PHOTOS, "gradcam", 1)["gradcam"]
    short = cam.attribute(module, PHOTOS, "gradcam", 1, precision="bf16")["gradcam"]
    with torch.autocast("cpu", torch.bfloat16):
        ambient = cam.attribute(module, PHOTOS, "gradcam", 1)["gradcam"]
        full = cam.attribute(module, PHOTOS, "gradcam", 1, precision="fp32")["gradcam"]
    assert (plain.precision, ambient.precision, full.precision) == ("fp32", "bf16", "fp32")
    assert torch.equal(full.raw, plain.raw)
    assert torch.allclose(ambient.raw, short.raw, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float64, "fp64"), (torch.bfloat16, "bf16"), (torch.float16, "fp16")]
)
def test_a_model_of_another_precision_says_so(dtype, name):
    attribution = cam.attribute(network().to(dtype), PHOTOS.to(dtype), "saliency", 1)["saliency"]
    assert attribution.precision == name


@pytest.mark.parametrize(
    ("precision", "sentence"),
    [("fp8", "precision is 'fp8', but must be one of"), ("tf32", "NVIDIA's GPUs"), (16, "is 16")],
)
def test_what_there_is_not(precision, sentence):
    with pytest.raises(cam.InputError, match=sentence):
        cam.attribute(network(), PHOTOS, precision=precision)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Figures made up for these tests; the real ones come from a benchmark."""
    figures = {
        "gradcam": {"bf16": {"spearman": 0.995, "speed": 2.0}},
        "layercam": {"bf16": {"spearman": 0.999, "speed": 2.0}},
        "saliency": {"bf16": {"spearman": 0.6, "speed": 2.0}},
        "rise": {
            "bf16": {"spearman": 0.992, "speed": 1.7},
            "fp16": {"spearman": 0.999, "speed": 0.1},
        },
        "occlusion": {"bf16": {"spearman": 0.991, "speed": 0.9}},
    }
    file = tmp_path / "fidelity.json"
    file.write_text(json.dumps({"cpu": figures}))
    monkeypatch.setattr(fidelity, "TABLE", file)
    monkeypatch.setattr(fidelity, "multiplies_bf16", lambda: True)
    fidelity._table.cache_clear()
    yield
    fidelity._table.cache_clear()


def test_auto_takes_what_was_measured_to_hold(table):
    cpu = torch.device("cpu")
    assert fidelity.find_fastest("gradcam", cpu) == "bf16"
    assert fidelity.find_fastest("saliency", cpu) == "fp32", "its maps change"
    assert fidelity.find_fastest("occlusion", cpu) == "fp32", "it is no faster"
    assert fidelity.find_fastest("rise", cpu) == "bf16", "fp16 holds, but is slow"
    assert fidelity.find_fastest("eigencam", cpu) == "fp32", "nothing was measured"
    assert fidelity.find_fastest("gradcam", torch.device("cuda")) == "fp32", (
        "nothing was measured there"
    )


def test_auto_stays_in_fp32_on_a_cpu_that_is_slower_otherwise(table, monkeypatch):
    monkeypatch.setattr(fidelity, "multiplies_bf16", lambda: False)
    assert fidelity.find_fastest("gradcam", torch.device("cpu")) == "fp32"


def test_methods_that_share_a_pass_have_the_most_careful_ones_precision(table):
    module = network()
    alone = cam.attribute(module, PHOTOS, ["gradcam", "layercam"], 1, precision="auto")
    assert {attribution.precision for attribution in alone.values()} == {"bf16"}
    methods = ["gradcam", cam.method("rise", masks=4), "saliency"]
    attributions = cam.attribute(module, PHOTOS, methods, 1, precision="auto")
    assert list(attributions) == ["gradcam", "rise", "saliency"]
    assert attributions["gradcam"].precision == attributions["saliency"].precision == "fp32"
    assert attributions["rise"].precision == "bf16"
    assert attributions["gradcam"].cost.forwards == attributions["saliency"].cost.forwards == 1


def test_all_groups_explain_the_same_class(table):
    """Of two nearly equal classes each precision may prefer another."""
    module = network()
    with torch.no_grad():
        module[6].weight[1:] = module[6].weight[0]
        module[6].bias[:] = module[6].bias[0]
        module[6].bias[2] += 1e-5
    methods = ["saliency", cam.method("rise", masks=4)]
    attributions = cam.attribute(module, PHOTOS, methods, precision="auto")
    assert torch.equal(attributions["saliency"].targets, attributions["rise"].targets)
    assert attributions["rise"].precision == "bf16"


class Viewing(nn.Module):
    """Flattens with `view`, which takes the pixels to lie plane by plane."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Linear(4 * 256, 3)
        self.runs = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return self.last(torch.relu(self.first(pixels)).view(len(pixels), -1))


def test_a_network_that_needs_its_planes_gets_them():
    module = Viewing().eval()
    pixels = PHOTOS.clone().requires_grad_()
    expected = torch.autograd.grad(module(pixels)[:, 1].sum(), pixels)[0]
    for runs in (3, 1):  # once it was found out, it is known
        module.runs = 0
        attributions = cam.attribute(module, PHOTOS, ["gradcam", "saliency"], 1, "first")
        assert module.runs <= runs
        assert torch.allclose(attributions["saliency"].raw, expected.abs().amax(1), atol=1e-6)
        assert attributions["gradcam"].raw.std() > 0


def test_convolutions_see_their_channels_last():
    formats = []
    module = network()
    handle = module[2].register_forward_hook(lambda _m, inputs, _o: formats.append(inputs[0]))
    cam.attribute(module, PHOTOS, "gradcam", 1)
    handle.remove()
    assert formats[0].is_contiguous(memory_format=torch.channels_last)
    assert not formats[0].is_contiguous()
