"""Data sets: what the loaders read, on roots made by hand."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._data.coco import decode_runs
from cam._data.photo_grid import CLASSES


def saved(path: Path, size: tuple[int, int] = (64, 48), colour: str = "teal") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def box_mask(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros(size[::-1], bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


# The photo grid


@pytest.fixture(scope="module")
def grid() -> cam.Dataset:
    return cam.dataset("photo-grid", size=16, seed=3)


def test_the_grid_asks_for_each_class_equally_often(grid):
    targets = [item.target for item in grid]
    assert sorted(targets) == sorted(list(CLASSES.values()) * 4)
    assert len({item.id for item in grid}) == len(grid) == 16


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_targets_cell_is_its_only_one(n):
    data = cam.dataset("photo-grid", size=8, n=n)
    for index, item in enumerate(data):
        cells = data.cells(index)
        assert len(cells) == n * n
        matches = [cell for cell in cells if cell.target == item.target]
        assert [cell.box for cell in matches] == list(item.boxes)
        left, top, right, bottom = item.boxes[0]
        assert item.mask[int(top) : int(bottom), int(left) : int(right)].all()
        # What the usual transform keeps: an n-th of an n-th of it is the target's, to a pixel.
        visible = item.mask[16:240, 16:240]
        assert visible.mean() == pytest.approx(1 / n**2, abs=2 / 224)


def test_the_grid_is_a_function_of_its_seed(grid):
    again = cam.dataset("photo-grid", size=4, seed=3)
    other = cam.dataset("photo-grid", size=4, seed=4)
    for index in range(4):
        assert np.array_equal(grid[index].image, again[index].image)
        assert not np.array_equal(grid[index].image, other[index].image)
    assert len({grid.fingerprint, again.fingerprint, other.fingerprint}) == 3
    assert again.fingerprint == cam.dataset("photo-grid", size=4, seed=3).fingerprint


def test_the_bundled_model_sees_the_class_asked_for(bundled, grid):
    """Each crop alone is taken for its class, which makes the mosaic's truth one."""
    crops, targets = [], []
    for index in range(8):
        for cell in grid.cells(index):
            crops.append(grid[index].image.crop(tuple(map(int, cell.box))))
            targets.append(cell.target)
    chances = bundled.predict(bundled.prepare(crops))
    chances_of_targets = chances[torch.arange(len(targets)), targets]
    rank = (chances > chances_of_targets[:, None]).sum(1)
    assert (rank < 5).float().mean() > 0.9


def test_gradcam_finds_the_cell(bundled):
    data = cam.dataset("photo-grid", size=8)
    items = list(data)
    batch = bundled.prepare([item.image for item in items])
    maps = cam.attribute(bundled, batch, "gradcam", targets=[item.target for item in items])
    masks = torch.tensor(np.stack([item.mask[16:240, 16:240] for item in items]))
    heatmap = maps["gradcam"].heatmap
    inside = (heatmap * masks).sum((1, 2)) / heatmap.sum((1, 2))
    assert inside.mean() > 0.5  # chance: 0.25


def test_a_limited_grid_still_asks_for_every_class():
    part = cam.dataset("photo-grid", size=16).limit(4)
    assert sorted(item.target for item in part) == sorted(CLASSES.values())
    with pytest.raises(cam.DataError, match="size of a photo grid"):
        part.limit(0)


# Folders and lists


def test_a_folder_of_class_folders(tmp_path):
    for name in ("dog/b.png", "dog/a.jpg", "cat/deep/c.webp", ".hidden/d.png", "dog/notes.txt"):
        path = tmp_path / name
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            saved(path)
    data = cam.dataset(tmp_path)
    assert [item.id for item in data] == ["cat/deep/c.webp", "dog/a.jpg", "dog/b.png"]
    assert [item.target for item in data] == ["cat", "dog", "dog"]
    assert data.labels == ("cat", "dog")
    assert not data.has_masks


def test_a_flat_folder_has_no_classes(tmp_path):
    for name in ("b.png", "a.png"):
        saved(tmp_path / name)
    data = cam.dataset(str(tmp_path))
    assert [(item.id, item.target) for item in data] == [("a.png", None), ("b.png", None)]


