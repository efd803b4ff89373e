"""Volumes and clips, beside known answers, peers and double precision."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional
from torchcam.methods import LayerCAM
from torchvision.models.video import mc3_18, r3d_18

import cam
from tests.support.volumes import (
    CLIP,
    CUBE,
    PATCH,
    VOLUME,
    ReadsACube,
    ReadsATubelet,
    inside,
    planted,
)

METHODS = sorted(name for name, info in cam.methods().items() if info.volumes)
FEW = 12
NO_ATTENTION = {"attention_rollout", "generic_attention", "legrad", "transformer_attribution"}
NO_RELU = {"guided_backprop", "deconvnet", "guided_gradcam"}
# The blocks of occlusion reach beyond the part, ViT-CX is as flat as its masks, and of few masks
# RISE's map is noisy; one draw of weights is what it is for.
SHARES = {"occlusion": 0.6, "vit_cx": 0.5, "rise": 0.4}


def configured(name: str, size: tuple[int, ...], channels: int) -> cam.Method:
    """A method with few draws, and dark references."""
    defaults = cam.methods()[name].parameters
    parameters = {
        key: FEW
        for key in ("samples", "steps")
        if key in defaults and isinstance(defaults[key], int)
    }
    if "references" in defaults and name != "finercam":
        parameters["references"] = torch.zeros(2, channels, *size)
    special = {"occlusion": {"window": 4, "stride": 4, "depth": 2}, "rise": {"masks": 300}}
    if name == "sscam":
        parameters["samples"] = 2
    if name == "blur_integrated_gradients":
        # Not so far that the whole clip is grey, and in steps that follow it.
        parameters = {"sigma": 3.0, "steps": 40}
    return cam.method(name, **parameters, **special.get(name, {}))


def check_mass(result: cam.Attribution, size: tuple[int, ...], part: tuple[slice, ...]) -> None:
    """Most of the map lies on the part and its next cell, and the strongest value too."""
    assert result.heatmap.shape == result.signed.shape == (2, *size)
    near = inside(size, part, 2)
    for signed in result.signed:
        mass = (signed - signed.median()).abs()
        share = float(mass[near].sum() / mass.sum())
        assert share >= SHARES.get(result.method, 0.85), share
        assert share > 2 * float(near.float().mean())
        where = np.unravel_index(int(mass.argmax()), size)
        assert inside(size, part, 4)[tuple(where)]


@pytest.mark.parametrize("name", sorted(set(METHODS) - NO_ATTENTION - {"cam"}))
@pytest.mark.filterwarnings("ignore::cam.errors.CamWarning")
def test_what_a_volume_network_reads_has_the_mass(name):
    volumes = planted(VOLUME, CUBE)
    results = cam.attribute(ReadsACube(), volumes, configured(name, VOLUME, 1), targets=0)
    check_mass(results[name], VOLUME, CUBE)


@pytest.mark.parametrize("name", sorted(set(METHODS) - NO_RELU - {"cam"}))
@pytest.mark.filterwarnings("ignore::cam.errors.CamWarning")
def test_what_a_clip_network_reads_has_the_mass(name):
    clips = planted(CLIP, PATCH, channels=3)
    results = cam.attribute(ReadsATubelet(), clips, configured(name, CLIP, 3), targets=0)
    check_mass(results[name], CLIP, PATCH)


def test_a_method_of_images_names_those_of_volumes():
    for name in set(cam.methods()) - set(METHODS):
        with pytest.raises(
            cam.MethodError, match=r"no volumes or clips; for these there are .*lrp"
        ):
            cam.attribute(ReadsACube(), planted(VOLUME, CUBE), name)


def pooled(channels: int = 1) -> nn.Sequential:
    """A classifier of a mean, which the first CAM is of."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv3d(channels, 4, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2)),
        *(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3)),
    ).eval()


def test_cam_is_the_classifiers_weights_times_the_maps():
    module, volumes = pooled(), torch.rand(2, 1, 6, 8, 10)
    result = cam.attribute(module, volumes, "cam", targets=1)["cam"]
    with torch.no_grad():
        features = module[:3](volumes).double()
    expected = torch.einsum("c,bcdhw->bdhw", module[5].weight[1].double(), features)
    assert torch.allclose(result.raw.double(), expected, atol=1e-6)
    upsampled = functional.interpolate(expected[:, None], (6, 8, 10), mode="trilinear")[:, 0]
    assert torch.allclose(result.signed.double(), upsampled, atol=1e-6)


