"""Explain images as they are: paths, bytes, PIL images, arrays."""

import io
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import cam
from tests.support.networks import Pooled

LABELS = ("square", "circle", "cross", "line", "dot", "arrow")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIDE = 32


@pytest.fixture(scope="module")
def model() -> cam.Model:
    steps = [transforms.Resize(40), transforms.CenterCrop(SIDE), transforms.ToTensor()]
    return cam.Model(
        Pooled(), transforms.Compose([*steps, transforms.Normalize(MEAN, STD)]), LABELS
    )


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((180, 120), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def png(photo, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "cat.png"
    photo.save(path)
    return path


def write_open(path: Path) -> io.BytesIO:
    return io.BytesIO(path.read_bytes())


@pytest.mark.parametrize(
    "give",
    [
        str,
        Path,
        Path.read_bytes,
        write_open,
        Image.open,
        lambda path: np.asarray(Image.open(path)),
        lambda path: [str(path)],
        lambda path: (Image.open(path),),
    ],
    ids=["name", "path", "bytes", "file", "PIL", "array", "list", "tuple"],
)
def test_an_image_is_what_prepare_makes_of_it(model, png, give):
    expected = cam.attribute(model, model.prepare(str(png)), ["gradcam", "saliency"])
    images = cam.attribute(model, give(png), ["gradcam", "saliency"])
    for name, attribution in expected.items():
        assert torch.equal(images[name].heatmap, attribution.heatmap)
        assert torch.equal(images[name].scores, attribution.scores)


def test_several_images_are_one_batch(model, png, photo):
    turned = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    maps = cam.attribute(model, [png, turned], "gradcam", targets=["cross", "dot"])["gradcam"]
    assert maps.targets.tolist() == [2, 4]
    for index, each in enumerate((photo, turned)):
        alone = cam.attribute(model, each, "gradcam", targets=[int(maps.targets[index])])
        torch.testing.assert_close(maps.heatmap[index], alone["gradcam"].heatmap[0])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (7, "the batch is a int, neither images nor a tensor"),
        ([torch.zeros(3, 8, 8)], "the batch is a list of Tensor, neither"),
        ({"cat": 1}, "the batch is a dict, neither"),
        ([], "there is no image to prepare"),
        ("no-such-cat.png", "there is no file 'no-such-cat.png'"),
        (b"not an image", "is not an image"),
        (["no-such-cat.png"], "there is no file"),
    ],
)
def test_what_is_no_image_is_refused(model, images, sentence):
    with pytest.raises(cam.CamError, match=sentence):
        cam.attribute(model, images)


def test_a_network_alone_does_not_say_how_images_are_prepared(model, png):
    with pytest.raises(cam.InputError, match=r"wrap it as cam\.Model\(network, transform\)"):
        cam.attribute(model.module, png)


def test_what_was_done_to_an_image_is_warned_of_and_written(model, photo, tmp_path):
    path = tmp_path / "print.tiff"
    photo.convert("CMYK").save(path)
    with pytest.warns(cam.CamWarning, match=r"print\.tiff: .*CMYK"):
        maps = cam.attribute(model, path, "gradcam")
    [record] = [file for file in maps.save(tmp_path / "out") if file.suffix == ".json"]
    assert any("CMYK" in note for note in json.loads(record.read_text())["notes"])


def test_the_overlay_lies_over_the_crop_of_the_photo(model, photo):
    attribution = cam.attribute(model, photo, "gradcam")["gradcam"]
    crop = model.crop(photo)
    assert crop.size == (96, 96), "at the photo's own resolution"
    expected = cam.overlay(crop, attribution.heatmap[0], "inferno", 0.85, fade=True)
    assert np.array_equal(np.asarray(attribution.overlay()), np.asarray(expected))
    grey = Image.new("RGB", (50, 50), "#808080")
    expected = cam.overlay(grey, attribution.heatmap[0], "viridis", 1.0)
    drawn = attribution.overlay(grey, colormap="viridis", alpha=1.0, fade=False)
    assert np.array_equal(np.asarray(drawn), np.asarray(expected))


def test_of_a_tensor_the_overlay_lies_over_its_pixels(model, photo):
    batch = model.prepare([photo, photo.rotate(90)])
    attribution = cam.attribute(model, batch, "input_x_gradient")["input_x_gradient"]
    pixels = transforms.ToTensor()(attribution.overlay(index=1, alpha=0.0)).double()
    mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (MEAN, STD))
    assert (pixels - (batch[1].double() * std + mean)).abs().amax() <= 1 / 255
    with pytest.raises(cam.InputError, match="there is no image 2: the batch has 2"):
        attribution.overlay(index=2)


def test_saving_writes_what_is_there(model, png, photo, tmp_path):
    maps = cam.attribute(model, [png, photo, png], ["gradcam", "saliency"], targets="line")
    files = maps.save(tmp_path / "out")
    assert sorted(file.name for file in files) == sorted(
        f"{stem}.{method}.{kind}"
        for stem in ("cat", "image", "cat-2")
        for method in ("gradcam", "saliency")
        for kind in ("png", "npz", "json")
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        file.name for file in files
    )
    with np.load(tmp_path / "out" / "cat-2.gradcam.npz") as arrays:
        assert np.array_equal(arrays["heatmap"], maps["gradcam"].heatmap[2].numpy())
    facts = json.loads((tmp_path / "out" / "cat.saliency.json").read_text())
    assert facts["target"]["label"] == "line" and facts["image"] == "cat.png"
    drawn = np.asarray(Image.open(tmp_path / "out" / "cat.saliency.png"))
    assert np.array_equal(drawn, np.asarray(maps["saliency"].overlay()))


def test_saving_into_a_file_leaves_nothing(model, png, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(cam.CamError, match="there is a file of that name"):
        cam.attribute(model, png, "gradcam")["gradcam"].save(taken)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_arrays_are_copies(model, png):
    maps = cam.attribute(model, png, ["gradcam", "saliency"])
    arrays = maps.to_numpy()
    assert arrays.keys() == maps.keys()
    arrays["gradcam"][:] = 7
    assert maps["gradcam"].heatmap.amax() <= 1
    assert arrays["saliency"].dtype == np.float32


def test_a_result_describes_itself_in_a_line(model, png):
    maps = cam.attribute(model, [png] * 5, ["gradcam", "saliency"], targets="circle")
    text = repr(maps["gradcam"])
    assert re_line(text) and "gradcam" in text and "circle" in text and f"{SIDE} × {SIDE}" in text
    assert text in repr(maps) and len(repr(maps).splitlines()) == 4
    assert "and 2 more" in text


def re_line(text: str) -> bool:
    return "\n" not in text and len(text) < 160


def test_from_another_process_a_result_has_maps_and_no_images(model, png):
    attribution = cam.attribute(model, png, "gradcam")["gradcam"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        travelled = pickle.loads(pickle.dumps(attribution))
    assert re_line(repr(travelled))
    assert np.array_equal(travelled.to_numpy(), attribution.to_numpy())
    for call in (travelled.overlay, lambda: travelled.save("nowhere")):
        with pytest.raises(cam.InputError, match="this result has no images"):
            call()
