"""N maps from one forward pass are those of N calls."""

import pytest
import torch
from torch import nn

import cam
from cam.targets import Box
from tests.support.detectors import GridHead, make_pictures, make_torchvision

METHODS = ("gradcam", "layercam", "eigengradcam", "saliency", "guided_backprop")


class Classifier(nn.Module):
    """Counts its forward passes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2))
        self.head = nn.Linear(8, 5)
        self.forwards = 0

    def forward(self, pixels):
        self.forwards += 1
        return self.head(self.features(pixels).mean((2, 3)))


def assert_alike(together, alone, number, tolerance=1e-5):
    for name, attribution in together.items():
        for field in ("raw", "heatmap", "scores"):
            actual, expected = getattr(attribution, field)[number], getattr(alone[name], field)[0]
            if field == "scores":
                assert abs(float(actual - expected)) <= 5e-6, name
            else:
                assert (actual - expected).norm() <= tolerance * expected.norm(), (name, field)


def test_classes_of_an_image_share_its_forward():
    network, pictures = Classifier().eval(), make_pictures(3)
    targets = [[4, 0, 2], [1], [3, 3]]
    network.forwards = 0
    together = cam.attribute(network, pictures, METHODS[:4], targets, layers="features")
    assert network.forwards == 1
    assert together["gradcam"].heatmap.shape == (6, 64, 64)
    assert together["gradcam"].targets.tolist() == [4, 0, 2, 1, 3, 3]
    pairs = [(image, target) for image, several in enumerate(targets) for target in several]
    for number, (image, target) in enumerate(pairs):
        alone = cam.attribute(
            network, pictures[image : image + 1], METHODS[:4], target, layers="features"
        )
        assert_alike(together, alone, number)
    assert together["gradcam"].raw.std(0).max() > 0


@pytest.mark.parametrize("name", ["faster r-cnn", "retinanet", "grid"])
def test_boxes_of_an_image_share_its_forward(name):
    network = GridHead().eval() if name == "grid" else make_torchvision(name)
    pictures = make_pictures()
    detections = cam.Model(network).detect(pictures, 0)
    targets = [detections[0][:4], detections[1][1:3]]
    together = cam.attribute(network, pictures, METHODS, targets)
    assert len(together["saliency"].raw) == 6
    assert len({tuple(map_.flatten().tolist()) for map_ in together["saliency"].raw}) > 1
    pairs = [(image, box) for image, several in enumerate(targets) for box in several]
    for number, (image, box) in enumerate(pairs):
        alone = cam.attribute(network, pictures[image : image + 1], METHODS, [box])
        # Beside another image fifty layers round otherwise, and regions move with their boxes.
        assert_alike(together, alone, number, 2e-3)
    single = cam.attribute(network, pictures[:1], METHODS, [targets[0]])
    for number, box in enumerate(targets[0]):
        alone = cam.attribute(network, pictures[:1], METHODS, [box])
        assert_alike(single, alone, number, 1e-4)


def test_methods_with_further_passes_get_each_target():
    network, pictures = Classifier().eval(), make_pictures(2)
    methods = [
        cam.method("occlusion", window=32, stride=32),
        cam.method("integrated_gradients", steps=3),
        cam.method("scorecam"),
        cam.method("gradcam", aug_smooth=True),
    ]
    together = cam.attribute(network, pictures, methods, [[0, 1], [2]], layers="features")
    for number, (image, target) in enumerate([(0, 0), (0, 1), (1, 2)]):
        alone = cam.attribute(
            network, pictures[image : image + 1], methods, target, layers="features"
        )
        assert_alike(together, alone, number)


def test_methods_of_attention_get_each_target(vit):
    together = cam.attribute(vit, make_vit_pictures(), ["legrad", "saliency"], [[0, 1], [2]])
    for number, (image, target) in enumerate([(0, 0), (0, 1), (1, 2)]):
        alone = cam.attribute(
            vit, make_vit_pictures()[image : image + 1], ["legrad", "saliency"], target
        )
        assert_alike(together, alone, number)


@pytest.fixture(scope="module")
def vit():
    import timm

    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, num_classes=4, weight_init=""
    ).eval()


def make_vit_pictures():
    return make_pictures(2)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ([[1], 2], "targets mixes lists with single targets"),
        ([[1]], "1 lists of targets were given for 2 images"),
        ([[1], []], "image 1 has an empty list of targets"),
        ([[1], [9]], "target 9 is out of range"),
        ([[1], [Box((0, 0, 1, 1))]], "targets mixes callables with classes"),
        ([1, 2, 3], "or a list of them for each"),
    ],
    ids=str,
)
def test_refuses_in_a_sentence(targets, sentence):
    with pytest.raises(cam.TargetError, match=sentence):
        cam.attribute(Classifier().eval(), make_pictures(2), "saliency", targets)
