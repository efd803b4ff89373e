"""Runs of a detector: an item an object, grouped by image."""

import json

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

import cam
from cam._runs.engines.detection_items import find_box
from tests.support.detectors import Planted

LABELS = ["background", "dog", "cat"]
IMAGES = 9
METRICS = ["energy_pointing_game", cam.metric("deletion", steps=4)]
SIDE = 96  # of the photos; the model sees the middle 64 of them, at 64


@pytest.fixture
def coco(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for number in range(IMAGES):
        pixels = draw.integers(100, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
        for offset, (box, category) in enumerate([(Planted.BOX, 1), (Planted.OTHER_BOX, 2)]):
            x0, y0, x1, y1 = (side + 16 for side in box)
            annotations.append(
                {"id": 2 * number + offset, "image_id": number, "category_id": category}
                | {"bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
            )
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    path = tmp_path / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


def make_model(kind: str = "final", **options) -> cam.Model:
    transform = transforms.Compose([transforms.CenterCrop(64), transforms.ToTensor()])
    return cam.Model(
        Planted(kind).eval(), transform, layers="features", **({"labels": LABELS} | options)
    )


def test_an_object_is_an_item_and_an_image_a_group(coco, tmp_path):
    data = cam.dataset(coco, items="objects", images=tmp_path / "images")
    run = cam.evaluate(
        make_model(), data, ["saliency", "hirescam"], METRICS, out=tmp_path / "run", shard_size=7
    )
    scores = run.scores()
    assert len(scores) == 2 * 2 * 2 * IMAGES
    assert run.groups().nunique() == IMAGES
    assert (scores["status"] == "ok").all()
    energy = scores[(scores["metric"] == "energy_pointing_game") & (scores["method"] == "saliency")]
    # The patch that a score reads lies in its box, and only there is a gradient.
    assert energy["value"].tolist() == pytest.approx([1.0] * len(energy))
    images = run.items()
    assert set(images["label"]) == {"dog", "cat"}
    assert images["correct"].all()


def test_the_box_is_moved_to_the_input(coco, tmp_path):
    data = cam.dataset(coco, items="objects", images=tmp_path / "images")
    model = make_model()
    dog = next(item for item in data if item.target == "dog")
    target = find_box(model, dog, (64, 64), 1)
    assert target.box == pytest.approx(Planted.BOX)
    half = cam.Model(
        Planted("final"),
        transforms.Compose([transforms.Resize((32, 48)), transforms.ToTensor()]),
    )
    x0, y0, x1, y1 = (side + 16 for side in Planted.BOX)
    moved = find_box(half, dog, (32, 48), 1)
    assert moved.box == pytest.approx((x0 / 2, y0 / 3, x1 / 2, y1 / 3))


def test_what_a_detector_cannot_be_asked(coco, tmp_path):
    folder = tmp_path / "images"
    classes = cam.dataset(coco, images=folder)
    objects = cam.dataset(coco, items="objects", images=folder)
    item = classes[0]
    assert len(item.boxes) == 1
    torn = cam.Item("x", item.image, "dog", boxes=(*item.boxes, *item.boxes))
    for bad, sentence in (
        (torn, "the item has 2 boxes, and a detector is asked about one"),
        (cam.Item("x", item.image, "dog", boxes=((0, 0, 9, 9),)), "lies outside of what the model"),
    ):
        with pytest.raises(cam.TargetError, match=sentence):
            find_box(make_model(), bad, (64, 64), 1)
    with pytest.raises(cam.InputError, match="the detector knows none of the data's classes"):
        cam.evaluate(make_model(labels=None), objects, ["saliency"], METRICS, out=tmp_path / "a")


def test_what_is_predicted_needs_no_labels(coco, tmp_path):
    data = cam.dataset(coco, items="objects", images=tmp_path / "images").limit(4)
    run = cam.evaluate(
        make_model("grid", labels=None, task="detection"),
        data,
        ["saliency"],
        METRICS,
        out=tmp_path / "run",
        targets="predicted",
    )
    assert (run.scores()["status"] == "ok").all()
