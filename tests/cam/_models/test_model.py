"""Models by name: the bundled one, labels, preprocessing, layers."""

import re
import socket
import time
from functools import cache

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from timm.data import create_transform
from torch import nn
from torchvision import transforms

import cam


@cache
def built(name: str) -> cam.Model:
    """A model with random weights, built once."""
    torch.manual_seed(0)
    return cam.load_model(name, weights=None)


def drawn(name: str) -> cam.Model:
    """A model's structure without memory for its weights, for what needs no forward pass."""
    with torch.device("meta"):
        return cam.load_model(name, weights=None)


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    assert not re.search(r"[.!?] [A-Z]", text), "more than one sentence"
    return text


def test_predict_gives_probabilities(bundled, batch):
    chances = bundled.predict(batch)
    with torch.no_grad():
        exponents = bundled.module(batch).double().exp()
    assert torch.allclose(chances.double(), exponents / exponents.sum(1, keepdim=True), atol=1e-6)


# By name


def test_every_classifier_has_a_name():
    names = cam.model_names()
    assert names[0] == "efficientnet_lite0"
    assert len(set(names)) == len(names)
    named = set(names)
    for weights in torchvision.models.list_models(module=torchvision.models):
        assert f"torchvision/{weights}" in named
    for tagged in timm.list_models(pretrained=True):
        assert f"timm/{tagged}" in named
    for name in ("timm/resnet18", "timm/convnext_tiny.fb_in22k_ft_in1k", "torchvision/resnet50"):
        assert name in named


@pytest.mark.parametrize(
    ("name", "kind", "head", "size"),
    [
        ("torchvision/resnet18", "ResNet", "fc", 224),
        ("torchvision/mobilenet_v3_small", "MobileNetV3", "classifier.3", 224),
        ("torchvision/densenet121", "DenseNet", "classifier", 224),
        ("torchvision/inception_v3", "Inception3", "fc", 299),
        ("torchvision/squeezenet1_1", "SqueezeNet", "classifier.1", 224),
        ("timm/resnet18", "ResNet", "fc", 224),
        ("timm/test_vit", "VisionTransformer", "head", 160),
        ("timm/test_convnext", "ConvNeXt", "head.fc", 160),
        ("timm/resnet18.a1_in1k", "ResNet", "fc", 224),
    ],
)
def test_a_named_model_is_what_its_name_says(name, kind, head, size):
    # timm makes tensors for its transform, which need memory too.
    model = built(name) if name.startswith("timm") else drawn(name)
    assert type(model.module).__name__ == kind
    assert model.name == name
    assert not any(child.training for child in model.module.modules())
    assert model.labels is not None
    last = model.module.get_submodule(head)
    assert getattr(last, "out_features", None) or last.out_channels == len(model.labels)
    assert model.transform(Image.new("RGB", (500, 400))).shape == (3, size, size)


def test_a_model_runs_on_what_it_prepares():
    model = built("timm/test_resnet")
    logits = model.module(model.prepare([cam.sample("coffee"), Image.new("RGB", (300, 90))]))
    assert logits.shape == (2, 1000)


def test_the_preprocessing_is_the_weights_own():
    """Other sizes, interpolation and statistics than the usual ones."""
    photo = cam.sample("rocket")
    weights = torchvision.models.EfficientNet_B0_Weights.DEFAULT
    ours = drawn("torchvision/efficientnet_b0").transform(photo)
    assert torch.equal(ours, weights.transforms()(photo))
    config = timm.data.resolve_data_config(model=timm.create_model("test_vit"))
    assert (config["mean"], config["interpolation"]) == ((0.5, 0.5, 0.5), "bicubic")
    truth = create_transform(**config)(photo)
    assert torch.equal(built("timm/test_vit").transform(photo), truth)


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("resnet18", "'timm/resnet18'"),
        ("torchvision/resnt18", "'torchvision/resnet18'"),
        ("efficientnet-lite0", "'efficientnet_lite0'"),
        ("TORCHVISION/resnet18", "'torchvision/resnet18'"),
        ("timm/resnet18.a1_in2k", "'timm/resnet18.a1_in1k'"),
        ("", "known: efficientnet_lite0"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name, close):
    with pytest.raises(cam.ModelError) as caught:
        cam.load_model(name)
    message = one_sentence(caught)
    assert message.startswith(f"there is no model {name!r}")
    assert close in message