def test_a_broken_picture_is_one_error_and_not_the_others(tmp_path):
    saved(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no pixels")
    data = cam.dataset(tmp_path)
    assert len(data) == 2
    assert data.identifier(1) == "b.png"
    assert data[0].image.size == (64, 48)
    with pytest.raises(cam.ImageError, match=r"b\.png is not an image"):
        data[1]


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    """Said by the system call itself, because a test may run as root, who may read everything."""
    saved(tmp_path / "a" / "a.png")
    saved(tmp_path / "b" / "b.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    data = cam.dataset(tmp_path)
    assert data.refused == (("b", "Permission denied"),)
    assert len(data) == 1


def test_a_csv_of_paths_and_labels(tmp_path):
    saved(tmp_path / "pictures" / "a.png")
    mask = box_mask((64, 48), (3, 4, 20, 30))
    Image.fromarray(mask).save(tmp_path / "a.mask.png")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Path", "label", "mask"])
        rows.writerow(["pictures/a.png", "tabby", "a.mask.png"])
        rows.writerow(["pictures/a.png", "281", ""])
        rows.writerow(["", "7", ""])
        rows.writerow(["missing.png", "", ""])
    data = cam.dataset(tmp_path / "list.csv")
    assert [data.identifier(index) for index in range(3)] == [
        "pictures/a.png",
        "pictures/a.png#2",
        "missing.png",
    ]
    assert (data[0].target, data[1].target) == ("tabby", 281)
    assert np.array_equal(data[0].mask, mask)
    assert data[1].mask is None
    assert data.refused == (("row 4", "it names no file"),)
    with pytest.raises(cam.ImageError, match="there is no file"):
        data[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", "a.png,3\n", "has no column 'path'"),
        ("list.csv", "path\n", "no image was found"),
        ("list.json", "[]", "is no list of COCO instances"),
        ("list.json", "{", "is no list of COCO instances"),
        ("list.txt", "", "is no data set"),
        ("folder/x.txt", "", "no image was found"),
    ],
)
def test_what_is_no_data_set_is_refused_in_a_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(cam.DataError, match=message):
        cam.dataset(path if path.parent == tmp_path else path.parent)


def test_what_is_not_there_and_options_that_do_not_exist(tmp_path):
    with pytest.raises(cam.DataError, match="there is no data set 'nowhere'"):
        cam.dataset("nowhere")
    with pytest.raises(cam.DataError, match="no option 'sede' here; did you mean 'seed'"):
        cam.dataset("photo-grid", sede=1)
    with pytest.raises(cam.DataError, match="size of a photo grid must be"):
        cam.dataset("photo-grid", size=0)
    with pytest.raises(cam.DataError, match="not int"):
        cam.dataset(7)


def test_the_fingerprint_changes_with_what_it_should(tmp_path):
    saved(tmp_path / "a" / "a.png")
    first = cam.dataset(tmp_path).fingerprint
    os.utime(tmp_path / "a" / "a.png", (0, 0))
    assert cam.dataset(tmp_path).fingerprint == first
    saved(tmp_path / "a" / "b.png")
    second = cam.dataset(tmp_path).fingerprint
    (tmp_path / "a").rename(tmp_path / "c")
    third = cam.dataset(tmp_path).fingerprint
    saved(tmp_path / "c" / "b.png", (640, 480), "red")
    assert len({first, second, third, cam.dataset(tmp_path).fingerprint}) == 4


def test_a_limit_leaves_every_class_in(tmp_path):
    for label in "abcd":
        for number in range(5):
            saved(tmp_path / label / f"{number}.png", (8, 8))
    data = cam.dataset(tmp_path)
    part = data.limit(4)
    assert [item.target for item in part] == list("abcd")
    assert part.identifier(1) == part[1].id
    assert data.limit(99) is data
    assert part.fingerprint != data.fingerprint
    with pytest.raises(cam.DataError, match="a limit is"):
        data.limit(0)


# COCO, VOC, Pet


@pytest.fixture
def coco(tmp_path) -> Path:
    saved(tmp_path / "val" / "1.png", (20, 10))
    saved(tmp_path / "val" / "2.png", (20, 10))
    runs = {"size": [10, 20], "counts": [0, 10, 190]}  # the first column
    content = {
        "images": [
            {"id": 1, "file_name": "1.png", "width": 20, "height": 10},
            {"id": 2, "file_name": "2.png", "width": 21, "height": 10},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [2, 3, 5, 4], "iscrowd": 0}
            | {"segmentation": [[2, 3, 6, 3, 6, 6, 2, 6]]},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [0, 0, 1, 10], "iscrowd": 0}
            | {"segmentation": runs},
            {"id": 3, "image_id": 1, "category_id": 9, "bbox": [9, 1, 3, 3], "iscrowd": 0},
            {"id": 4, "image_id": 1, "category_id": 9, "bbox": [0, 0, 20, 10], "iscrowd": 1},
            {"id": 5, "image_id": 2, "category_id": 9, "bbox": [0, 0, 2, 2], "iscrowd": 0},
            {"id": 6, "image_id": 3, "category_id": 9, "bbox": [0, 0, 2, 2], "iscrowd": 0},
        ],
    }
    path = tmp_path / "annotations" / "instances_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def test_coco_is_an_item_for_each_picture_and_class(coco):
    data = cam.dataset(coco)
    assert [data.identifier(index) for index in range(len(data))] == [
        "1.png#cat",
        "1.png#dog",
        "2.png#cat",
    ]
    cat, dog = data[0], data[1]
    assert (cat.target, cat.boxes) == ("cat", ((9, 1, 12, 4),))
    # Without a segmentation its box is the truth; the crowd is left out.
    assert np.array_equal(cat.mask, box_mask((20, 10), (9, 1, 12, 4)))
    assert dog.boxes == ((2, 3, 7, 7), (0, 0, 1, 10))
    # The polygon's corners are pixels 2 to 6 across and 3 to 6 down.
    assert np.array_equal(dog.mask, box_mask((20, 10), (2, 3, 7, 7), (0, 0, 1, 10)))
    assert data.refused == (("annotation 6", "its image or category is missing"),)
    with pytest.raises(cam.DataError, match=r"is for 21 × 10 pixels, but the image has 20 × 10"):
        data[2]
    boxes = cam.dataset(coco, truth="boxes")
    assert np.array_equal(boxes[1].mask, box_mask((20, 10), *dog.boxes))
    assert boxes.fingerprint != data.fingerprint


