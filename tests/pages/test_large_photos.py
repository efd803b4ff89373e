"""Photos of any size: pages and copied code give the same."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._media.images import load_image
from cam._output.viewer.payload import ViewerOptions
from cam.pages.ui.explore import downloads
from cam.pages.ui.server import large_photos, resources
from cam.pages.ui.state.choices import Choices, MethodChoice, ModelChoice
from cam.pages.ui.subject import subject_form
from cam.pages.ui.widgets.python_code import write_explaining

BUNDLED = "efficientnet_lite0"


def write_photo(folder, size, seed=0) -> bytes:
    """Write a photo with detail down to the pixel, which a reduction would lose."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    photo = Image.blend(cam.sample("chelsea").resize(size), Image.fromarray(noise), 0.3)
    photo.save(folder / "photo.png", compress_level=1)
    return (folder / "photo.png").read_bytes()


# The last has fewer rows than a model's input has.
@pytest.mark.parametrize(
    "size",
    [(640, 480), (3000, 2000), pytest.param((4032, 3024), marks=pytest.mark.slow), (3000, 200)],
    ids=str,
)
def test_the_page_and_the_copied_code_give_the_same(size, tmp_path, monkeypatch):
    picture = resources.decode_upload(write_photo(tmp_path, size), "photo.png")
    assert not any("reduced" in note for note in picture.photo.notes)
    methods = (MethodChoice("gradcam"), MethodChoice("saliency"))
    choices = Choices(ModelChoice(BUNDLED), methods, None, None)
    subject = subject_form.look(picture, choices.model)
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(write_explaining(choices, picture, subject.top, ViewerOptions()), namespace)
    maps = resources.explain(choices, subject.top, picture)
    for name, attribution in maps.items():
        torch.testing.assert_close(
            attribution.heatmap, namespace["maps"][name].heatmap, rtol=0, atol=1e-6
        )
        png = downloads.write_png(subject, attribution, ViewerOptions())
        mine, truth = (Image.open(file) for file in (io.BytesIO(png), f"{name}.png"))
        assert mine.size == subject.model.crop(load_image("photo.png")).size
        assert np.array_equal(np.asarray(mine), np.asarray(truth))
    assert max(subject.crop.size) <= resources.DISPLAY_SIDE


def test_few_large_photos_are_decoded_at_a_time(tmp_path):
    """Each visitor's photo costs its file's bytes, and it is decoded again when it is asked for."""
    contents = [write_photo(tmp_path, (2500, 1800), seed) for seed in range(4)]
    pictures = [resources.decode_upload(content, "photo.png") for content in contents]
    assert large_photos._decode.cache_info().currsize <= large_photos.DECODED_KEPT
    for content, picture in zip(contents, pictures, strict=True):
        truth = np.asarray(Image.open(io.BytesIO(content)))
        assert np.array_equal(np.asarray(picture.photo.image), truth)
    assert large_photos._decode.cache_info().currsize <= large_photos.DECODED_KEPT
    assert len({picture.photo for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("cut", [0, 20_000], ids=["text", "half"])
def test_a_damaged_large_photo_is_refused_at_once(cut, tmp_path):
    content = write_photo(tmp_path, (2500, 1800))[:cut] or b"words"
    with pytest.raises(cam.ImageError, match=r"photo\.png"):
        resources.decode_upload(content, "photo.png")
