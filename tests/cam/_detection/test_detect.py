"""Boxes, labels and scores against what torchvision and transformers say."""

import pytest
import torch
from torch import nn
from torchvision.ops import batched_nms, box_convert

import cam
from tests.support.detectors import QUERY_HEADS, GridHead, make_pictures, make_torchvision


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


@pytest.mark.parametrize("name", ["faster r-cnn", "retinanet", "fcos"])
def test_torchvisions_own_detections(name, pictures):
    detector = make_torchvision(name)
    with torch.no_grad():
        expected = detector(pictures)
    threshold = float(torch.cat([image["scores"] for image in expected]).median())
    actual = cam.Model(detector).detect(pictures, threshold)
    for detections, image in zip(actual, expected, strict=True):
        above = image["scores"] > threshold
        assert above.any()
        assert torch.equal(detections.boxes, image["boxes"][above])
        assert torch.equal(detections.labels, image["labels"][above])
        assert torch.equal(detections.scores, image["scores"][above])


def make_queries(name: str) -> nn.Module:
    pytest.importorskip("transformers")
    from benchmarks.coverage.hugging_face_others import DETECTORS

    torch.manual_seed(0)
    network = DETECTORS[name]().eval()

    def spread(_module, _inputs, record):
        """An untrained network's queries are alike: give each its answer, in its own record."""
        generator = torch.Generator().manual_seed(3)
        record.logits = torch.randn(record.logits.shape, generator=generator) * 1.5
        record.pred_boxes = torch.rand(record.pred_boxes.shape, generator=generator)
        return record

    network.register_forward_hook(spread)
    return network


def processor_of(name: str):
    import transformers

    family = name.removesuffix("ForObjectDetection")
    family = {"DFine": "RTDetr"}.get(family, family)
    return getattr(transformers, f"{family}ImageProcessor")()


@pytest.mark.parametrize("name", QUERY_HEADS)
def test_queries_as_transformers_reads_them(name):
    network = make_queries(name)
    pictures = torch.randn(2, 3, 224, 160, generator=torch.Generator().manual_seed(2))
    if name.startswith("Yolos"):
        pictures = nn.functional.interpolate(pictures, (224, 224))
    # So that the hundred that some processors list at most are not reached.
    threshold = 0.5 if name.startswith(("Detr", "Yolos")) else 0.9
    with torch.no_grad():
        record = network(pictures)
    expected = processor_of(name).post_process_object_detection(
        record, threshold=threshold, target_sizes=[tuple(pictures.shape[2:])] * 2
    )
    actual = cam.Model(network).detect(pictures, threshold)
    for detections, image in zip(actual, expected, strict=True):
        order = image["scores"].argsort(descending=True)
        assert 3 <= len(order) < 100
        assert torch.allclose(detections.scores, image["scores"][order], atol=1e-6)
        assert torch.equal(detections.labels, image["labels"][order])
        assert torch.allclose(detections.boxes, image["boxes"][order], atol=1e-3)


def test_a_grid_head_is_suppressed(pictures):
    network = GridHead().eval()
    with torch.no_grad():
        head = network(pictures)[0]
    actual = cam.Model(network).detect(pictures, 0.55)
    for detections, image in zip(actual, head, strict=True):
        boxes = box_convert(image[:4].T, "cxcywh", "xyxy")
        scores, labels = image[4:].T.max(1)
        above = scores > 0.55
        boxes, scores, labels = boxes[above], scores[above], labels[above]
        left = batched_nms(boxes, scores, labels, 0.7)
        assert 0 < len(left) < len(scores)
        assert torch.equal(detections.boxes, boxes[left])
        assert torch.equal(detections.labels, labels[left])
        assert torch.equal(detections.scores, scores[left])


def test_a_number_of_cells_is_no_pyramid_without_a_word():
    network = nn.Sequential(nn.Conv2d(3, 6, 3, 16, 1), nn.Flatten(2), nn.Sigmoid()).eval()
    pictures = torch.rand(1, 3, 64, 64)
    with pytest.raises(cam.ModelError, match="is not shown to be a detector by what it returns"):
        cam.Model(network).detect(pictures)
    assert len(cam.Model(network, task="detection").detect(pictures, 0)[0]) > 0


class Queries(nn.Module):
    """The first DETR's record, without a configuration."""

    def forward(self, pixels):
        spread = pixels.mean((1, 2, 3))[:, None, None]
        logits = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 0.0, 3.0]]]) + spread * 0
        return {"pred_logits": logits, "pred_boxes": torch.full((1, 2, 4), 0.5)}


def test_no_object_is_never_guessed(pictures):
    single = pictures[:1]
    with pytest.raises(cam.ModelError, match="whether the last of them is 'no object'"):
        cam.Model(Queries(), task="detection").detect(single)
    softmax = cam.Model(Queries(), task="detection", labels=["cat", "dog"]).detect(single)[0]
    assert softmax.scores.tolist() == pytest.approx([0.6652], abs=1e-4)
    assert softmax.boxes.tolist() == [[16, 16, 48, 48]]
    sigmoid = cam.Model(Queries(), task="detection", labels=["cat", "dog", "cup"]).detect(single)[0]
    assert sigmoid.scores.tolist() == pytest.approx(torch.tensor([3.0, 2, 1]).sigmoid().tolist())
    assert sigmoid.labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: GridHead("corners"), "boxes look like corners"),
        (lambda: GridHead(squashed=False), r"scores are not in \[0, 1\]"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), "declared a detector"),
    ],
)
def test_what_cannot_be_read_is_refused(make, sentence, pictures):
    with pytest.raises(cam.ModelError, match=sentence):
        cam.Model(make().eval(), task="detection").detect(pictures)


def test_bad_calls_are_refused(pictures):
    model = cam.Model(GridHead().eval())
    with pytest.raises(cam.InputError, match="threshold must be a number from 0 to 1"):
        model.detect(pictures, 2)
    with pytest.raises(cam.InputError, match="must be floats"):
        model.detect(pictures[0])
    with pytest.raises(cam.ModelError, match=r"task is 'detection', .* not 'boxes'"):
        cam.Model(GridHead(), task="boxes")
    nothing = model.detect(pictures, 1.0)[0]
    assert len(nothing) == 0
    with pytest.raises(cam.TargetError, match="there is no detection 0: the model detects 0"):
        nothing[0]


def test_images_of_any_size_are_prepared_for_torchvision():
    model = cam.Model(make_torchvision("retinanet"))
    detections = model.detect(cam.sample("chelsea"), 0)[0]
    assert len(detections) > 0
    width, height = cam.sample("chelsea").size
    assert float(detections.boxes[:, 2].max()) <= width
    assert float(detections.boxes[:, 3].max()) <= height


def test_a_detector_by_name():
    model = cam.load_model("torchvision/ssdlite320_mobilenet_v3_large", weights=None)
    assert model.detects
    assert model.task == "detection"
    assert model.label(1) == "person"
    photo = cam.sample("chelsea")
    assert model.prepare(photo).shape[2:] == (photo.height, photo.width)
    model.module.score_thresh = 0.0
    box = model.detect(photo, 0)[0][0]
    maps = cam.attribute(model, model.prepare(photo), "saliency", [box])["saliency"]
    assert maps.raw.any()
    with pytest.raises(cam.ModelError, match="there is no model 'torchvision/ssdlite'"):
        cam.load_model("torchvision/ssdlite", weights=None)