def test_coco_is_an_item_for_each_object(coco):
    data = cam.dataset(coco, items="objects")
    names = [data.identifier(index) for index in range(len(data))]
    assert names == ["1.png#cat#3", "1.png#dog#1", "1.png#dog#2", "2.png#cat#5"]
    first, second = data[1], data[2]
    assert (first.boxes, second.boxes) == (((2, 3, 7, 7),), ((0, 0, 1, 10),))
    assert np.array_equal(second.mask, box_mask((20, 10), (0, 0, 1, 10)))
    assert first.group == second.group == data[0].group
    assert data.fingerprint != cam.dataset(coco).fingerprint
    with pytest.raises(cam.DataError, match="items is 'classes' or 'objects', not 'boxes'"):
        cam.dataset(coco, items="boxes")


def test_coco_runs_as_text():
    """[6, 1, 40, 4, 5, 4, 5, 4, 21], the example of COCO's own documentation of its format."""
    counts = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    plain = decode_runs({"size": [9, 10], "counts": counts})
    assert plain.shape == (9, 10)
    assert plain.sum() == 1 + 4 + 4 + 4
    assert plain[6, 0]
    assert np.array_equal(decode_runs({"size": [9, 10], "counts": encoded(counts)}), plain)
    long = [3, 1000, 2, 5000, 1, 3994]
    assert np.array_equal(
        decode_runs({"size": [100, 100], "counts": encoded(long)}),
        decode_runs({"size": [100, 100], "counts": long}),
    )


def encoded(counts: list[int]) -> str:
    """COCO's text form written the other way round, from the description of the format."""
    letters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            group, value = value & 31, value >> 5
            more = value != -1 if group & 16 else value != 0
            letters.append(chr(48 + (group | 32 if more else group)))
            if not more:
                break
    return "".join(letters)


def test_voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    saved(root / "JPEGImages" / "000001.jpg", (30, 20))
    saved(root / "JPEGImages" / "000002.jpg", (30, 20))
    objects = [("dog", 3, 2, 10, 8), ("person", 1, 1, 30, 20), ("dog", 20, 10, 30, 20)]
    names = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    size = "<size><width>30</width><height>20</height><depth>3</depth></size>"
    (root / "Annotations").mkdir()
    (root / "Annotations" / "000001.xml").write_text(f"<annotation>{size}{names}</annotation>")
    (root / "Annotations" / "000002.xml").write_text("<annotation>")
    segments = np.zeros((20, 30), np.uint8)
    segments[2:8, 3:10] = 12  # dog is the twelfth class
    segments[0, 0] = 255
    picture = Image.fromarray(segments, mode="P")
    picture.putpalette(list(range(256)) * 3)
    (root / "SegmentationClass").mkdir()
    picture.save(root / "SegmentationClass" / "000001.png")

    data = cam.dataset(tmp_path)
    assert [item.id for item in data] == ["000001#dog", "000001#person"]
    assert data.refused == (("000002", "its annotation is damaged"),)
    dog, person = data
    # From 1 with the last pixel included to from 0 without it.
    assert dog.boxes == ((2, 1, 10, 8), (19, 9, 30, 20))
    assert np.array_equal(dog.mask, box_mask((30, 20), (2, 1, 10, 8), (19, 9, 30, 20)))
    assert person.mask.all()
    assert np.array_equal(cam.dataset(tmp_path, truth="segments")[0].mask, segments == 12)
    with pytest.raises(cam.DataError, match=r"val\.txt"):
        cam.dataset(tmp_path, split="val")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("000001\n")
    assert len(cam.dataset(root)) == 2


