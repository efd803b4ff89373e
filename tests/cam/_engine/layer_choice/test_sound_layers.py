"""Layers of networks that are built so that the answer is known."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

import cam
from cam._engine.layer_choice.layer_memory import recall
from cam._engine.layer_choice.probe import probe_layers
from cam._engine.token_layout import Layout

PICTURES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
SIDE = 8  # of the grid of 64 cells that patches of 8 pixels make


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


def layer_of(module: nn.Module, targets: object = None) -> str:
    (layer,) = cam.attribute(module.eval(), PICTURES, "gradcam", targets)["gradcam"].layers
    return layer


@dataclass
class Record:
    """What some libraries' containers return."""

    features: torch.Tensor


class Recording(nn.Module):
    """A convolutional classifier whose container returns a record; one list never runs."""

    def __init__(self, record: type) -> None:
        super().__init__()
        self.record = record
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList([conv(3, 6, 4), conv(6, 8, 2)])
        self.encoder.unused = nn.ModuleList([nn.Conv2d(8, 8, 3)])
        self.encoder.forward = self._encode
        self.head = nn.Linear(8, 5)

    def _encode(self, pixels: torch.Tensor) -> object:
        for stage in self.encoder.stages:
            pixels = stage(pixels)
        return self.record(features=pixels)

    def forward(self, pixels: torch.Tensor) -> object:
        record = self.encoder(pixels)
        features = record["features"] if isinstance(record, dict) else record.features
        return {"logits": self.head(features.mean((2, 3)))}


@pytest.mark.parametrize("record", [Record, dict])
def test_a_container_that_returns_a_record_is_looked_into(record):
    torch.manual_seed(0)
    module = Recording(record)
    assert layer_of(module) == "encoder.stages.1"
    with pytest.raises(cam.LayerError, match=r"layer 'encoder' returns.*'encoder\.stages\.1'"):
        cam.attribute(module, PICTURES, "gradcam", layers="encoder")


class Unet(nn.Module):
    """A segmenter of three classes that reads the left half of its picture only."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = conv(3, 6), conv(6, 8, 2), conv(8, 12, 2)
        self.up2, self.up1 = conv(12 + 8, 8), conv(8 + 6, 6)
        self.logits = nn.Conv2d(6, 3, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        left = torch.zeros_like(pixels)
        left[..., : pixels.shape[-1] // 2] = pixels[..., : pixels.shape[-1] // 2]
        fine = self.down1(left)
        middle = self.down2(fine)
        coarse = self.down3(middle)
        middle = self.up2(torch.cat([functional.interpolate(coarse, scale_factor=2), middle], 1))
        fine = self.up1(torch.cat([functional.interpolate(middle, scale_factor=2), fine], 1))
        return self.logits(fine)


def test_a_segmenter_is_explained_at_its_bottleneck_and_not_by_its_prediction():
    torch.manual_seed(0)
    module = Unet().eval()
    target = lambda output: output[1, :, :16].sum()  # noqa: E731
    result = cam.attribute(module, PICTURES, "hirescam", target)["hirescam"]
    assert result.layers == ("down3",)
    assert result.raw.shape == (2, 16, 16)
    # Only zeros come in on the right: two convolutions behind the edge all is as without a picture.
    assert result.raw[..., :8].std() > 0
    with torch.no_grad():
        blank = cam.attribute(module, PICTURES * 0, "hirescam", target)["hirescam"].raw
    assert torch.allclose(result.raw[..., 11:], blank[..., 11:], atol=1e-6)


class Queries(nn.Module):
    """A detector of 64 queries that look at an 8 × 8 grid: the numbers fit, the places do not."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 16, 8, 8), nn.ReLU())
        self.queries = nn.Parameter(torch.randn(SIDE * SIDE, 16))
        self.cross = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.classes = nn.Linear(16, 16)  # as many classes as channels

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        tokens = self.backbone(pixels).flatten(2).transpose(1, 2)
        queries = self.queries.expand(len(pixels), -1, -1)
        return self.classes(self.norm(self.cross(queries, tokens, tokens)[0] + queries))


