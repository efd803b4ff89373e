"""Layers that are shown to lie on a volume, or refused."""

import pytest
import torch
from torch import nn
from torchvision.models.video import mvit_v2_s, swin3d_t

import cam
from cam._engine.layer_choice.probe import probe_layers
from tests.support.volumes import CLIP, ReadsATubelet


class Shuffled(nn.Module):
    """Tubelets, then the same in an order that is no grid's, with a token's place in it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv3d(3, 6, (2, 4, 4), (2, 4, 4))
        self.ordered, self.mixed = nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        count = CLIP[0] // 2 * (CLIP[1] // 4) * (CLIP[2] // 4)
        self.order = torch.randperm(count, generator=torch.Generator().manual_seed(3))

    def forward(self, clips):
        tokens = self.ordered(self.embed(clips).flatten(2).transpose(1, 2))
        return self.head(self.mixed(tokens[:, self.order]).relu().mean(1))


def test_tubelets_in_another_order_are_no_map():
    layouts = probe_layers(Shuffled().eval(), torch.zeros(1, 3, *CLIP))
    assert layouts["ordered"].grid == (4, 4, 4)
    assert "mixed" not in layouts
    with pytest.raises(cam.LayerError, match=r"'mixed' returns .* not shown to be a map"):
        cam.attribute(Shuffled().eval(), torch.randn(1, 3, *CLIP), "gradcam", layers="mixed")


def test_the_class_token_stands_before_the_tubelets():
    layouts = probe_layers(ReadsATubelet(), torch.zeros(1, 3, *CLIP))
    layout = layouts["block.value"]
    assert (layout.kind, layout.grid, layout.before, layout.after) == ("tokens", (4, 4, 4), 1, 0)


class AxesSwapped(nn.Module):
    """Maps whose planes are exchanged for rows, as a network of other views has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.Identity()  # its name says that it does not only convolve
        self.first, self.second = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

        class Attention(nn.Module):
            def forward(self, maps):
                return maps

        self.attention = Attention()

    def forward(self, volumes):
        maps = self.attention(self.first(volumes)).relu()
        return self.head(self.second(maps.transpose(2, 3)).relu().mean((2, 3, 4)))


def test_maps_whose_planes_are_its_rows_are_refused():
    layouts = probe_layers(AxesSwapped().eval(), torch.zeros(1, 1, 8, 8, 8))
    assert layouts["first"].grid == (8, 8, 8)
    assert "second" not in layouts


def test_one_plane_for_the_whole_depth_is_a_map():
    """Behind a short clip only the quarters of its plane can be compared."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 4, (4, 3, 3), padding=(0, 1, 1)), nn.ReLU())
    layout = probe_layers(module.eval(), torch.zeros(1, 1, 4, 16, 16))["0"]
    assert layout.grid == (1, 16, 16)


class SmallUNet(nn.Module):
    """A segmenter of volumes: down, and up again with what was before."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)

        def block(inputs, outputs):
            return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU())

        self.down1, self.down2, self.bottom = block(1, 4), block(4, 8), block(8, 16)
        self.pool = nn.MaxPool3d(2)
        self.up = nn.Upsample(scale_factor=2)
        self.up2, self.up1 = block(24, 8), block(12, 4)
        self.outputs = nn.Conv3d(4, 3, 1)

    def forward(self, volumes):
        first = self.down1(volumes)
        second = self.down2(self.pool(first))
        third = self.bottom(self.pool(second))
        second = self.up2(torch.cat([self.up(third), second], 1))
        return self.outputs(self.up1(torch.cat([self.up(second), first], 1)))


def test_a_segmenter_of_volumes_is_explained_at_its_bottom():
    """At its outputs every CAM would be the prediction."""
    module, volumes = SmallUNet().eval(), torch.randn(1, 1, 8, 16, 16)

    def target(output):
        return output[1, 2:4, 4:8, 4:8].mean()

    results = cam.attribute(module, volumes, ["gradcam", "saliency", "occlusion"], target)
    assert results["gradcam"].layers[0].split(".")[0] == "bottom"
    assert results["gradcam"].raw.shape == (1, 2, 4, 4)
    pixels = volumes.clone().requires_grad_()
    (slope,) = torch.autograd.grad(target(module(pixels)[0]), pixels)
    assert torch.allclose(results["saliency"].raw, slope.abs().amax(1), rtol=1e-4, atol=1e-9)


class SmallDenseNet(nn.Module):
    """Dense layers of a volume, pooled for a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv3d(1, 4, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(nn.Conv3d(4 + 4 * n, 4, 3, padding=1) for n in range(3))
        self.norm = nn.BatchNorm3d(16)
        self.pool, self.out = nn.AdaptiveAvgPool3d(1), nn.Linear(16, 2)

    def forward(self, volumes):
        features = self.first(volumes)
        for layer in self.layers:
            features = torch.cat([features, layer(features).relu()], 1)
        return self.out(self.pool(self.norm(features).relu()).flatten(1))


def test_a_dense_network_of_volumes_is_explained_before_its_pool():
    result = cam.attribute(SmallDenseNet().eval(), torch.randn(1, 1, 8, 12, 12), "gradcam", 1)
    assert result["gradcam"].layers == ("norm",)
    assert result["gradcam"].raw.shape == (1, 4, 6, 6)


def test_blocks_with_channels_last_are_maps():
    """swin3d returns (B, d, h, w, C)."""
    torch.manual_seed(0)
    network = swin3d_t(num_classes=4).eval()
    clips = torch.randn(1, 3, 8, 64, 64)
    result = cam.attribute(network, clips, "hirescam", 2)["hirescam"]
    outputs = []
    (name,) = result.layers
    hook = network.get_submodule(name).register_forward_hook(
        lambda _m, _i, out: outputs.append(out)
    )
    with hook:
        (slope,) = torch.autograd.grad(network(clips)[0, 2], outputs)
    expected = (slope * outputs[0]).sum(-1).detach()
    assert result.raw.shape == expected.shape == (1, 4, 2, 2)
    assert torch.allclose(result.raw, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_transformer_that_pools_its_tubelets_is_explained():
    torch.manual_seed(0)
    clips = torch.randn(1, 3, 16, 224, 224)
    result = cam.attribute(mvit_v2_s(num_classes=4).eval(), clips, "gradcam", 1)["gradcam"]
    assert result.raw.shape == (1, 8, 7, 7)
    assert result.heatmap.shape == (1, 16, 224, 224)


@pytest.mark.slow
def test_networks_of_monai_are_explained():
    nets = pytest.importorskip("monai.networks.nets")
    network = nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval()
    volumes = torch.randn(1, 1, 64, 64, 64)
    result = cam.attribute(network, volumes, "gradcam", 1)["gradcam"]
    assert result.heatmap.shape == (1, 64, 64, 64)
    unet = nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2)).eval()
    result = cam.attribute(unet, volumes, "gradcam", lambda output: output[1].mean())["gradcam"]
    assert result.layers != ("model",)
    assert result.heatmap.shape == (1, 64, 64, 64)