@pytest.fixture(scope="module")
def video_network():
    torch.manual_seed(0)
    return r3d_18(num_classes=5).eval()


@pytest.fixture(scope="module")
def clips():
    return torch.randn(2, 3, 8, 48, 64, generator=torch.Generator().manual_seed(0))


def test_gradcam_is_the_formula_in_double_precision(video_network, clips):
    """Weights are the mean gradient over d·h·w; the map is up-sampled in three axes."""
    result = cam.attribute(video_network, clips, "gradcam", 3, "layer3")["gradcam"]
    network = r3d_18(num_classes=5).eval().double()
    network.load_state_dict(video_network.state_dict())
    outputs = []
    network.layer3.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    scores = network(clips.double())[:, 3]
    (gradient,) = torch.autograd.grad(scores.sum(), outputs[0])
    weights = gradient.mean((2, 3, 4))
    expected = torch.einsum("bc,bcdhw->bdhw", weights, outputs[0].detach())
    assert result.raw.shape == (2, 2, 6, 8) == tuple(expected.shape)
    assert torch.allclose(
        result.raw.double(), expected, rtol=1e-3, atol=1e-4 * expected.abs().max()
    )
    assert torch.allclose(result.scores.double(), scores.detach(), rtol=1e-4)


def test_gradcam_equals_that_of_pytorch_grad_cam(video_network, clips):
    result = cam.attribute(video_network, clips, "gradcam", 2, "layer3")["gradcam"]
    with GradCAM(video_network, [video_network.layer3]) as peer:
        expected = peer(clips, [ClassifierOutputTarget(2)] * 2)
    assert expected.shape == (2, 8, 48, 64)
    # It resizes each plane by zoom of scipy, so the coarse grid is compared at its own size.
    with GradCAM(video_network, [video_network.layer3]) as peer:
        peer.activations_and_grads(clips)[:, 2].sum().backward()
        layer = peer.activations_and_grads
        coarse = peer.get_cam_image(
            clips, None, None, layer.activations[0].numpy(), layer.gradients[0].numpy(), False
        )
    assert torch.allclose(result.raw, torch.from_numpy(coarse), rtol=1e-3, atol=1e-5)


def test_layercam_equals_that_of_torchcam(video_network, clips):
    result = cam.attribute(video_network, clips[:1], "layercam", 2, "layer3")["layercam"]
    with LayerCAM(video_network, "layer3") as peer:
        scores = video_network(clips[:1].clone().requires_grad_())
        (expected,) = peer(2, scores, normalized=False)
    assert torch.allclose(result.raw.clamp(min=0), expected.detach(), rtol=1e-3, atol=1e-5)


def test_every_rule_of_a_volume_is_that_of_its_places_in_a_row(video_network, clips):
    """The rules know no neighbourhood, so an image of d·h × w places has the same maps."""
    volumes, planes = pooled(), nn.Sequential(nn.Flatten(2, 3), nn.AdaptiveAvgPool2d(1))
    batch = torch.rand(2, 1, 4, 6, 8)
    with torch.no_grad():
        features = volumes[:3](batch)
    flat = nn.Sequential(nn.Identity(), *planes[1:], *volumes[4:]).eval()
    head = nn.Sequential(nn.Identity(), *volumes[3:]).eval()
    rules = ["gradcam", "xgradcam", "gradcam_plus_plus", "layercam", "hirescam", "eigencam", "fem"]
    # Nothing in it shows which axis holds the channels.
    ours = cam.attribute(cam.Model(head, frames_first=False), features, rules, 1, layers="0")
    theirs = cam.attribute(flat, features.flatten(2, 3), rules, 1, layers="0")
    for rule in rules:
        expected = theirs[rule].raw.view_as(ours[rule].raw)
        assert torch.allclose(ours[rule].raw, expected, rtol=1e-4, atol=1e-6), rule