def test_queries_are_no_cells_of_the_picture():
    torch.manual_seed(0)
    module = Queries()
    target = lambda output: output[37, 5]  # noqa: E731
    assert layer_of(module, target) == "backbone"
    for layer in ("norm", "classes"):
        with pytest.raises(cam.LayerError, match=rf"{layer}.*not shown to be a map.*'backbone'"):
            cam.attribute(module, PICTURES, "gradcam", target, layer)


class Prompts(nn.Module):
    """An image-text network whose one prompt has as many words as the picture has patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.vision = nn.TransformerEncoderLayer(16, 2, 32, 0, batch_first=True)
        self.words = nn.Embedding(9, 16)
        self.text = nn.TransformerEncoderLayer(16, 2, 32, 0, batch_first=True)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        picture = self.vision(self.patches(pixels).flatten(2).transpose(1, 2)).mean(1)
        words = self.text(self.words(torch.arange(SIDE * SIDE).remainder(9)[None])).mean(1)
        return {"logits_per_image": picture @ words.T}


def test_words_are_no_picture():
    torch.manual_seed(0)
    module = Prompts()
    assert layer_of(module).startswith("vision")
    with pytest.raises(cam.LayerError, match=r"'text' returns .*not shown to be a map"):
        cam.attribute(module, PICTURES[:1], "gradcam", layers="text")


class Tokens(nn.Module):
    """Cells of a grid in a given order, with tokens before and behind them."""

    def __init__(self, order: torch.Tensor, before: int, after: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.before = nn.Parameter(torch.randn(before, 8))
        self.after = nn.Parameter(torch.randn(after, 8))
        self.order = order
        self.norm = nn.LayerNorm(8)
        self.mixer = nn.MultiheadAttention(8, 1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        cells = self.patches(pixels).flatten(2).transpose(1, 2)[:, self.order]
        beside = [part.expand(len(pixels), -1, -1) for part in (self.before, self.after)]
        tokens = self.norm(torch.cat([beside[0], cells, beside[1]], 1))
        return self.head((tokens + self.mixer(tokens, tokens, tokens)[0]).mean(1))


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (5, 0), (1, 4), (0, 7), (1, 40)])
def test_the_probe_finds_where_the_grid_begins(before, after):
    torch.manual_seed(0)
    module = Tokens(torch.arange(SIDE * SIDE), before, after).eval()
    layouts = probe_layers(module, PICTURES[:1])
    assert layouts["norm"] == Layout("tokens", (SIDE, SIDE), before, after)
    assert layouts["patches"] == Layout("maps", (SIDE, SIDE))


def test_cells_in_another_order_are_no_map():
    torch.manual_seed(0)
    shuffled = Tokens(torch.randperm(SIDE * SIDE), 0, 0).eval()
    assert list(probe_layers(shuffled, PICTURES[:1])) == ["patches"]
    assert layer_of(shuffled) == "patches"


def test_maps_of_the_classes_are_the_prediction_and_no_layer():
    torch.manual_seed(0)
    module = nn.Sequential(conv(3, 5, 4), nn.Conv2d(5, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert layer_of(module) == "0"
    # As many channels as classes, but each class reads them all.
    mixed = nn.Sequential(conv(3, 5, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5))
    assert layer_of(nn.Sequential(mixed, nn.Softmax(1))) in ("0.0", "0.0.1")


def test_a_probe_runs_once_for_a_network():
    torch.manual_seed(0)
    module = Tokens(torch.arange(SIDE * SIDE), 1, 0).eval()
    sizes: list[int] = []
    module.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    layer_of(module)
    assert sizes == [1, 5, 2]  # watched, probed, explained
    cam.attribute(module, PICTURES, "gradcam", layers="norm")
    assert sizes == [1, 5, 2, 2]
    assert recall(module).default is not None


def test_a_network_that_keeps_no_place_names_no_layer():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3)).eval()
    with pytest.raises(cam.LayerError, match="no layer with maps of the image"):
        cam.attribute(module, PICTURES, "gradcam")


def test_a_network_of_one_number_without_an_axis_has_a_default_layer():
    torch.manual_seed(0)

    class Regression(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features, self.value = conv(3, 6, 4), nn.Linear(6, 1)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.value(self.features(pixels).mean((2, 3)))[:, 0]

    assert layer_of(Regression()) == "features"
