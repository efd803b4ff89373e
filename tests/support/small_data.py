"""Write small data sets of every kind, made of the sample photos."""

import json
from pathlib import Path

from PIL import Image, ImageDraw

import cam

# Photo → its class, and a box (left, top, right, bottom) that holds it.
PHOTOS = {
    "chelsea": ("Egyptian cat", (120, 20, 330, 290)),
    "coffee": ("espresso", (210, 60, 470, 300)),
    "rocket": ("missile", (300, 60, 360, 400)),
}


def make_all(root: Path) -> None:
    """A folder, one of classes, a CSV, COCO's JSON, VOC and Pet below ``root``."""
    for make in (flat, classes, listed, coco, voc, pet):
        make(root / make.__name__)


def saved(path: Path, name: str) -> Image.Image:
    image = cam.sample(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return image


def drawn(path: Path, size: tuple[int, int], box: tuple[int, ...], mode: str, values) -> None:
    inside, outside = values
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new(mode, size, outside)
    ImageDraw.Draw(mask).ellipse(box, fill=inside)
    mask.save(path)


def flat(root: Path) -> None:
    for name in PHOTOS:
        saved(root / f"{name}.jpg", name)


def classes(root: Path) -> None:
    for name, (label, _) in PHOTOS.items():
        saved(root / label / f"{name}.jpg", name)


def listed(root: Path) -> None:
    rows = ["path;label;mask"]
    for name, (label, box) in PHOTOS.items():
        image = saved(root / f"{name}.jpg", name)
        drawn(root / f"{name}-mask.png", image.size, box, "L", (255, 0))
        rows.append(f"{name}.jpg;{label};{name}-mask.png")
    (root / "list.csv").write_text("\n".join(rows) + "\n")


def coco(root: Path) -> None:
    images, annotations, categories = [], [], []
    for number, (name, (label, box)) in enumerate(PHOTOS.items(), 1):
        image = saved(root / "pictures" / f"{name}.jpg", name)
        left, top, right, bottom = box
        # A diamond in the box: its mask is half as large.
        middle, centre = (left + right) / 2, (top + bottom) / 2
        diamond = [middle, top, right, centre, middle, bottom, left, centre]
        images.append(
            {
                "id": number,
                "file_name": f"{name}.jpg",
                "width": image.width,
                "height": image.height,
            }
        )
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": number,
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": [diamond],
                "iscrowd": 0,
            }
        )
        categories.append({"id": number, "name": label})
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "instances_val.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


def voc(root: Path) -> None:
    folder = root / "VOC2007"
    for name, (label, (left, top, right, bottom)) in PHOTOS.items():
        image = saved(folder / "JPEGImages" / f"{name}.jpg", name)
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>{image.width}</width><height>{image.height}</height></size>"
            f"<object><name>{label}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object></annotation>"
        )
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("chelsea\ncoffee\n")
    (lists / "train.txt").write_text("rocket\n")


def pet(root: Path) -> None:
    # The breeds' names are the files'; only that of the cat is one of the model's classes.
    for number, (name, (label, box)) in enumerate(PHOTOS.items(), 1):
        stem = f"{label.replace(' ', '_')}_{number}"
        image = saved(root / "images" / f"{stem}.jpg", name)
        drawn(root / "annotations" / "trimaps" / f"{stem}.png", image.size, box, "L", (1, 2))
    (root / "annotations" / "test.txt").write_text("Egyptian_cat_1 1 1 1\n")
    (root / "annotations" / "trainval.txt").write_text("espresso_2 2 2 1\nmissile_3 3 2 1\n")
