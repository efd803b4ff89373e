"""Maps worked out by hand, and on real photos."""

import pytest
import torch
from torch import nn

import cam


class Toy(nn.Module):
    """1 channel → feature maps (x, -x) by a 1 × 1 convolution → one weight a position and class."""

    def __init__(self, weights: torch.Tensor, stride: int = 1) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, stride=stride, bias=False)
        self.features.weight.data = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1)
        self.head = nn.Linear(weights.shape[1], weights.shape[0], bias=False)
        self.head.weight.data = weights
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).flatten(1))


# The gradient of class 0 by the maps is its row of weights: means 2.5 and -1, so the map is
# 2.5·x - 1·(-x) = 3.5·x. Class 1: means -1 and 0, so the map is -x.
WEIGHTS = torch.tensor([[1.0, 2, 3, 4, -1, 0, 0, -3], [-1.0, -1, -1, -1, 0, 0, 0, 0]])
PICTURE = torch.tensor([[[[1.0, -2], [0, 4]]]])


def test_gradcam_by_hand():
    attribution = cam.attribute(Toy(WEIGHTS), PICTURE, "gradcam", targets=0, layers="features")[
        "gradcam"
    ]
    assert attribution.raw.tolist() == [[[3.5, -7.0], [0.0, 14.0]]]
    # ReLU, then min-max: 3.5 / 14.
    assert torch.allclose(attribution.heatmap, torch.tensor([[[0.25, 0], [0, 1]]]), atol=1e-6)
    # 1·1 + 2·(-2) + 3·0 + 4·4 for the map x, -1·(-1) + -3·(-4) for the map -x.
    assert attribution.scores.tolist() == [26.0]
    assert attribution.logits.tolist() == [[26.0, -3.0]]
    assert attribution.targets.tolist() == [0]
    assert (attribution.layers, attribution.method) == (("features",), "gradcam")


def test_upsampling_by_hand():
    """A 2 × 2 map on a 4 × 4 input: centres at half pixels, so weights of 3/4 and 1/4."""
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, ::2, ::2] = torch.tensor([[0.0, 0], [0, 4]])
    model = Toy(WEIGHTS, stride=2)
    attribution = cam.attribute(model, picture, "gradcam", targets=0, layers="features")["gradcam"]
    edge = torch.tensor([0, 0.25, 0.75, 1.0])
    assert torch.allclose(attribution.heatmap[0], torch.outer(edge, edge), atol=1e-6)


def test_saliency_by_hand():
    """Class 0: by x the score changes by (1, 2, 3, 4) - (-1, 0, 0, -3) = (2, 2, 3, 7)."""
    attribution = cam.attribute(Toy(WEIGHTS), PICTURE, "saliency", targets=0)["saliency"]
    assert attribution.raw.tolist() == [[[2.0, 2.0], [3.0, 7.0]]]
    assert torch.allclose(attribution.heatmap, torch.tensor([[[0, 0], [0.2, 1]]]), atol=1e-6)
    assert attribution.layers == ()


def test_saliency_takes_the_largest_channel_whatever_its_sign():
    mix = nn.Conv2d(3, 1, 1, bias=False)
    mix.weight.data = torch.tensor([1.0, -5, 3]).reshape(1, 3, 1, 1)
    model = nn.Sequential(mix, nn.Flatten(), nn.Linear(4, 2, bias=False)).eval()
    model[2].weight.data = torch.tensor([[1.0, 2, 0, -1], [0, 0, 0, 0]])
    attribution = cam.attribute(model, torch.rand(1, 3, 2, 2), "saliency", targets=0)["saliency"]
    assert attribution.raw.tolist() == [[[5.0, 10.0], [0.0, 5.0]]]


def test_evidence_against_the_target_gives_a_zero_map_and_says_so():
    picture = PICTURE.abs()
    attribution = cam.attribute(Toy(WEIGHTS), picture, "gradcam", targets=1, layers="features")[
        "gradcam"
    ]
    assert attribution.raw.max() <= 0 and attribution.raw.min() == -4
    assert attribution.heatmap.abs().max() == 0
    [(image, sentence)] = attribution.notes()
    assert image == 0 and "speaks against" in sentence


# (left, top, right, bottom) in the 224 × 224 that the model sees, drawn by eye around the object.
OBJECTS = {
    "chelsea": (30, 50, 215, 212),  # eyes to muzzle: 60 % of the picture, holds 73 % of the map
    "coffee": (25, 0, 190, 140),  # the cup: 46 %, holds 79 %
    "rocket": (75, 55, 155, 224),  # 27 %, holds 48 %
    "motorcycle_left": (0, 55, 224, 190),  # 60 %, holds 89 %
}


