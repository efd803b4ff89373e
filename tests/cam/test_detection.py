"""Detections as targets: torchvision's detectors with random weights, against plain autograd."""

import numpy as np
import pytest
import pytorch_grad_cam as theirs
import torch
from pytorch_grad_cam.utils import model_targets as their_targets
from torch import nn
from torchvision.models import detection
from torchvision.ops import box_iou

import cam
import cam.compat.pytorch_grad_cam as compat
from cam.compat.pytorch_grad_cam.utils import model_targets
from cam.targets import Box

SMALL = {
    "weights": None,
    "weights_backbone": None,
    "num_classes": 5,
    "min_size": 64,
    "max_size": 64,
}


@pytest.fixture(scope="module", params=["faster r-cnn", "retinanet"])
def detector(request) -> nn.Module:
    torch.manual_seed(0)
    if request.param == "retinanet":
        made = detection.retinanet_resnet50_fpn(**SMALL, score_thresh=0, detections_per_img=20)
    else:
        made = detection.fasterrcnn_resnet50_fpn(
            **SMALL, box_score_thresh=0, box_detections_per_img=20, rpn_post_nms_top_n_test=50
        )
    return made.eval()


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def detections(detector, pictures) -> list:
    with torch.no_grad():
        return detector(pictures)


def make_box(detected, number=3) -> Box:
    """One detection of an image, a little beside where it is."""
    return Box(detected["boxes"][number] + 0.1, int(detected["labels"][number]))


def score(detected, box) -> torch.Tensor:
    """By torchvision's own intersection over union."""
    overlaps = box_iou(torch.tensor([box.box]), detected["boxes"])[0]
    overlaps[detected["labels"] != box.label] = 0
    return detected["scores"][overlaps.argmax()] * (overlaps.max() >= box.overlap)


def near(actual, expected) -> bool:
    return bool((actual - expected).norm() <= 1e-4 * expected.norm())


def test_gradients_of_a_box_are_autograds(detector, pictures, detections):
    targets = [make_box(detected) for detected in detections]
    methods = ["gradcam", "layercam", "saliency"]
    attributions = cam.attribute(detector, pictures, methods, targets, "backbone.body.layer4")
    activations = []
    handle = detector.backbone.body.layer4.register_forward_hook(
        lambda module, inputs, output: activations.append(output)
    )
    pixels = pictures.clone().requires_grad_()
    outputs = detector(pixels)
    handle.remove()
    scores = torch.stack([score(*pair) for pair in zip(outputs, targets, strict=True)])
    by_layer, by_pixels = torch.autograd.grad(scores.sum(), [activations[0], pixels])
    assert near(attributions["gradcam"].scores, scores.detach())
    maps = activations[0].detach()
    expected = (by_layer.mean((2, 3), keepdim=True) * maps).sum(1)
    assert expected[0].std() > 0
    assert near(attributions["gradcam"].raw, expected)
    assert near(attributions["layercam"].raw, (by_layer.relu() * maps).sum(1))
    assert near(attributions["saliency"].raw, by_pixels.abs().amax(1))
    assert all(detected.heatmap.shape == (2, 64, 64) for detected in attributions.values())


def test_a_layer_of_the_pyramid(detector, pictures, detections):
    targets = [make_box(detected) for detected in detections]
    layer = "backbone.fpn.layer_blocks.0"
    attribution = cam.attribute(detector, pictures[:1], "hirescam", targets[:1], layer)["hirescam"]
    assert attribution.raw.shape[1] >= 8
    assert attribution.raw.std() > 0


def test_forward_only_methods_follow_a_box(detector, pictures, detections):
    targets = [make_box(detected) for detected in detections]
    method = cam.method("occlusion", window=32, stride=32)
    actual = cam.attribute(detector, pictures, method, targets)["occlusion"].raw
    for image, box in enumerate(targets):
        whole = score(detections[image], box)
        for row in (0, 32):
            for column in (0, 32):
                hidden = pictures[image : image + 1].clone()
                hidden[:, :, row : row + 32, column : column + 32] = 0
                with torch.no_grad():
                    drop = whole - score(detector(hidden)[0], box)
                assert torch.allclose(actual[image, row + 5, column + 5], drop, atol=1e-5)


def test_a_batch_gives_what_its_images_give(detector, pictures, detections):
    targets = [make_box(detected) for detected in detections]
    together = cam.attribute(detector, pictures, "gradcam", targets)["gradcam"]
    alone = cam.attribute(detector, pictures[1:], "gradcam", targets[1:])["gradcam"]
    assert near(together.raw[1], alone.raw[0])


def test_what_is_not_there_has_a_map_of_zeros(detector, pictures, detections):
    targets = [make_box(detections[0]), Box((0, 0, 1, 1), 1)]
    attributions = cam.attribute(detector, pictures, ["gradcam", "saliency"], targets)
    for attribution in attributions.values():
        assert float(attribution.scores[1]) == 0
        assert not attribution.raw[1].any()
        assert attribution.raw[0].any()
        assert any(
            image == 1 and "zero everywhere" in sentence for image, sentence in attribution.notes()
        )


