"""Grad-CAM and saliency against grad-cam and captum on the same pictures."""

import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from pytorch_grad_cam import (
    EigenCAM,
    EigenGradCAM,
    GradCAM,
    GradCAMElementWise,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import cam
from cam import kernels

# Layers whose output nobody changes in place: there grad-cam records what was changed.
MODELS = {
    "efficientnet_lite0": ("bn2", "blocks.4", "blocks.2"),
    "torchvision/resnet18": ("layer4", "layer3", "layer2"),
    "torchvision/mobilenet_v3_small": ("features.12", "features.9", "features.4"),
    "torchvision/densenet121": (
        "features.denseblock4",
        "features.transition2",
        "features.denseblock2",
    ),
    "torchvision/convnext_tiny": ("features.7", "features.5", "features.3"),
}
TARGETS = [281, 7, 999]


@pytest.fixture(scope="module", params=MODELS, ids=lambda name: name.rpartition("/")[2])
def model(request, bundled) -> cam.Model:
    if request.param == "efficientnet_lite0":
        return bundled
    torch.manual_seed(0)
    return cam.load_model(request.param, weights=None)


@pytest.fixture(scope="module")
def pictures(model, photos) -> torch.Tensor:
    return model.prepare(photos)


@pytest.mark.parametrize("target", [None, TARGETS], ids=["top class", "given class"])
@pytest.mark.parametrize("depth", [0, 1, 2], ids=["last", "middle", "early"])
def test_gradcam_is_grad_cams(model, pictures, depth, target):
    layer = MODELS[model.name][depth]
    ours = cam.attribute(model, pictures, "gradcam", targets=target, layers=layer)["gradcam"]
    targets = None if target is None else [ClassifierOutputTarget(index) for index in target]
    with GradCAM(model.module, [model.module.get_submodule(layer)]) as theirs:
        expected = torch.from_numpy(theirs(pictures, targets))
    assert expected.std() > 0.01, "a flat map would agree with anything"
    assert (ours.heatmap - expected).abs().max() <= 1e-5


# Not Grad-CAM++: on gradients as small as these the peer's ε outweighs the denominator that it is
# added to; tests/kernels/class_activation/test_rule_equations.py compares them where it does not.
PEERS = {
    "xgradcam": XGradCAM,
    "layercam": LayerCAM,
    "hirescam": HiResCAM,
    "gradcam_elementwise": GradCAMElementWise,
}


@pytest.mark.parametrize("name", PEERS)
def test_rules_are_grad_cams(name, model, pictures):
    # The last layer: in the middle of a network with random weights a HiResCAM may have nothing
    # above zero, and what is then left is the rounding.
    layer = MODELS[model.name][0]
    ours = cam.attribute(model, pictures, list(PEERS), targets=TARGETS, layers=layer)[name]
    targets = [ClassifierOutputTarget(index) for index in TARGETS]
    with PEERS[name](model.module, [model.module.get_submodule(layer)]) as theirs:
        expected = torch.from_numpy(theirs(pictures, targets))
    assert expected.std() > 0.01, "a flat map would agree with anything"
    assert (ours.heatmap - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(("name", "peer"), [("eigencam", EigenCAM), ("eigengradcam", EigenGradCAM)])
def test_eigencams_are_grad_cams_up_to_their_direction(name, peer, model, pictures):
    """The peer shows whichever direction the decomposition returned."""
    layer = MODELS[model.name][1]
    ours = cam.attribute(model, pictures, name, targets=TARGETS, layers=layer)[name]
    targets = [ClassifierOutputTarget(index) for index in TARGETS]
    with peer(model.module, [model.module.get_submodule(layer)]) as theirs:
        expected = torch.from_numpy(theirs(pictures, targets))
    flipped = kernels.normalise(-ours.raw)
    for image in range(len(pictures)):
        same = ours.heatmap[image]
        other = torch.nn.functional.interpolate(
            flipped[image][None, None], size=same.shape, mode="bilinear"
        )[0, 0]
        other = (other - other.min()) / (other.max() - other.min() + 1e-7)
        distances = [(map_ - expected[image]).norm() for map_ in (same, other)]
        assert min(distances) <= 1e-4 * expected[image].norm()


def test_several_layers_are_averaged_as_grad_cam_does(model, pictures):
    layers = list(MODELS[model.name])
    ours = cam.attribute(model, pictures, "gradcam", layers=layers)["gradcam"]
    with GradCAM(model.module, [model.module.get_submodule(layer) for layer in layers]) as theirs:
        expected = torch.from_numpy(theirs(pictures, None))
    assert (ours.heatmap - expected).abs().max() <= 1e-5
    assert ours.layers == tuple(layers)


@pytest.mark.parametrize("depth", [0, 1, 2], ids=["last", "middle", "early"])
def test_raw_is_captums_layer_grad_cam(model, pictures, depth):
    layer = MODELS[model.name][depth]
    ours = cam.attribute(model, pictures, "gradcam", targets=TARGETS, layers=layer)["gradcam"]
    peer = LayerGradCam(model.module, model.module.get_submodule(layer))
    expected = peer.attribute(pictures, target=TARGETS, relu_attributions=False)[:, 0].detach()
    assert ours.raw.shape == expected.shape
    assert (ours.raw - expected).norm() <= 1e-5 * expected.norm()


def test_saliency_is_captums(model, pictures):
    ours = cam.attribute(model, pictures, "saliency", targets=TARGETS)["saliency"]
    peer = Saliency(model.module).attribute(pictures.clone(), target=TARGETS).amax(1)
    assert (ours.raw - peer).norm() <= 1e-6 * peer.norm()
    # The heatmap is the min-max of it, image by image.
    low, high = peer.amin((1, 2), keepdim=True), peer.amax((1, 2), keepdim=True)
    assert torch.allclose(ours.heatmap, (peer - low) / (high - low), atol=1e-5)