def test_pet(tmp_path):
    saved(tmp_path / "images" / "Egyptian_Mau_12.jpg", (12, 9))
    saved(tmp_path / "images" / "pug_3.jpg", (12, 9))
    trimap = np.full((9, 12), 2, np.uint8)
    trimap[2:6, 3:9] = 3
    trimap[3:5, 4:8] = 1
    folder = tmp_path / "annotations" / "trimaps"
    folder.mkdir(parents=True)
    for name in ("Egyptian_Mau_12", "._Egyptian_Mau_12", "pug_3"):
        Image.fromarray(trimap).save(folder / f"{name}.png")
    data = cam.dataset(tmp_path)
    assert [(item.id, item.target) for item in data] == [
        ("Egyptian_Mau_12", "Egyptian Mau"),
        ("pug_3", "pug"),
    ]
    assert np.array_equal(data[0].mask, box_mask((12, 9), (4, 3, 8, 5)))
    (tmp_path / "annotations" / "test.txt").write_text("pug_3 34 2 9\n")
    assert [item.id for item in cam.dataset(tmp_path)] == ["pug_3"]


# Torch data sets


class Pairs(torch.utils.data.Dataset):
    """A picture, a finished input, one with a mask, and what is neither."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int):
        if index == 0:
            return Image.new("L", (8, 6), 77), torch.tensor(3)
        if index == 1:
            return torch.zeros(3, 6, 8), np.int64(2)
        if index == 2:
            return torch.full((3, 6, 8), 9, dtype=torch.uint8), "cat", torch.ones(1, 6, 8)
        if index == 3:
            raise RuntimeError("the disk is gone")
        return {"image": Image.new("RGB", (8, 6)), "target": None}


def test_any_torch_data_set():
    data = cam.dataset(Pairs())
    assert len(data) == 5
    assert data[0].image.mode == "RGB"
    assert [data[index].target for index in (0, 1, 2, 4)] == [3, 2, "cat", None]
    assert data[1].image.shape == (3, 6, 8)
    assert np.asarray(data[2].image).shape == (6, 8, 3)
    assert data[2].mask.all()
    with pytest.raises(cam.DataError, match="raised RuntimeError: the disk is gone"):
        data[3]
    assert data.fingerprint == cam.dataset(Pairs()).fingerprint


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([(torch.zeros(1, 4, 4), 1)], "an image's tensor is"),
        ([(torch.zeros(3, 4, 4).long(), 1)], "uint8 or floating"),
        ([(Image.new("RGB", (4, 4)), 1.5)], "a class is a whole number or a label, not float"),
        ([(Image.new("RGB", (4, 4)), 1, np.ones((3, 3)))], "its mask is"),
    ],
)
def test_items_that_are_none(items, message):
    data = cam.dataset(items)
    with pytest.raises(cam.DataError, match=message):
        data[0]


def test_a_data_set_in_memory_must_have_items():
    with pytest.raises(cam.DataError, match="has no item"):
        cam.dataset([])


class Named(torch.utils.data.Dataset):
    """As torchvision's data sets: numbers that are places in its own list of names."""

    classes = ("rocket", "cat")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple:
        return np.zeros((8, 8, 3), np.uint8), 1 - index


def test_a_torch_data_sets_own_numbers_are_its_own_names():
    data = cam.dataset(Named())
    assert data.labels == ("rocket", "cat")
    assert [data[0].target, data[1].target] == ["cat", "rocket"]


def test_names_that_are_listed_nowhere_are_given_as_they_are():
    source = [(np.full((8, 8, 3), shade, np.uint8), name) for shade, name in enumerate("cbaab")]
    data = cam.dataset(source)
    assert (data.labels, data.examples) == ((), ("a", "b", "c"))
    assert [item.target for item in data] == list("cbaab")
    assert data.limit(2).examples == ("a", "b", "c")
    assert cam.dataset([(np.zeros((8, 8, 3), np.uint8), 1)]).examples == ()
    assert cam.dataset(Named()).examples == ()
