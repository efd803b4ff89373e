"""Which axis of a clip holds its channels."""

import copy

import pytest
import torch
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForVideoClassification

import cam
from cam._engine.clips.axis_order import takes_frames_first
from tests.support.volumes import CLIP, PATCH, ReadsATubelet, planted


class FramesOneByOne(nn.Module):
    """A network of images over the frames of (B, T, C, H, W), or of (B, C, T, H, W)."""

    def __init__(self, frames_first: bool, channels: int = 3) -> None:
        super().__init__()
        self.frames_first = frames_first
        self.convolution = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, clips):
        frames = clips if self.frames_first else clips.transpose(1, 2)
        features = self.convolution(frames.flatten(0, 1)).relu().mean((2, 3))
        return self.head(features.view(len(clips), -1, 4).mean(1))


class PatchesByAMatrix(nn.Module):
    """A matrix over the pixels of each patch of (B, T, C, H, W), or of (B, C, T, H, W)."""

    def __init__(self, frames_first: bool, channels: int = 3) -> None:
        super().__init__()
        self.frames_first = frames_first
        self.embed = nn.Linear(channels * 16, 4)

    def forward(self, clips):
        frames = clips if self.frames_first else clips.transpose(1, 2)
        patches = frames.unfold(3, 4, 4).unfold(4, 4, 4)  # (B, T, C, h, w, 4, 4)
        tokens = patches.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(1, 3)
        return self.embed(tokens).relu().mean(1)


@pytest.mark.parametrize("kind", [ReadsATubelet, FramesOneByOne, PatchesByAMatrix])
@pytest.mark.parametrize("frames_first", [False, True])
@pytest.mark.parametrize("frames", [8, 4])
def test_the_first_layer_shows_the_order(kind, frames_first, frames):
    shape = (1, frames, 3, 16, 16) if frames_first else (1, 3, frames, 16, 16)
    assert takes_frames_first(kind(frames_first).eval(), torch.zeros(shape)) is frames_first


@pytest.mark.parametrize("kind", [FramesOneByOne, PatchesByAMatrix])
@pytest.mark.parametrize("frames_first", [False, True])
def test_as_many_frames_as_channels(kind, frames_first):
    """The lengths are the same: which patches a change reaches shows it."""
    module = kind(frames_first).eval()
    assert takes_frames_first(module, torch.zeros(1, 3, 3, 16, 16)) is frames_first


def test_a_volume_network_of_as_many_planes_as_channels():
    module = nn.Sequential(nn.Conv3d(4, 2, (1, 3, 3)), nn.Flatten(), nn.Linear(2 * 4 * 36, 2))
    assert takes_frames_first(module.eval(), torch.zeros(1, 4, 4, 8, 8)) is False


def test_planes_that_are_taken_as_channels_are_in_doubt():
    """(B, 1, D, H, W), of which a convolution of images takes D as channels."""

    class PlanesAsChannels(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = nn.Conv2d(5, 2, 3)

        def forward(self, volumes):
            return self.convolution(volumes[:, 0]).mean((2, 3))

    module = PlanesAsChannels().eval()
    with pytest.raises(cam.InputError, match="frames_first=False"):
        cam.attribute(module, torch.zeros(1, 1, 5, 8, 8), "saliency")
    model = cam.Model(module, frames_first=False)
    maps = cam.attribute(model, torch.randn(1, 1, 5, 8, 8), "saliency", 0)["saliency"]
    assert maps.heatmap.shape == (1, 5, 8, 8)


def test_a_network_without_a_layer_is_in_doubt():
    class Sums(nn.Module):
        def forward(self, clips):
            return clips.flatten(2).sum(2)

    with pytest.raises(cam.InputError, match="nothing shows whether axis 1 or 2"):
        cam.attribute(Sums().eval(), torch.zeros(1, 3, 4, 8, 8), "saliency", 0)


def test_both_orders_give_the_same_maps():
    clips = planted(CLIP, PATCH, channels=3)
    names = ["gradcam", "saliency", "legrad", "lrp", "scorecam", "ablationcam", "deeplift"]
    first = cam.attribute(ReadsATubelet(), clips, names, 0)
    other = cam.attribute(ReadsATubelet(frames_first=True), clips.transpose(1, 2), names, 0)
    for name in names:
        assert torch.equal(first[name].signed, other[name].signed), name


def test_the_order_is_forgotten_after_a_call():
    """What the caller runs next gets the batch as it is."""
    module, clips = ReadsATubelet(frames_first=True), planted(CLIP, PATCH, 3).transpose(1, 2)
    expected = module(clips)
    cam.attribute(module, clips, "gradcam")
    assert torch.equal(cam.Model(module).score(clips), expected.detach())
    assert torch.equal(module(clips), expected)


def test_a_video_transformer_is_explained_at_its_tubelets():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=8, intermediate_size=32, num_labels=3, **sizes
    )
    network = VideoMAEForVideoClassification(config).eval()
    clips = torch.randn(2, 8, 3, 32, 32)
    names = ["gradcam", "attention_rollout", "legrad", "generic_attention", "saliency"]
    before = copy.deepcopy(network.state_dict())
    results = cam.attribute(network, clips, names, 1)
    for name in names[:-1]:
        assert results[name].raw.shape == (2, 4, 4, 4), name
        assert results[name].heatmap.shape == (2, 8, 32, 32), name
    pixels = clips.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(pixels).logits[:, 1].sum(), pixels)
    expected = gradient.abs().amax(2)  # over the channels, which come after the frames
    assert torch.allclose(results["saliency"].raw, expected, rtol=1e-4, atol=1e-8)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
