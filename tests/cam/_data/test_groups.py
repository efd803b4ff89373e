"""Items that belong together: photos, scenes, patients."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from tests.support.small_data import make_all


def groups_of(data: cam.Dataset) -> list[str]:
    return [item.group for item in data]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("eve-1", "eve-2", "bob-1", "bob-2", "bob-3"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    return tmp_path


def test_mosaics_of_four_photos_are_one_group_and_say_so():
    data = cam.dataset("photo-grid", size=6)
    assert set(groups_of(data)) == {"chelsea+coffee+rocket+motorcycle_left"}
    assert "the same four photos" in data.caution and "no intervals" in data.caution
    assert data.limit(3).caution == data.caution
    with pytest.raises(cam.DataError, match="cannot be grouped: the mosaics are recombinations"):
        cam.dataset("photo-grid", size=4, groups=list("abcd"))


def test_the_classes_of_a_picture_are_of_one_group(tmp_path):
    """COCO and VOC have an item for each class on a picture, and it is one picture."""
    make_all(tmp_path)
    path = tmp_path / "coco" / "annotations" / "instances_val.json"
    text = path.read_text().replace('"image_id": 2', '"image_id": 1')
    path.write_text(text)
    data = cam.dataset(path, images=tmp_path / "coco" / "pictures", truth="boxes")
    pictures = {item.id: item.group for item in data}
    assert pictures == {
        "chelsea.jpg#Egyptian cat": "chelsea.jpg",
        "chelsea.jpg#espresso": "chelsea.jpg",
        "rocket.jpg#missile": "rocket.jpg",
    }
    voc = tmp_path / "voc" / "VOC2007" / "Annotations" / "chelsea.xml"
    text = voc.read_text()
    start, end = text.index("<object>"), text.index("</object>") + 9
    other = text[start:end].replace("Egyptian cat", "dog")
    voc.write_text(text[:end] + other + text[end:])
    data = cam.dataset(tmp_path / "voc")
    assert groups_of(data) == ["JPEGImages/chelsea.jpg"] * 2 + ["JPEGImages/coffee.jpg"]


def test_else_a_picture_is_its_own_group(folder):
    data = cam.dataset(folder)
    assert groups_of(data) == [item.id for item in data]
    assert groups_of(cam.dataset([torch.zeros(3, 4, 4)] * 2)) == ["item-00000000", "item-00000001"]


def test_the_caller_groups_by_a_function_and_by_a_list(folder):
    by_function = cam.dataset(folder, groups=lambda name: name.split("-")[0])
    assert groups_of(by_function) == ["bob", "bob", "bob", "eve", "eve"]
    by_list = cam.dataset(folder, groups=np.array([1, 1, 2, 3, 3]))
    assert groups_of(by_list) == ["1", "1", "2", "3", "3"]
    assert groups_of(by_list.limit(2)) == ["1", "2"]
    # Scores stand beside their group, so a run with others cannot go on.
    plain = cam.dataset(folder)
    assert len({by_function.fingerprint, by_list.fingerprint, plain.fingerprint}) == 3
    # What is in memory opens no data again.
    assert plain.origin is not None and by_list.origin is None
    assert by_list[0].id == plain[0].id and len(by_list) == 5


def test_a_column_of_a_list(folder):
    path = folder / "list.csv"
    rows = ["path;patient;group", "eve-1.png;eve;x", "eve-1.png;eve;y", "bob-1.png;bob;y"]
    path.write_text("\n".join(rows))
    data = cam.dataset(path, delimiter=";", groups="patient")
    assert groups_of(data) == ["eve", "eve", "bob"]
    assert data.origin.options["groups"] == "patient"
    assert groups_of(cam.dataset(path, delimiter=";")) == ["x", "y", "y"]
    # Without such a column two rows of one file are one picture.
    path.write_text("path\neve-1.png\neve-1.png\nbob-1.png\n")
    assert groups_of(cam.dataset(path)) == ["eve-1.png", "eve-1.png", "bob-1.png"]


def test_a_mapping_may_have_its_group():
    picture = np.zeros((8, 8, 3), np.uint8)
    source = [{"image": picture, "group": name} for name in ("a", 7, None, math.nan)]
    data = cam.dataset(source)
    assert [data[0].group, data[1].group] == ["a", "7"]
    for index in (2, 3):
        with pytest.raises(cam.DataError, match="its group is missing"):
            data[index]


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (["a", "b"], "groups has 2 entries for 5 items; give one for each"),
        (list("abcdef"), "groups has 6 entries for 5 items"),
        (["a", None, "b", math.nan, " "], r"no name for 3 of 5 items, such as 'bob-2\.png'"),
        (["a"] * 5, "puts all 5 items into the one group 'a'"),
        (lambda name: {}[name], r"groups raised KeyError for the item 'bob-1\.png'"),
        (7, "a name for each item, not int"),
        ("patient", "names a column, and only a CSV has columns"),
    ],
)
def test_groups_that_are_none_are_refused_in_a_sentence(folder, groups, sentence):
    with pytest.raises(cam.DataError, match=sentence):
        cam.dataset(folder, groups=groups)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["eve-1.png,a", "bob-1.png,", "bob-2.png,b"], "has no name in 1 of 3 rows, such as row 3"),
        (["eve-1.png,a", "bob-1.png,a"], "puts all 2 items into the one group 'a'"),
    ],
)
def test_a_column_with_gaps_or_of_one_name_is_refused(folder, rows, sentence):
    (folder / "list.csv").write_text("\n".join(["path,patient", *rows]))
    with pytest.raises(cam.DataError, match=sentence):
        cam.dataset(folder / "list.csv", groups="patient")
    with pytest.raises(cam.DataError, match="no column 'patents' of groups; did you mean 'patient"):
        cam.dataset(folder / "list.csv", groups="patents")