def test_grad_cams_target_gives_grad_cams_map(detector, pictures, detections):
    """The peer adds the overlap, which is why its target is kept apart from Box."""
    layer = detector.backbone.body.layer4
    made = [
        [
            module.FasterRCNNBoxScoreTarget(
                # Beside the detections, so that the overlap has a gradient.
                detected["labels"][:2].tolist(),
                detected["boxes"][:2].numpy() + 0.5,
            )
            for detected in detections
        ]
        for module in (model_targets, their_targets)
    ]
    actual = compat.GradCAM(detector, [layer])(pictures, made[0])
    expected = theirs.GradCAM(detector, [layer])(pictures, made[1])
    assert expected.std() > 0.01
    assert np.linalg.norm(actual - expected) <= 1e-4 * np.linalg.norm(expected)


OUTPUT = torch.tensor(
    [
        [0, 0, 10, 10, 0.9, 1],
        [0, 0, 10, 8, 0.8, 2],
        [0, 0, 10, 7, 0.7, 2],
        [20, 20, 30, 30, 0.6, 1],
        [-1, -1, -1, -1, -1, -1],
    ]
)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box((0, 0, 10, 10), 1), 0.9),
        (Box((0, 0, 10, 10), 2), 0.8),  # the better of two with the label
        (Box((0, 0, 10, 10), 3), 0),
        (Box([0, 0, 10, 8]), 0.8),  # any label: the best fit, not the best score
        (Box((0, 0, 10, 4), 2), 0.7),  # 4 / 7
        (Box((0, 0, 10, 4), 2, overlap=0.6), 0),
        (Box((0, 0, 10, 5), 1, overlap=0.5), 0.9),  # 0.5 itself counts
        (Box(np.array([20, 20, 30, 30])), 0.6),
        (Box(torch.tensor([40, 40, 50, 50])), 0),
    ],
    ids=str,
)
def test_a_box_by_hand(box, expected):
    output = OUTPUT.clone().requires_grad_()
    score_ = box(output)
    assert score_.item() == pytest.approx(expected)
    (gradient,) = torch.autograd.grad(score_, output)
    assert gradient.sum() == (expected > 0)


def test_no_detection_at_all_scores_zero():
    assert Box((0, 0, 1, 1), 1)(torch.zeros(0, 6)) == 0


class Detector(nn.Module):
    """Two images, one and no detection."""

    def forward(self, pictures):
        score = pictures.mean((1, 2, 3))
        counts = [1, 0]
        return [
            {
                "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]])[:count],
                "labels": torch.tensor([1])[:count],
                "scores": value[None][:count],
            }
            for value, count in zip(score, counts, strict=True)
        ]


def test_images_with_different_numbers_of_detections():
    pictures = torch.rand(2, 3, 6, 4)
    attribution = cam.attribute(
        Detector().eval(), pictures, "saliency", [Box((0, 0, 4, 4), 1)] * 2
    )["saliency"]
    assert torch.allclose(attribution.scores, torch.stack([pictures[0].mean(), torch.tensor(0.0)]))
    assert torch.allclose(attribution.raw[0], torch.full((6, 4), 1 / 72))
    assert not attribution.raw[1].any()
    assert torch.equal(attribution.logits[1], torch.full((1, 6), -1.0))


def test_nothing_detected_in_any_image_is_told(pictures):
    class Blind(Detector):
        def forward(self, pictures):
            return [
                {key: value[:0] for key, value in detected.items()}
                for detected in super().forward(pictures)
            ]

    with pytest.raises(cam.TargetError, match="the model detects nothing in these images"):
        cam.attribute(Blind().eval(), pictures, "saliency", [Box((0, 0, 4, 4), 1)] * 2)


def test_labels_are_looked_up():
    model = cam.Model(Detector().eval(), labels=["background", "cat"])
    attributions = cam.attribute(
        model, torch.rand(2, 3, 6, 4), "saliency", [Box((0, 0, 4, 4), "cat")] * 2
    )
    assert float(attributions["saliency"].scores[0]) > 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Box((0, 0, 1)), "a box is x0, y0, x1, y1 with x0 < x1"),
        (lambda: Box((5, 0, 1, 1)), "but was given as \\[5.0, 0.0, 1.0, 1.0\\]"),
        (lambda: Box((0, 0, 1, 1), 1, 0), "overlap must lie above 0 and up to 1, not 0"),
        (lambda: Box((0, 0, 1, 1), 1)(torch.zeros(5)), "asked of a model that detects objects"),
        (lambda: Box((0, 0, 1, 1), "cat")(OUTPUT), "'cat' means nothing without a model"),
    ],
)
def test_refuses_in_one_sentence(make, sentence):
    with pytest.raises(cam.TargetError, match=sentence):
        make()


def test_a_class_of_a_detector_is_refused(detector, pictures):
    with pytest.raises(cam.TargetError, match=r"say which part.*cam.targets.Box"):
        cam.attribute(detector, pictures[:1], "saliency", 3)
