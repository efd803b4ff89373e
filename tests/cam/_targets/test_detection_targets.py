"""Targets of detectors by hand, and maps of a planted one."""

import pytest
import torch

import cam
from cam.targets import AllDetections, Box, Missed, Region
from tests.support.detectors import Planted, make_pictures, make_torchvision

KINDS = ("final", "queries", "grid")
# Box, score, label, objectness, then three classes.
WITH_CLASSES = torch.tensor(
    [
        [0, 0, 10, 10, 0.9, 1, 0.9, 0.1, 0.9, 0.3],
        [0, 0, 10, 8, 0.6, 2, 0.8, 0.2, 0.5, 0.6],
        [20, 20, 30, 30, 0.7, 0, 0.7, 0.7, 0.1, 0.2],
        [20, 20, 30, 30, 0.8, 0, 0.8, 0.8, 0.1, 0.4],
    ]
)
BARE = WITH_CLASSES[:, :6]


@pytest.mark.parametrize(
    ("target", "with_classes", "bare"),
    [
        (Box((0, 0, 10, 10), 1), 0.9, 0.9),
        (Box((0, 0, 10, 10), 2), 0.3, 0.6),
        (Box((20, 20, 30, 30)), 0.8, 0.8),  # of two equal ones the surest
        (Box((20, 20, 30, 30), 2), 0.4, 0),
        (Box((50, 50, 60, 60), 1), 0, 0),
        (Missed((0, 0, 10, 10), 1), (0.9 * 1 + 0.5 * 0.8) / 1.8, 0.9),
        (Missed((0, 0, 10, 10), 2), (0.3 * 1 + 0.6 * 0.8) / 1.8, 0.6),
        (Missed((0, 0, 10, 10), 2, overlap=0.9), 0.3, 0),
        (Missed((50, 50, 60, 60), 2), 0, 0),
        (Region((4, 4, 26, 26), 1), 0.9 + 0.5 + 0.1 + 0.1, 0.9),
        (Region((4, 4, 6, 4.5)), 0.6, 0.6),
        (Region((24, 24, 26, 26), 2), 0.6, 0),
        (AllDetections(), 0.9 + 0.6 + 0.7 + 0.8, 0.9 + 0.6 + 0.7 + 0.8),
        (AllDetections(1, 0.2), 0.9 + 0.5, 0.9),
        (AllDetections(threshold=0.85), 0.9, 0.9),
    ],
    ids=str,
)
def test_a_target_by_hand(target, with_classes, bare):
    for output, expected in ((WITH_CLASSES, with_classes), (BARE, bare)):
        values = output.double().requires_grad_()
        score = target(values)
        assert score.item() == pytest.approx(expected, abs=1e-6)
        (gradient,) = torch.autograd.grad(score, values)
        # It is linear in the scores, and boxes do not count.
        assert float((gradient * values.detach()).sum()) == pytest.approx(expected, abs=1e-6)
        assert not gradient[:, :4].any()


def test_padding_counts_for_nothing():
    padded = torch.cat([BARE, torch.full((2, 6), -1.0)])
    for target in (Region((-5, -5, 50, 50)), AllDetections(threshold=0), Missed((0, 0, 9, 9), 1)):
        assert float(target(padded)) == pytest.approx(float(target(BARE)))


# Grad-CAM and its like weigh a channel as a whole, so they cannot tell which cell is read.
BY_CHANNEL = ("gradcam", "xgradcam", "gradcam_plus_plus", "scorecam", "ablationcam")
PIXELS = ("saliency", "input_x_gradient", "guided_backprop", "deconvnet")
LOCAL = (
    *map(cam.method, ("hirescam", "layercam", "gradcam_elementwise", "eigengradcam", *PIXELS)),
    cam.method("smoothgrad", samples=4),
    cam.method("integrated_gradients", steps=4),
    cam.method("occlusion", window=8, stride=8),
    cam.method("rise", masks=300, steady=1),
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_lies_on_the_patch_that_is_read(kind):
    network = Planted(kind).eval()
    rows, columns = Planted.PATCH
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) + 0.5
    bright, other = noise.clone(), noise.clone()
    bright[:, :, rows, columns] += 1
    other[:, :, 48:56, 8:16] += 1
    detections = cam.Model(network).detect(noise)[0]
    number = [box.box for box in detections].index(Planted.BOX)
    for target in (detections[number], Missed(Planted.BOX, 1, 0.9)):
        for methods, picture in ((BY_CHANNEL, bright), (LOCAL, other)):
            maps = cam.attribute(network, picture, methods, [target], layers="features")
            for name, attribution in maps.items():
                heatmap = attribution.heatmap[0]
                row, column = divmod(int(heatmap.argmax()), 64)
                near = 4 if name == "rise" else 0
                assert rows.start - near <= row < rows.stop + near, (name, row, column)
                assert columns.start - near <= column < columns.stop + near, (name, row, column)
                if name in PIXELS:
                    inside = float(heatmap[rows, columns].sum())
                    assert inside == pytest.approx(float(heatmap.sum())), name


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_the_sum_of_the_detections(kind):
    network = Planted(kind).eval()
    picture = torch.rand(1, 3, 64, 64) + 0.5
    by_word = cam.attribute(network, picture, "saliency", "all")["saliency"]
    by_target = cam.attribute(network, picture, "saliency", AllDetections())["saliency"]
    assert torch.equal(by_word.raw, by_target.raw)
    for row, column in Planted.CELLS:
        assert by_word.raw[0, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].all()


def test_a_missed_object_is_below_the_detectors_threshold():
    detector = make_torchvision("faster r-cnn")
    pictures = make_pictures(1)
    with torch.no_grad():
        everything = detector(pictures)[0]
    detector.roi_heads.score_thresh = 1.0
    box = everything["boxes"][0]
    target = Missed(box, int(everything["labels"][0]))
    settings = vars(detector.roi_heads).copy()
    with pytest.raises(cam.TargetError, match="the model detects nothing"):
        cam.attribute(detector, pictures, "saliency", [Box(box)])
    maps = cam.attribute(detector, pictures, "saliency", [target])["saliency"]
    # What it finds does not depend on what the detector drops.
    assert float(maps.scores) > 0
    assert maps.raw.any()
    assert vars(detector.roi_heads) == settings
    detector.roi_heads.score_thresh = 0.5
    again = cam.attribute(detector, pictures, "saliency", [target])["saliency"]
    assert torch.equal(again.raw, maps.raw)
    with pytest.raises(cam.CamError):
        cam.attribute(detector, pictures, "saliency", [Missed(box, "cat")])
    assert detector.roi_heads.score_thresh == 0.5


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Missed((5, 0, 1, 1), 1), "a box is x0, y0, x1, y1"),
        (lambda: Missed((0, 0, 1, 1), 1, 2), "overlap must lie above 0"),
        (lambda: Region((0, 0, 1)), "a box is x0, y0, x1, y1"),
        (lambda: Missed((0, 0, 9, 9), 3)(WITH_CLASSES), "the detector has 3 classes, 0 to 2"),
        (lambda: AllDetections("cat")(WITH_CLASSES), "means nothing without a model"),
        (lambda: Region((0, 0, 1, 1))(torch.zeros(5)), "asked of a model that detects objects"),
    ],
)
def test_refuses_in_a_sentence(make, sentence):
    with pytest.raises(cam.TargetError, match=sentence):
        make()