def test_a_batch_gives_what_its_volumes_give():
    module, volumes = pooled().double(), torch.rand(3, 1, 6, 8, 10, dtype=torch.float64)
    names = ["gradcam", "saliency", "layercam", "integrated_gradients", "lrp"]
    whole = cam.attribute(module, volumes, names, 1)
    for index in range(3):
        alone = cam.attribute(module, volumes[index : index + 1], names, 1)
        for name in names:
            assert torch.allclose(whole[name].raw[index], alone[name].raw[0], rtol=1e-5, atol=1e-9)


def test_the_model_comes_back_as_it_was():
    module, volumes = ReadsACube(), planted(VOLUME, CUBE)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    copy = volumes.clone()
    module.train()
    with pytest.warns(cam.CamWarning, match="training mode"):
        cam.attribute(module, volumes, ["gradcam", "saliency", "lrp", "occlusion"])
    assert all(child.training for child in module.modules())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(child._forward_hooks for child in module.modules())
    assert torch.equal(volumes, copy)


def test_a_network_of_mixed_convolutions_is_explained():
    torch.manual_seed(0)
    result = cam.attribute(mc3_18(num_classes=3).eval(), torch.randn(1, 3, 8, 32, 32), "gradcam", 0)
    assert result["gradcam"].layers == ("layer4",)
    assert result["gradcam"].raw.shape == (1, 8, 2, 2)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 3, 4, 8, 8)])
def test_another_number_of_axes_is_refused(shape):
    with pytest.raises(cam.InputError, match=r"\(B, C, D, H, W\) or \(B, T, C, H, W\)"):
        cam.attribute(ReadsACube(), torch.zeros(shape))


def test_a_volume_for_a_network_of_images_is_refused():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(cam.ModelError, match=r"failed on a torch.float32 batch"):
        cam.attribute(module, torch.zeros(1, 3, 4, 8, 8), "saliency")


def test_photos_do_not_stand_in_for_volumes():
    with pytest.raises(cam.MethodError, match="give references="):
        cam.attribute(ReadsACube(), planted(VOLUME, CUBE), "expected_gradients")


def test_occlusions_depth_fits():
    with pytest.raises(cam.MethodError, match="only 12 planes or frames"):
        cam.attribute(ReadsACube(), planted(VOLUME, CUBE), cam.method("occlusion", depth=13))
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 22 * 22, 2)).eval()
    with pytest.raises(cam.MethodError, match="this is an image"):
        cam.attribute(images, torch.zeros(1, 1, 24, 24), cam.method("occlusion", depth=2))


def test_occlusion_of_a_sum_is_the_mean_over_the_blocks_that_cover_a_place():
    """A block hides what is in it, worked out block by block."""

    class Sums(nn.Module):
        def forward(self, volumes):
            return volumes.flatten(1).double().sum(1, keepdim=True).float()

    volumes = torch.rand(1, 1, 4, 6, 6)
    model = cam.Model(Sums().eval(), frames_first=False)
    method = cam.method("occlusion", window=3, stride=2, depth=2)
    result = cam.attribute(model, volumes, method, 0)["occlusion"]
    total, count = torch.zeros(4, 6, 6), torch.zeros(4, 6, 6)
    for plane in (0, 1, 2):
        for row in (0, 2, 4):
            for column in (0, 2, 4):
                at = slice(plane, plane + 2), slice(row, row + 3), slice(column, column + 3)
                total[at] += volumes[0, 0][at].sum()
                count[at] += 1
    assert torch.allclose(result.raw[0], total / count, atol=1e-4)


def test_volumes_of_two_classes_share_a_scale():
    """The weaker class' map is scaled by both peaks, volume by volume."""
    module, volumes = pooled(), torch.rand(2, 1, 2, 8, 10)
    both = [cam.attribute(module, volumes, "saliency", index)["saliency"] for index in (0, 1)]
    scaled = cam.common_scale(both)
    for number, result in enumerate(both):
        for index in range(2):
            highest = max(float(each.raw[index].max()) for each in both)
            factor = float(both[number].raw[index].max()) / highest
            assert torch.allclose(scaled[number][index], result.heatmap[index] * factor, atol=1e-6)


def test_a_metric_of_volumes_is_refused():
    module, volumes = ReadsACube(), planted(VOLUME, CUBE)
    result = cam.attribute(module, volumes, "saliency", 0)["saliency"]
    with pytest.raises(cam.InputError, match=r"explained by cam.attribute alone"):
        cam.metric("deletion")(module, volumes, result, 0)
