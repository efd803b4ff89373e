"""cam.compat.pytorch_grad_cam beside pytorch-grad-cam 1.5.7: the same calls, the same answers."""

import cv2
import numpy as np
import pytest
import pytorch_grad_cam as theirs
import timm
import torch
from pytorch_grad_cam.utils import image as their_image
from pytorch_grad_cam.utils import model_targets as their_targets
from pytorch_grad_cam.utils import reshape_transforms as their_transforms
from torch import nn

import cam
import cam.compat.pytorch_grad_cam as ours
from cam.compat.pytorch_grad_cam.utils import image, model_targets, reshape_transforms

NAMES = [
    "GradCAM",
    "HiResCAM",
    "GradCAMElementWise",
    "GradCAMPlusPlus",
    "XGradCAM",
    "LayerCAM",
    "ScoreCAM",
    "AblationCAM",
]


def network(classes: int = 5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, classes),
    ).eval()


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.randn(2, 3, 20, 14, generator=torch.Generator().manual_seed(1))


def answers(module, targets_module, name, model, layers, pictures, targets, **options):
    made = [getattr(targets_module, kind)(*arguments) for kind, *arguments in targets]
    with getattr(module, name)(model, layers) as method:
        return method(input_tensor=pictures, targets=made or None, **options)


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype == np.float32
    assert actual.shape == expected.shape
    assert expected.std() > 0.01, "a flat map would agree with anything"
    assert np.linalg.norm(actual - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("several", [False, True], ids=["one layer", "two layers"])
def test_a_changed_import_gives_the_same_map(name, several, pictures):
    model = network()
    # Beside small gradients the peer's ε in Grad-CAM++ is large.
    model[-1].weight.data *= 1000 if name == "GradCAMPlusPlus" else 1
    layers = [model[1], model[4]] if several else [model[4]]
    targets = [("ClassifierOutputTarget", 3), ("ClassifierOutputTarget", 1)]
    actual, expected = (
        answers(*modules, name, model, layers, pictures, targets)
        for modules in ((ours, model_targets), (theirs, their_targets))
    )
    assert_same(actual, expected)


@pytest.mark.parametrize("name", ["EigenCAM", "EigenGradCAM"])
def test_eigencams_are_attributes(name, pictures):
    """The peer's direction is a matter of chance; test_against_peers.py compares up to it."""
    model = network()
    # As in the peer, where smoothing by a first component changes nothing.
    actual = answers(ours, model_targets, name, model, [model[4]], pictures, [], eigen_smooth=True)
    expected = cam.attribute(model, pictures, name.lower(), layers="4")[name.lower()].heatmap
    assert_same(actual, expected.numpy())


def test_every_class_names_a_method():
    classes = {getattr(ours, name) for name in ours.__all__} - {ours.BaseCAM}
    assert {library_class.method for library_class in classes} <= set(cam.methods())


@pytest.mark.parametrize("name", ["FullGrad", "ShapleyCAM", "FEM"])
def test_classes_with_passes_of_their_own(name, pictures):
    model = network()
    targets = [("ClassifierOutputTarget", category) for category in (1, 2)]
    actual = answers(ours, model_targets, name, model, [model[4]], pictures, targets)
    expected = answers(theirs, their_targets, name, model, [model[4]], pictures, targets)
    assert_same(actual, expected)


@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM"])
def test_augmented(name, pictures):
    model = network()
    targets = [("ClassifierOutputTarget", category) for category in (1, 2)]
    arguments = (model, [model[4]], pictures, targets)
    actual = answers(ours, model_targets, name, *arguments, aug_smooth=True)
    expected = answers(theirs, their_targets, name, *arguments, aug_smooth=True)
    assert_same(actual, expected)
    assert np.abs(actual - answers(ours, model_targets, name, *arguments)).max() > 0.01


@pytest.mark.parametrize("base", ["GradCAM", "HiResCAM"])
def test_finer_cam(base, pictures):
    model = network()
    for options in ({}, {"target_idx": 3}, {"alpha": 0.5, "comparison_categories": [1, 2]}):
        actual, expected = (
            library.FinerCAM(model, [model[4]], base_method=getattr(library, base))(
                pictures, **options
            )
            for library in (ours, theirs)
        )
        assert_same(actual, expected)
    with pytest.raises(cam.MethodError, match="comparison_categories"):
        ours.FinerCAM(model, [model[4]])(pictures, comparison_categories=[2, 4])


def test_refine_cam(pictures):
    model = network()
    layers = [model[1], model[4]]
    targets = [("ClassifierOutputTarget", category) for category in (1, 2)]
    made = [
        [getattr(where, kind)(number) for kind, number in targets]
        for where in (model_targets, their_targets)
    ]
    actual = ours.RefineCAM(model, layers, base_method=ours.LayerCAM)(pictures, made[0])
    expected = theirs.RefineCAM(model, layers, base_method=theirs.LayerCAM)(pictures, made[1])
    assert_same(actual, expected)


def test_a_transformer_needs_no_reshaping():
    """The peer needs to know how the tokens lie; here this is detected."""
    torch.manual_seed(0)
    model = timm.create_model("test_vit").eval()
    layers = [model.blocks[-1].norm1]
    batch = torch.randn(2, 3, 160, 160)
    reshape = lambda tokens: tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 10, 10)  # noqa: E731
    actual = ours.GradCAM(model, layers, reshape_transform=reshape)(batch)
    assert_same(actual, theirs.GradCAM(model, layers, reshape_transform=reshape)(batch, None))


