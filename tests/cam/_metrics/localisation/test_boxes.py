"""Metrics of a detection: energy in its box, pointing, its score's deletion."""

import pytest
import torch

import cam
from cam.targets import AllDetections, Box, Missed
from tests.support.detectors import Planted, make_pictures, make_torchvision

SIZE = (64, 64)


def fill(box) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    x0, y0, x1, y1 = map(int, box)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("kind", ["final", "queries", "grid"])
def test_energy_and_pointing_in_the_boxes(kind):
    network, pictures = Planted(kind).eval(), torch.rand(2, 3, 64, 64) + 0.5
    labels = (1, 2) if kind == "final" else (1, 1)
    boxes = [Box(Planted.BOX, labels[0]), Box(Planted.OTHER_BOX, labels[1])]
    targets = [boxes, boxes[:1]]
    maps = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [
        float(map_[fill(box.box)].sum() / map_.sum())
        for map_, box in zip(maps, [*boxes, boxes[0]], strict=True)
    ]
    energy = cam.metric("energy_pointing_game")(network, pictures, maps, targets)
    assert energy.tolist() == pytest.approx(expected, rel=1e-5)
    explained = cam.attribute(network, pictures, "saliency", targets)["saliency"]
    inside = cam.metric("energy_pointing_game")(network, pictures, explained, targets)
    assert inside.tolist() == pytest.approx([1, 1, 1])
    pointing = cam.metric("pointing_game", tolerance=0)(network, pictures, explained, targets)
    assert pointing.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("kind", ["final", "queries", "grid"])
def test_deletion_takes_this_detections_score_away(kind):
    network, pictures = Planted(kind).eval(), torch.rand(1, 3, 64, 64) + 0.5
    # Brighter than what a blur brings there.
    pictures[(slice(None), slice(None), *Planted.PATCH)] += 2
    box = Box(Planted.BOX, 1)
    good = torch.zeros(1, 64, 64)
    good[(slice(None), *Planted.PATCH)] = 1
    bad = 1 - good
    deletion = cam.metric("deletion", steps=64)
    first, last = (float(deletion(network, pictures, map_, [box])) for map_ in (good, bad))
    # The patch is 1/64 of the image: hidden first its score is gone at once, hidden last at last.
    score = float(torch.sigmoid(pictures[:, :, 16:24, 40:48].mean()))
    assert first == pytest.approx(0.5, abs=0.02)
    assert last == pytest.approx(score, abs=0.02)
    insertion = cam.metric("insertion", steps=64)
    slow = float(insertion(network, pictures, bad, [box]))
    assert float(insertion(network, pictures, good, [box])) > slow + 0.05


def test_batches_with_different_numbers_of_detections():
    detector, pictures = make_torchvision("retinanet"), make_pictures(3)
    detector.score_thresh = 0.0105
    counts = {len(image["scores"]) for image in detector(pictures)}
    boxes = [image[0] for image in cam.Model(detector).detect(pictures, 0)]
    maps = torch.rand(3, 64, 64)
    deletion = cam.metric("deletion", steps=2)
    values = deletion.measure(detector, pictures, maps, boxes, batch_size=1).values
    assert torch.allclose(values, deletion(detector, pictures, maps, boxes), atol=1e-4)
    assert counts


def test_what_does_not_fit_is_refused():
    network, pictures = Planted("grid").eval(), torch.rand(1, 3, 64, 64)
    energy = cam.metric("energy_pointing_game")
    outside = "lies outside of the image of 64 × 64 pixels"
    for target in (Box((70, 0, 80, 9)), Missed((-9, -9, 0, 0), 1)):
        with pytest.raises(cam.TargetError, match=outside):
            energy(network, pictures, torch.rand(1, 64, 64), [target])
        with pytest.raises(cam.TargetError, match=outside):
            cam.attribute(network, pictures, "saliency", [target])
    with pytest.raises(cam.MetricError, match="give masks"):
        energy(network, pictures, torch.rand(1, 64, 64), AllDetections())
    with pytest.raises(cam.InputError, match="must have the batch's images"):
        energy(network, pictures, torch.rand(1, 64, 64), [[Box(Planted.BOX), Box(Planted.BOX)]])