@pytest.fixture
def empty_caches(monkeypatch, tmp_path):
    """No weights that an earlier download left on this machine, and no proxy."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)


@pytest.fixture(params=["no-name-server", "silence"])
def broken_network(request, monkeypatch, empty_caches):
    """Names cannot be looked up; or packets go out, nothing comes back, and only patience ends."""

    def no_name(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    def no_answer(_address: object, timeout: object = None, *_more: object, **_o: object) -> None:
        if not isinstance(timeout, int | float) or timeout > 10:
            pytest.fail(f"this would wait {timeout} seconds")
        raise TimeoutError("timed out")

    if request.param == "silence":
        monkeypatch.setattr(socket, "create_connection", no_answer)
    else:
        monkeypatch.setattr(socket, "getaddrinfo", no_name)
    return {"silence": "timed out", "no-name-server": "name resolution"}[request.param]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/resnet18", "timm/vgg11"])
def test_without_a_network_one_sentence_says_what_to_do(name, broken_network, capfd):
    start = time.perf_counter()
    with pytest.raises(cam.ModelError) as caught:
        cam.load_model(name)
    assert time.perf_counter() - start < 10
    message = one_sentence(caught)
    assert message.startswith(f"the weights of {name} could not be downloaded")
    assert broken_network in message
    assert "or use random ones" in message
    assert capfd.readouterr() == ("", "")


def test_weights_that_were_never_published_are_told_of():
    with pytest.raises(cam.ModelError) as caught:
        cam.load_model("timm/cspresnet50d")
    assert "has no published weights; give a file of weights, or use random ones" in one_sentence(
        caught
    )


# Labels


def test_labels_and_indices(bundled):
    for index, label in ((281, "tabby"), (285, "Egyptian cat"), (967, "espresso"), (0, "tench")):
        assert bundled.label(index) == label
        assert bundled.class_index(label) == index
    assert bundled.class_index("TIGER cat") == 282


def test_an_unknown_label_is_told_the_nearest(bundled):
    with pytest.raises(cam.TargetError) as caught:
        bundled.class_index("egiptian cat")
    assert "'Egyptian cat'" in one_sentence(caught)


def test_labels_that_differ_in_case_only(bundled):
    """In ImageNet, Cardigan is a dog and cardigan is a jacket."""
    assert bundled.class_index("Cardigan") == 264
    assert bundled.class_index("cardigan") == 474
    with pytest.raises(cam.TargetError) as caught:
        bundled.class_index("CARDIGAN")
    assert "[264, 474]" in one_sentence(caught)


def test_a_label_of_two_classes_is_refused():
    model = cam.Model(nn.Conv2d(3, 3, 1), labels=["crane", "heron", "crane"])
    with pytest.raises(cam.TargetError) as caught:
        model.class_index("crane")
    assert "[0, 2]" in one_sentence(caught)


def test_a_model_without_labels():
    model = cam.Model(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(4, 2)))
    assert model.labels is None
    assert model.label(7) == "class 7"
    with pytest.raises(cam.TargetError) as caught:
        model.class_index("tabby")
    assert "no labels" in one_sentence(caught)


def test_a_model_of_a_larger_imagenet_has_its_own_labels():
    model = drawn("timm/vit_tiny_patch16_224.augreg_in21k")
    assert len(model.labels) == model.module.num_classes == 21_843
    assert len(set(model.labels)) > 20_000


# The part of a picture that is seen


def ramp(width: int, height: int) -> Image.Image:
    """Red says how far right a pixel lies, green how far down."""
    values = np.zeros((height, width, 3), np.uint8)
    values[..., 0] = np.linspace(0, 255, width)
    values[..., 1] = np.linspace(0, 255, height)[:, None]
    return Image.fromarray(values)


def transform_pixels(transform: object, image: Image.Image) -> np.ndarray:
    """What the transform keeps, without its normalisation: (H, W, 3) in [0, 255]."""
    steps = [step for step in transform.transforms if type(step).__name__ != "Normalize"]
    return transforms.Compose(steps)(image).permute(1, 2, 0).numpy() * 255


SIZES = [(451, 300), (300, 451), (256, 256), (224, 224), (1200, 40), (40, 1200), (57, 33)]


@pytest.mark.parametrize(("width", "height"), SIZES, ids=lambda side: str(side))
def test_the_crop_shows_what_the_model_sees(bundled, width, height):
    photo = ramp(width, height)
    pixels = transform_pixels(bundled.transform, photo)
    crop = bundled.crop(photo)
    small = np.asarray(crop.resize((224, 224), Image.Resampling.BILINEAR)).astype(float)
    # A crop ends between pixels: half a pixel of the photo, in steps of the ramp.
    step = 255 / (np.array([width, height]) - 1)
    difference = np.abs(small - pixels)[..., :2].mean((0, 1))
    assert (difference <= 0.5 * step + 1.5).all()
    assert abs(crop.width - crop.height) <= 1


def test_the_crop_of_a_photo_by_hand(bundled):
    """451 × 300: 224 of 256 pixels of the short side are 262.5 of 300."""
    photo = cam.sample("chelsea")
    assert photo.size == (451, 300)
    truth = photo.crop((94, 19, 357, 281))
    assert np.array_equal(np.asarray(bundled.crop(photo)), np.asarray(truth))


@pytest.mark.filterwarnings("ignore::cam.CamWarning")
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (2, 3), (3, 150)], ids=str)
def test_the_crop_of_a_tiny_picture_is_never_empty(bundled, size):
    photo = ramp(*size)
    crop = bundled.crop(photo)
    width, height = crop.size
    assert 1 <= width <= size[0]
    assert 1 <= height <= size[1]
    assert max(width, height) <= min(size) + 1
    # It is the middle: as much is missing left as right, above as below, to a pixel.
    values = np.asarray(crop)[..., :2].astype(float)
    ends = values[0, 0] + values[-1, -1]
    steps = 255 / (np.maximum(size, 2) - 1)
    assert (np.abs(ends - 255)[np.array(size) > 1] <= steps[np.array(size) > 1] + 1).all()


@pytest.mark.parametrize(
    ("steps", "box"),
    [
        ([transforms.Resize((64, 64)), transforms.CenterCrop(32)], (50, 25, 150, 75)),
        ([transforms.Resize((64, 64))], (0, 0, 200, 100)),
        ([transforms.CenterCrop((60, 80))], (60, 20, 140, 80)),
        ([transforms.Resize(50), transforms.CenterCrop((40, 80))], (20, 10, 180, 90)),
        ([], (0, 0, 200, 100)),
    ],
    ids=["squash-and-crop", "squash", "crop", "wide-crop", "nothing"],
)
def test_the_crop_of_other_transforms(steps, box):
    photo = ramp(200, 100)
    model = cam.Model(nn.Conv2d(3, 4, 3), transforms.Compose([*steps, transforms.ToTensor()]))
    assert np.array_equal(np.asarray(model.crop(photo)), np.asarray(photo.crop(box)))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_the_crop_of_timms_modes(mode):
    """Where the geometry cannot be read (border pads), it is the transformed picture itself."""
    transform = create_transform((3, 64, 64), crop_pct=0.8, crop_mode=mode)
    photo = ramp(200, 100)
    crop = cam.Model(nn.Conv2d(3, 4, 3), transform).crop(photo)
    pixels = transform_pixels(transform, photo)
    small = np.asarray(crop.resize((64, 64), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(small - pixels).mean() <= (0.51 if mode == "border" else 2)


def test_the_crop_of_a_padding_or_unknown_transform_is_the_transformed_picture():
    photo = ramp(50, 40)
    padded = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])

    def mirrored(image: Image.Image) -> torch.Tensor:
        return transforms.functional.to_tensor(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))

    for transform in (padded, mirrored):
        crop = cam.Model(nn.Conv2d(3, 4, 3), transform).crop(photo)
        truth = transform(photo).permute(1, 2, 0).numpy() * 255
        assert np.abs(np.asarray(crop) - truth).max() <= 0.5


def test_prepare_refuses_what_makes_no_batch(bundled):
    with pytest.raises(cam.InputError) as caught:
        bundled.prepare([])
    assert "at least one" in one_sentence(caught)
    loose = cam.Model(bundled.module, transforms.ToTensor())
    with pytest.raises(cam.InputError) as caught:
        loose.prepare([ramp(40, 40), ramp(50, 40)])
    assert "(3, 40, 40), (3, 40, 50)" in one_sentence(caught)


def test_what_is_no_module_is_refused():
    with pytest.raises(cam.ModelError) as caught:
        cam.Model("resnet18")
    assert "not str" in one_sentence(caught)


# Layers


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("torchvision/resnet18", "layer4"),
        ("torchvision/mobilenet_v3_small", "features"),
        ("torchvision/densenet121", "features"),
        ("torchvision/convnext_tiny", "features"),
        ("torchvision/vgg11", "features"),
        ("torchvision/vgg16_bn", "features"),
        ("torchvision/alexnet", "features"),
        ("torchvision/googlenet", "inception5b"),
        ("torchvision/inception_v3", "Mixed_7c"),
        ("torchvision/shufflenet_v2_x0_5", "conv5"),
        ("torchvision/mnasnet0_5", "layers"),
        ("timm/resnet18", "layer4"),
        ("timm/test_convnext", "stages"),
        ("timm/vgg11", "features"),
        ("timm/tf_efficientnet_b0", "bn2"),
    ],
)
def test_the_preset_layer(name, layer):
    assert drawn(name).layers == (layer,)


@pytest.mark.parametrize(
    ("name", "layer"), [("shufflenet_v2_x0_5", "net.conv5"), ("resnet18", "net.layer4")]
)
def test_the_preset_of_a_wrapped_model_lies_inside(name, layer):
    """The wrapper holds the classifier too, so its own output has no maps."""

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torchvision.models.get_model(name, weights=None)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.net(pixels)

    assert cam.Model(Wrapper().eval()).layers == (layer,)


def inputs_of_classifier(module: nn.Module, batch: torch.Tensor, preset: str) -> tuple:
    """The preset's maps, and what goes into the first linear layer."""
    tensors = {}
    linear = next(
        child
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and not name.startswith("aux")
    )
    handles = [
        module.get_submodule(preset).register_forward_hook(
            lambda _module, _inputs, output: tensors.update(maps=output)
        ),
        linear.register_forward_pre_hook(lambda _module, inputs: tensors.update(vector=inputs[0])),
    ]
    with torch.no_grad():
        module(batch)
    for handle in handles:
        handle.remove()
    return tensors["maps"], tensors["vector"]


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_lite0",
        "torchvision/resnet18",
        "torchvision/mobilenet_v3_small",
        "torchvision/shufflenet_v2_x0_5",
        "torchvision/mnasnet0_5",
        "torchvision/googlenet",
        "torchvision/regnet_y_400mf",
        "timm/resnet18",
        "timm/test_resnet",
        "timm/test_efficientnet",
    ],
)
def test_the_preset_is_what_the_classifier_pools(name):
    """The mean of its maps is the vector that goes into the classifier."""
    model = built(name)
    assert len(model.layers) == 1
    photo = model.prepare(cam.sample("coffee"))
    maps, vector = inputs_of_classifier(model.module, photo, model.layers[0])
    assert maps.shape[-1] > 1
    assert torch.allclose(maps.mean((2, 3)), vector, rtol=1e-4, atol=1e-6)