def test_without_targets_the_top_class(pictures):
    model = network()
    actual = ours.GradCAM(model=model, target_layers=[model[4]])(pictures)
    assert_same(actual, theirs.GradCAM(model=model, target_layers=[model[4]])(pictures, None))


@pytest.mark.parametrize(
    ("classes", "target"),
    [
        (5, ("ClassifierOutputSoftmaxTarget", 2)),
        (5, ("ClassifierOutputTarget", -1)),
        (1, ("BinaryClassifierOutputTarget", 1)),
        (1, ("BinaryClassifierOutputTarget", 0)),
        (1, ("RawScoresOutputTarget",)),
    ],
    ids=str,
)
def test_targets(classes, target, pictures):
    model = network(classes)
    actual, expected = (
        answers(*modules, "GradCAM", model, [model[1]], pictures, [target] * 2)
        for modules in ((ours, model_targets), (theirs, their_targets))
    )
    assert_same(actual, expected)


def test_targets_of_whole_outputs():
    output = torch.randn(5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        model_targets.SoftmaxOutputTarget()(output), their_targets.SoftmaxOutputTarget()(output)
    )
    assert model_targets.RawScoresOutputTarget()(output) is output
    batch = output[None].repeat(2, 1)
    for kind in ("ClassifierOutputTarget", "ClassifierOutputSoftmaxTarget"):
        expected = getattr(their_targets, kind)(2)(batch)
        assert torch.equal(getattr(model_targets, kind)(2)(batch), expected)


def test_a_segmentation(pictures):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1)
    ).eval()
    mask = np.zeros((20, 14), np.float32)
    mask[3:9, 2:8] = 1
    actual, expected = (
        answers(
            *modules,
            "GradCAM",
            model,
            [model[1]],
            pictures,
            [("SemanticSegmentationTarget", 2, mask)] * 2,
        )
        for modules in ((ours, model_targets), (theirs, their_targets))
    )
    assert_same(actual, expected)


def test_the_block_swallows_nothing_and_the_model_is_left_alone(pictures):
    model = network()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with pytest.raises(IndexError, match="mine"), ours.GradCAM(model, [model[4]]) as method:
        method(pictures)
        raise IndexError("mine")
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert not any(module._forward_hooks for module in model.modules())


