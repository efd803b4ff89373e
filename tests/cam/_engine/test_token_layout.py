"""Tokens and channels-last outputs read as maps, as grad-cam reshapes them."""

import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM, LayerCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import cam
from cam._engine.token_layout import Layout, find_layout

PEERS = {"gradcam": GradCAM, "xgradcam": XGradCAM, "layercam": LayerCAM}


def picture(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.zeros(batch, 3, height, width)


@pytest.mark.parametrize(
    ("shape", "size", "before", "expected"),
    [
        ((2, 197, 8), (224, 224), None, Layout("tokens", (14, 14), 1, 0)),
        ((2, 197, 8), (224, 224), 1, Layout("tokens", (14, 14), 1, 0)),
        ((2, 196, 8), (224, 224), 1, Layout("tokens", (14, 14), 0, 0)),
        ((2, 201, 8), (224, 224), 5, Layout("tokens", (14, 14), 5, 0)),
        ((2, 198, 8), (224, 224), None, Layout("tokens", (14, 14), 2, 0)),
        ((2, 257, 8), (224, 224), None, Layout("tokens", (16, 16), 1, 0)),
        ((2, 281, 8), (224, 320), None, Layout("tokens", (14, 20), 1, 0)),
        ((2, 281, 8), (320, 224), None, Layout("tokens", (20, 14), 1, 0)),
        # Patches of 16 on 230 × 330: the rest at the edge is cut off.
        ((2, 281, 8), (230, 330), None, Layout("tokens", (14, 20), 1, 0)),
        # Registers behind the grid, where the network says that one token stands in front.
        ((2, 201, 8), (224, 224), 1, Layout("tokens", (14, 14), 1, 4)),
        ((2, 7, 7, 768), (224, 224), None, Layout("rows", (7, 7))),
        ((2, 7, 10, 96), (224, 320), None, Layout("rows", (7, 10))),
        ((2, 768, 7, 7), (224, 224), None, Layout("maps", (7, 7))),
        ((2, 8, 8, 8), (224, 224), None, Layout("maps", (8, 8))),
        ((2, 768, 7, 10), (224, 320), None, Layout("maps", (7, 10))),
        # Either could be a map, to a cell or two; the closer one is.
        ((2, 7, 7, 8), (224, 224), None, Layout("rows", (7, 7))),
        ((2, 8, 7, 7), (224, 224), None, Layout("maps", (7, 7))),
        ((2, 3, 5, 6), (12, 20), None, Layout("rows", (3, 5))),
        # Windows of another network's attention are another batch.
        ((128, 49, 96), (224, 224), None, None),
        ((2, 3000, 8), (224, 224), None, None),
        ((2, 10), (224, 224), None, None),
    ],
)
def test_how_an_output_lies(shape, size, before, expected):
    assert find_layout(torch.zeros(shape), picture(*size), before) == expected


def test_the_cell_of_a_token_is_where_its_patch_is():
    """A patch embedding puts the patch in row r and column c at place r·w + c."""
    embed = nn.Conv2d(3, 1, 4, 4, bias=False)
    photo = torch.zeros(1, 3, 12, 20)
    photo[0, :, 4:8, 16:20] = 1
    tokens = embed(photo).flatten(2).transpose(1, 2)  # (1, 15, 1)
    with_class = torch.cat([torch.zeros(1, 1, 1), tokens], 1)
    layout = find_layout(with_class, photo)
    maps = layout.maps(with_class)
    assert maps.shape == (1, 1, 3, 5)
    assert maps[0, 0].nonzero().tolist() == [[1, 4]]


@pytest.mark.parametrize("shape", [(2, 20, 6), (2, 3, 5, 6), (2, 6, 3, 5)])
def test_maps_go_back_to_where_they_were(shape):
    output = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layout = find_layout(output, torch.zeros(2, 3, 12, 20))
    maps = layout.maps(output)
    assert maps.shape == (2, 6, 3, 5)
    assert maps.untyped_storage().data_ptr() == output.untyped_storage().data_ptr(), "a copy"
    assert torch.equal(layout.output(maps, output), output)
    again = layout.output(maps * 2, output[:1].clone())
    assert torch.equal(layout.maps(again), maps * 2)


@pytest.fixture(scope="module")
def photos_of_160(photos) -> torch.Tensor:
    model = cam.load_model("timm/test_vit", weights=None)
    return model.prepare(photos)


def built(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, **options).eval()


def reshaping(prefix: int, grid: tuple[int, int]):
    def reshape(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, prefix:].transpose(1, 2).reshape(len(tokens), -1, *grid)

    return reshape


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(
    ("network", "layer", "prefix"),
    [("test_vit", "blocks.5.norm1", 1), ("test_vit2", "blocks.7.norm1", 1)],
)
def test_tokens_as_grad_cam_with_its_reshaping(photos_of_160, network, layer, prefix, name):
    module = built(network)
    targets = [1, 2, 3]
    attribution = cam.attribute(module, photos_of_160, name, targets, layer)[name]
    assert attribution.raw.shape == (3, 10, 10)
    explainer = PEERS[name](
        module, [module.get_submodule(layer)], reshape_transform=reshaping(prefix, (10, 10))
    )
    with explainer:
        expected = explainer(photos_of_160, [ClassifierOutputTarget(index) for index in targets])
    expected = torch.from_numpy(expected)
    assert expected.std() > 0.01
    assert (attribution.heatmap - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", PEERS)
def test_rows_as_grad_cam_with_its_reshaping(photos, name):
    model = cam.load_model("torchvision/swin_t", weights=None)
    batch = model.prepare(photos[:2])
    attribution = cam.attribute(model, batch, name, [1, 2], "norm")[name]
    explainer = PEERS[name](
        model.module,
        [model.module.norm],
        reshape_transform=lambda rows: rows.permute(0, 3, 1, 2).contiguous(),
    )
    with explainer:
        expected = explainer(batch, [ClassifierOutputTarget(index) for index in (1, 2)])
    assert attribution.raw.shape == (2, 7, 7)
    assert (attribution.heatmap - torch.from_numpy(expected)).abs().max() <= 1e-4


def test_a_picture_that_is_not_square_has_a_grid_that_is_not():
    module = built("test_vit", dynamic_img_size=True)
    wide = torch.randn(2, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    attribution = cam.attribute(module, wide, "gradcam")["gradcam"]
    assert attribution.raw.shape == (2, 10, 14)
    assert attribution.heatmap.shape == (2, 160, 224)


def test_registers_are_no_places(photos_of_160):
    """DINOv2's networks put a class token and four registers in front."""
    module = built("test_vit", reg_tokens=4)
    attribution = cam.attribute(module, photos_of_160, "gradcam")["gradcam"]
    assert attribution.raw.shape == (3, 10, 10)
    layer = module.get_submodule(attribution.layers[0])
    with GradCAM(module, [layer], reshape_transform=reshaping(5, (10, 10))) as explainer:
        expected = torch.from_numpy(explainer(photos_of_160, None))
    assert (attribution.heatmap - expected).abs().max() <= 1e-4


def test_the_last_block_of_a_class_token_is_passed_over(photos_of_160):
    """Its output at the patches is never read, so its gradient is zero there."""
    module = built("test_vit")
    last = f"blocks.{len(module.blocks) - 1}"
    attribution = cam.attribute(module, photos_of_160, "gradcam")["gradcam"]
    assert attribution.layers == (f"{last}.norm1",)
    behind = cam.attribute(module, photos_of_160, "gradcam", layers=last)["gradcam"]
    assert behind.raw.abs().max() == 0
    assert attribution.raw.flatten(1).std(1).min() > 0


def test_a_pooled_transformer_is_explained_at_its_last_tokens(photos_of_160):
    module = built("test_vit", class_token=False, global_pool="avg")
    attribution = cam.attribute(module, photos_of_160, "gradcam")["gradcam"]
    assert attribution.raw.shape == (3, 10, 10)
    # Nothing behind it mixes places any more.
    assert attribution.layers[0] in (f"blocks.{len(module.blocks) - 1}", "norm", "blocks")


def test_a_classifier_that_starts_at_zero_has_a_preset():
    """torchvision's transformers start so: every gradient is zero before they are trained."""
    model = cam.load_model("torchvision/vit_b_32", weights=None)
    assert not model.module.heads.head.weight.any()
    assert model.layers == ("encoder.layers.encoder_layer_11.ln_1",)


def test_watching_leaves_the_model_as_it_was(photos_of_160):
    module = built("test_vit").train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.warns(cam.CamWarning, match="training mode"):
        cam.attribute(module, photos_of_160, "gradcam")
    assert module.training
    for child in module.modules():
        assert not child._forward_hooks
        assert not child._forward_pre_hooks
        assert child.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in module.parameters()
    )


def test_a_preset_that_was_watched_is_not_kept_when_the_network_changes(photos_of_160):
    module = built("test_vit")
    first = cam.attribute(module, photos_of_160, "gradcam")["gradcam"].layers[0]
    module.blocks = module.blocks[:-1]
    second = cam.attribute(module, photos_of_160, "gradcam")["gradcam"].layers[0]
    assert (first, second) == ("blocks.5.norm1", "blocks.4.norm1")


class Pair(nn.Module):
    """A block that hands on more than its tokens, as Hugging Face's do."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, str]:
        return self.block(tokens), "attention"


class First(nn.Module):
    def forward(self, pair: tuple[torch.Tensor, str]) -> torch.Tensor:
        assert pair[1] == "attention"
        return pair[0]


def test_a_block_that_puts_out_a_tuple(photos_of_160):
    plain = built("test_vit")
    expected = cam.attribute(plain, photos_of_160, "gradcam", layers="blocks.3")["gradcam"]
    plain.blocks[3] = nn.Sequential(Pair(plain.blocks[3]), First())
    attribution = cam.attribute(plain, photos_of_160, "gradcam", layers="blocks.3.0")["gradcam"]
    assert torch.equal(attribution.raw, expected.raw)


def test_a_batch_gives_what_its_pictures_give_one_by_one(photos_of_160):
    module = built("test_vit")
    whole = cam.attribute(module, photos_of_160, ["gradcam", "layercam"], [1, 2, 3])
    for index in range(3):
        single = cam.attribute(
            module, photos_of_160[index : index + 1], ["gradcam", "layercam"], index + 1
        )
        for name, attribution in single.items():
            assert torch.allclose(attribution.heatmap[0], whole[name].heatmap[index], atol=1e-4)


def test_a_transformer_without_weights_gets_pictures_of_its_own_size():
    """The best weights of vit_h_14 and vit_l_16 are for 518 and 512 pixels, their builders 224."""
    with torch.device("meta"):
        model = cam.load_model("torchvision/vit_l_16", weights=None)
    assert model.transform.crop_size == [model.module.image_size] == [224]
