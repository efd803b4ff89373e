"""D-RISE by hand in float64, and on a planted detector."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

import cam
from cam._methods.perturbation.drise import Likeness
from cam._methods.perturbation.input_masking import draw_grids
from cam.targets import AllDetections, Box, Missed, Region
from tests.support.detectors import Planted, make_pictures, make_torchvision

# Box, score, label, objectness, and two classes.
TRUTH = torch.tensor([[0, 0, 10, 10, 0.8, 0, 0.9, 0.8, 0.1], [5, 5, 9, 9, 0.2, 1, 0.3, 0.1, 0.2]])
MASKED = torch.tensor(
    [
        [0, 0, 10, 5, 0.5, 0, 0.7, 0.5, 0.2],
        [0, 0, 10, 9, 0.6, 1, 0.6, 0.1, 0.6],
        [0, 0, 1, 1, 1, 0, 1, 1, 0],
    ]
)


def test_likeness_by_hand():
    target = Likeness.of(Box((0, 0, 10, 10), 0), TRUTH)
    p = np.array([0.8, 0.1])
    values = []
    for row in MASKED.double().numpy():
        width, height = row[2] - row[0], row[3] - row[1]
        overlap = width * height / 100  # all lie inside of the target
        q = row[7:]
        cosine = p @ q / np.sqrt((p @ p) * (q @ q))
        values.append(overlap * row[6] * cosine)
    assert float(target(MASKED.double())) == pytest.approx(max(values), rel=1e-6)
    assert np.argmax(values) == 0
    # A missed object is its class alone.
    missed = Likeness.of(Missed((0, 0, 10, 10), 1), TRUTH)
    expected = 0.9 * 0.6 * 0.6 / np.sqrt(0.1**2 + 0.6**2)
    assert float(missed(MASKED.double())) == pytest.approx(expected, rel=1e-6)


def test_likeness_of_boxes_with_one_label():
    target = Likeness.of(Box((0, 0, 10, 10), 0), TRUTH[:, :6])
    assert float(target(MASKED[:, :6])) == pytest.approx(max(0.5 * 0.5, 0.01))
    any_label = Likeness.of(Box((0, 0, 10, 10)), TRUTH[:, :6])
    assert float(any_label(MASKED[:, :6])) == pytest.approx(0.9 * 0.6)
    assert float(target(MASKED[:0, :6])) == 0


@pytest.mark.parametrize("kind", ["final", "queries", "grid"])
def test_the_map_is_the_papers_sum(kind):
    """Σ s_n m_n of masks made by torch's interpolation, in float64; the mean taken off."""
    network = Planted(kind).eval().double()
    picture = torch.rand(1, 3, 64, 64, dtype=torch.float64) + 0.5
    count = 40
    grids, shifts, size = draw_grids(count, 8, 0.5, 0, (64, 64))
    large = torch.nn.functional.interpolate(
        grids[:, None].double(), size, mode="bilinear", align_corners=False
    )[:, 0]
    masks = torch.stack(
        [mask[y : y + 64, x : x + 64] for mask, (y, x) in zip(large, shifts.tolist(), strict=True)]
    )
    with torch.no_grad():
        boxes = [read(network, picture)] + [read(network, picture * mask) for mask in masks]
    (whole, *rest), iou = boxes, torch.tensor([Planted.BOX], dtype=torch.float64)
    first = int(box_iou(iou, whole[0])[0].argmax())
    values = []
    for corners, objectness, classes in rest:
        cosine = torch.nn.functional.cosine_similarity(classes, whole[2][first][None], dim=1)
        values.append((box_iou(iou, corners)[0] * objectness * cosine).max())
    s = torch.stack(values)
    expected = ((s - s.mean())[:, None, None] * (masks - masks.mean(0))).sum(0) / (count - 1) / 0.5
    expected = expected + s.mean()
    method = cam.method("drise", masks=count, cells=8, steady=1)
    actual = cam.attribute(network, picture, method, [Box(Planted.BOX, 1)])["drise"].raw[0]
    assert (actual - expected).abs().max() <= 1e-5 * expected.abs().max()


def read(network, picture):
    """Boxes, objectness and classes, read again."""
    output = network(picture)
    if network.kind == "final":
        scores, labels = output[0]["scores"], output[0]["labels"]
        return output[0]["boxes"].double(), scores, torch.nn.functional.one_hot(labels, 3).double()
    if network.kind == "queries":
        classes, boxes = output["logits"][0].sigmoid(), output["pred_boxes"][0] * 64
    else:
        boxes, classes = output[0][0].T.split([4, output[0].shape[1] - 4], 1)
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    return corners.double(), classes.amax(1), classes


@pytest.mark.parametrize("kind", ["final", "queries", "grid"])
def test_the_map_lies_on_the_patch(kind):
    network = Planted(kind).eval()
    picture = torch.rand(1, 3, 64, 64) + 1
    maps = cam.attribute(
        network, picture, cam.method("drise", masks=600, cells=8), [Box(Planted.BOX, 1)]
    )
    row, column = divmod(int(maps["drise"].heatmap[0].argmax()), 64)
    rows, columns = Planted.PATCH
    assert rows.start - 4 <= row < rows.stop + 4
    assert columns.start - 4 <= column < columns.stop + 4


def test_the_promises_of_every_method():
    network, pictures = Planted("grid").eval(), torch.rand(2, 3, 64, 64) + 0.5
    before = {key: value.clone() for key, value in network.state_dict().items()}
    batch = pictures.clone()
    method, box = cam.method("drise", masks=30, cells=8), Box(Planted.BOX, 1)
    both = cam.attribute(network, pictures, method, box)["drise"]
    assert torch.equal(cam.attribute(network, pictures, method, box)["drise"].raw, both.raw)
    alone = cam.attribute(network, pictures[1:], method, box)["drise"]
    assert torch.allclose(alone.raw[0], both.raw[1], atol=1e-6)
    assert torch.equal(pictures, batch)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert both.error.shape == both.raw.shape
    assert both.heatmap.amin() == 0
    assert both.heatmap.amax() == 1


def test_torchvisions_detectors_and_several_boxes():
    detector, pictures = make_torchvision("retinanet"), make_pictures(1)
    boxes = cam.Model(detector).detect(pictures, 0)[0][:2]
    maps = cam.attribute(detector, pictures, cam.method("drise", masks=4), [boxes])["drise"]
    assert maps.raw.shape == (2, 64, 64)
    assert maps.raw.std() > 0


@pytest.mark.parametrize("target", [AllDetections(), Region((0, 0, 9, 9))])
def test_other_targets_are_refused(target):
    network, picture = Planted("grid").eval(), torch.rand(1, 3, 64, 64)
    with pytest.raises(cam.MethodError, match="its target must be"):
        cam.attribute(network, picture, "drise", [target])


def test_classifiers_are_refused(bundled):
    with pytest.raises(cam.MethodError, match="explains a detection of a detector"):
        cam.attribute(bundled, torch.rand(1, 3, 224, 224), "drise")


def test_a_box_of_nothing_needs_a_label():
    with pytest.raises(cam.MethodError, match="give the box a label"):
        Likeness.of(Box((50, 50, 60, 60)), TRUTH)
    assert Likeness.of(Box((50, 50, 60, 60), 1), TRUTH).classes.tolist() == [0, 1]