def test_smoothing_is_passed_on(pictures, monkeypatch):
    calls = []
    monkeypatch.setattr(ours, "method", lambda name, **options: calls.append((name, options)))
    for options in ({}, {"aug_smooth": True}, {"eigen_smooth": True}):
        with pytest.raises(AttributeError):
            ours.LayerCAM(network(), [])(pictures, **options)
    assert calls == [
        ("layercam", {}),
        ("layercam", {"aug_smooth": True}),
        ("layercam", {"eigen_smooth": True}),
    ]


def test_batch_sizes_and_what_is_not_here(pictures):
    model = network()
    batch_sizes = []
    original = ours.attribute

    def spied(*arguments, **options):
        batch_sizes.append(options["batch_size"])
        return original(*arguments, **options)

    ours.attribute = spied
    try:
        ours.AblationCAM(model, [model[4]], batch_size=5)(pictures[:1])
        score = ours.ScoreCAM(model, [model[4]])
        score.batch_size = 3
        score(pictures[:1])
    finally:
        ours.attribute = original
    assert batch_sizes == [5, 3]
    with pytest.raises(cam.MethodError, match="ratio_channels_to_ablate must be 1"):
        ours.AblationCAM(model, [model[4]], ratio_channels_to_ablate=0.5)
    with pytest.raises(cam.InputError, match="input_tensor is a tensor, not list"):
        ours.GradCAM(model, [model[4]])([1])
    with pytest.raises(cam.LayerError):
        ours.GradCAM(model, [nn.ReLU()])(pictures)


def test_classes_reach_the_methods_as_classes():
    """So that methods that ask for a class can be used with their targets."""
    made = [model_targets.ClassifierOutputTarget(3), model_targets.ClassifierOutputTarget(1)]
    assert ours._plain_targets(made) == [3, 1]
    mixed = [made[0], model_targets.RawScoresOutputTarget()]
    assert ours._plain_targets(mixed) == mixed


@pytest.mark.parametrize("use_rgb", [False, True])
@pytest.mark.parametrize("weight", [0.5, 0.2, 0.0])
@pytest.mark.parametrize(
    "colormap", [cv2.COLORMAP_JET, cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_TURBO, cv2.COLORMAP_INFERNO]
)
def test_show_cam_on_image(use_rgb, weight, colormap):
    generator = np.random.default_rng(0)
    picture = generator.random((16, 16, 3), np.float32)
    mask = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    options = {"use_rgb": use_rgb, "colormap": colormap, "image_weight": weight}
    actual = image.show_cam_on_image(picture, mask, **options)
    expected = their_image.show_cam_on_image(picture, mask, **options)
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"img": np.full((4, 4, 3), 255.0)}, "must be floats in \\[0, 1\\], but reaches 255"),
        ({"mask": np.zeros((5, 4))}, "must be of one size, but have shapes"),
        ({"image_weight": 1.5}, "image_weight must lie in \\[0, 1\\], but is 1.5"),
        ({"colormap": 3}, "there is no colour map 3 here; known: 2 \\(jet\\), 13 \\(magma\\)"),
    ],
)
def test_show_cam_on_image_refuses(change, sentence):
    arguments = {"img": np.zeros((4, 4, 3)), "mask": np.zeros((4, 4)), **change}
    with pytest.raises(cam.InputError, match=sentence):
        image.show_cam_on_image(**arguments)


def test_reshape_transforms():
    tokens = torch.randn(2, 13, 5)
    actual = reshape_transforms.vit_reshape_transform(tokens, 3, 4)
    assert torch.equal(actual, their_transforms.vit_reshape_transform(tokens, 3, 4))
    actual = reshape_transforms.swinT_reshape_transform(tokens[:, 1:], 3, 4)
    assert torch.equal(actual, their_transforms.swinT_reshape_transform(tokens[:, 1:], 3, 4))