def test_a_model_without_maps_says_so():
    model = cam.Model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 2)))
    with pytest.raises(cam.LayerError) as caught:
        _ = model.layers
    message = one_sentence(caught)
    assert "Sequential has no layer with maps of the image" in message
    assert "'saliency'" in message


def test_a_model_that_cannot_take_its_own_pictures_says_so():
    model = cam.Model(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    with pytest.raises(cam.LayerError) as caught:
        _ = model.layers
    assert "no layer was found" in one_sentence(caught)


def test_layers_by_name_and_by_module(bundled):
    network = bundled.module
    by_both = cam.Model(network, layers=["blocks.3", network.blocks[5], "blocks.3"])
    assert by_both.layers == ("blocks.3", "blocks.5")


@pytest.mark.parametrize(
    ("layers", "phrase"),
    [
        ("blocks.33", "'blocks.3'"),
        ([], "at least one"),
        (nn.Conv2d(3, 4, 1), "the given Conv2d is not a layer of this model"),
        ([7], "not int"),
    ],
    ids=["misspelt", "none", "of-another-model", "number"],
)
def test_a_layer_that_does_not_exist_is_refused(bundled, layers, phrase):
    with pytest.raises(cam.LayerError) as caught:
        cam.Model(bundled.module, layers=layers)
    assert phrase in one_sentence(caught)


@pytest.mark.parametrize(
    "name",
    # A ResNet's blocks use their ReLU twice: it is listed where it ran last.
    ["torchvision/shufflenet_v2_x0_5", "timm/test_resnet", "torchvision/resnet18"],
)
def test_feature_layers_have_the_shapes_that_hooks_see(name):
    model = built(name)
    shapes = {}

    def hook(child_name: str):
        def record(_module, _inputs, output):
            shapes.pop(child_name, None)
            shapes[child_name] = tuple(output.shape)

        return record

    handles = [
        child.register_forward_hook(hook(child_name))
        for child_name, child in model.module.named_modules()
        if child_name
    ]
    with torch.no_grad():
        model.module(model.prepare(cam.sample("coffee")))
    for handle in handles:
        handle.remove()
    children = dict(model.module.named_modules())
    maps = {
        child_name: shape[1:]
        for child_name, shape in shapes.items()
        if len(shape) == 4
        and shape[2] * shape[3] > 1
        and not isinstance(children[child_name], nn.Identity | nn.Dropout)
    }
    layers = model.feature_layers
    assert [(layer.name, layer.shape) for layer in layers] == list(maps.items())
    assert all(layer.kind == type(children[layer.name]).__name__ for layer in layers)


def test_feature_layers_leave_the_model_as_it_was():
    model = cam.Model(torchvision.models.shufflenet_v2_x0_5(weights=None))
    model.module.train()
    model.module.stage2.eval()
    state = {name: value.clone() for name, value in model.module.state_dict().items()}
    modes = [child.training for child in model.module.modules()]
    assert any(layer.name == "stage2" for layer in model.feature_layers)
    assert [child.training for child in model.module.modules()] == modes
    assert not any(child._forward_hooks for child in model.module.modules())
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_raw_scores_are_the_modules_and_leave_it_as_it_was():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Dropout(0.5), nn.Linear(4, 3))
    model, batch = cam.Model(module), torch.randn(5, 3, 2, 2)
    scores = model.score(batch)
    first, last = module[1], module[3]
    hidden = batch.flatten(1).double() @ first.weight.double().T + first.bias.double()
    expected = hidden @ last.weight.double().T + last.bias.double()
    torch.testing.assert_close(scores.double(), expected.detach(), atol=1e-5, rtol=1e-5)
    assert scores.dtype == torch.float32 and not scores.requires_grad and module.training
    torch.testing.assert_close(model.predict(batch), scores.softmax(1))
    half = cam.Model(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).bfloat16())
    assert half.score(batch.bfloat16()).dtype == torch.float32