@pytest.mark.parametrize("name", OBJECTS)
def test_the_evidence_is_where_the_object_is(bundled, name):
    left, top, right, bottom = OBJECTS[name]
    share_of_area = (right - left) * (bottom - top) / 224**2
    maps = cam.attribute(bundled, bundled.prepare(cam.sample(name)))
    for method, at_least in {"gradcam": 1.2, "saliency": 1.0}.items():
        heatmap = maps[method].heatmap[0]
        share_of_mass = float(heatmap[top:bottom, left:right].sum() / heatmap.sum())
        assert share_of_mass > at_least * share_of_area, method


def test_another_class_is_explained_elsewhere(bundled):
    """The ashcan has its evidence on other pixels of the motorcycle photo than the moped."""
    batch = bundled.prepare([cam.sample("motorcycle_left")] * 2)
    attribution = cam.attribute(bundled, batch, "gradcam", targets=["moped", "bookcase"])["gradcam"]
    assert [bundled.label(index) for index in attribution.targets.tolist()] == ["moped", "bookcase"]
    first, other = attribution.heatmap
    assert torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1] < 0.5


def test_shapes_and_ranges(bundled, batch):
    for name, attribution in cam.attribute(bundled, batch).items():
        assert attribution.method == name
        assert (
            attribution.heatmap.shape == (3, 224, 224)
            and attribution.heatmap.dtype == torch.float32
        )
        assert attribution.heatmap.amin((1, 2)).tolist() == [0, 0, 0]
        assert torch.allclose(attribution.heatmap.amax((1, 2)), torch.ones(3), atol=1e-5)
        assert attribution.raw.dtype == torch.float32
        assert not attribution.heatmap.requires_grad and not attribution.raw.requires_grad
        assert torch.equal(attribution.targets, bundled.predict(batch).argmax(1))
        assert torch.equal(attribution.scores, attribution.logits.amax(1))


def test_a_batch_gives_what_its_images_give_one_by_one(bundled, batch):
    together = cam.attribute(bundled, batch)
    for index, picture in enumerate(batch):
        alone = cam.attribute(bundled, picture[None])
        for name in together:
            difference = together[name].heatmap[index] - alone[name].heatmap[0]
            assert difference.abs().max() < 1e-4, name


def test_an_image_does_not_change_its_neighbours(bundled, batch):
    """Not even one of NaN: the others keep their bits, and the one is named."""
    broken = batch.clone()
    broken[1] = torch.nan
    with pytest.warns(cam.CamWarning, match="map of image 1 is NaN"):
        with_nan = cam.attribute(bundled, broken)
    without = cam.attribute(bundled, batch)
    for name, attribution in with_nan.items():
        assert attribution.heatmap[1].isnan().all()
        for index in (0, 2):
            assert torch.equal(attribution.heatmap[index], without[name].heatmap[index]), name


def test_the_same_inputs_give_the_same_bits(bundled, batch):
    first, second = cam.attribute(bundled, batch), cam.attribute(bundled, batch)
    for name in first:
        assert torch.equal(first[name].heatmap, second[name].heatmap)
        assert torch.equal(first[name].raw, second[name].raw)


def test_one_method_gives_what_it_gives_among_several(bundled, batch):
    both = cam.attribute(bundled, batch)
    alone = cam.attribute(bundled, batch, "gradcam")
    assert list(both) == ["gradcam", "saliency"] and list(alone) == ["gradcam"]
    assert (both["gradcam"].heatmap - alone["gradcam"].heatmap).abs().max() < 1e-5


def test_flipping_the_picture_flips_the_map():
    """On a network that treats left and right alike the explanation must too."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    convolution.weight.data = convolution.weight.data + convolution.weight.data.flip(-1)
    model = nn.Sequential(
        convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()
    picture = torch.rand(1, 3, 16, 16)
    straight = cam.attribute(model, picture, targets=2)
    mirrored = cam.attribute(model, picture.flip(-1), targets=2)
    for name in straight:
        assert torch.allclose(straight[name].heatmap.flip(-1), mirrored[name].heatmap, atol=1e-5)


def test_on_a_pooled_linear_head_gradcam_is_cam():
    """Zhou et al. 2016: with global average pooling and a linear layer, w_c is the layer's weight.

    Grad-CAM's weight is the mean gradient, which there is that weight divided by h·w.
    """
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)).eval()
    picture = torch.rand(2, 3, 12, 12)
    attribution = cam.attribute(model, picture, "gradcam", targets=[1, 3], layers="0")["gradcam"]
    weights = model[3].weight[[1, 3]]  # (B, C)
    expected = torch.einsum("bc,bchw->bhw", weights, features(picture)) / (10 * 10)
    assert torch.allclose(attribution.raw, expected, atol=1e-6)


def test_methods_are_described():
    described = cam.methods()
    assert {"gradcam", "saliency"} <= set(described)
    for info in described.values():
        assert info.citation and info.cost and info.description.endswith(".")
    assert described["gradcam"].layer and not described["saliency"].layer
