"""``python -m cam clip``: frames as the library makes them, whole files."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cam
from cam._cli.commands import main
from cam._clip import clip

DONE, FAILED, WRONG_USAGE = 0, 1, 2


@pytest.fixture
def run(monkeypatch, tmp_path, bundled):
    """Call the command in an empty folder that holds two photos and an animation of three."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cam, "load_model", lambda *_, **__: bundled)
    photos = [cam.sample(name).resize((96, 96)) for name in ("chelsea", "coffee", "rocket")]
    for index, photo in enumerate(photos[:2]):
        photo.save(f"{index}.png")
    photos[0].save(
        "three.webp", save_all=True, append_images=photos[1:], duration=[100, 200, 300],
        lossless=True,
    )  # fmt: skip

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["clip", *map(str, arguments)])

    return call


def frames(file: str) -> tuple[list[np.ndarray], list[int]]:
    """An animation's frames and times, by Pillow."""
    pictures, times = [], []
    with Image.open(file) as image:
        for index in range(image.n_frames):
            image.seek(index)
            image.load()
            pictures.append(np.asarray(image.convert("RGB")).astype(int))
            times.append(image.info["duration"])
    return pictures, times


def test_each_frame_is_explained_for_its_own_class_and_time(run, bundled):
    result = run("three.webp", "--out", "new/out.webp", "--json")
    assert result.exit_code == DONE, result.output
    record = json.loads(result.stdout)
    with Image.open("three.webp") as image:
        photos = []
        for index in range(3):
            image.seek(index)
            photos.append(image.convert("RGB"))
    attribution = cam.attribute(bundled, bundled.prepare(photos), "gradcam")["gradcam"]
    assert record["targets"] == attribution.targets.tolist()
    assert record["frames"] == 3 and record["frames_per_second"] == pytest.approx(5)
    pictures, times = frames("new/out.webp")
    assert times == [100, 200, 300]
    for index, photo in enumerate(photos):
        expected = cam.overlay(bundled.crop(photo), attribution.heatmap[index], "turbo", 0.5)
        # WebP of quality 85.
        assert np.abs(pictures[index] - np.asarray(expected.convert("RGB"))).mean() < 6


def test_pictures_become_a_video_at_a_rate(run):
    result = run("0.png", "1.png", "--fps", 4, "--method", "saliency", "--target", "tabby")
    assert result.exit_code == DONE, result.output
    assert "explained.mp4: 2 frames in" in result.stdout
    with av.open(io.BytesIO(Path("explained.mp4").read_bytes())) as film:
        times = [frame.time for frame in film.decode(video=0)]
    assert times == pytest.approx([0, 0.25], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["three.webp", "--out", "a.avi"], WRONG_USAGE, "must end with .webp, .gif, .mp4"),
        (["three.webp", "--colormap", "turbot"], WRONG_USAGE, "no colour map 'turbot'"),
        (["three.webp", "--method", "gradcamm"], WRONG_USAGE, "gradcamm"),
        (["three.webp", "--smoothing", "1"], WRONG_USAGE, "smoothing"),
        (["three.webp", "--target", "no such class"], WRONG_USAGE, "no such class"),
        (["missing.mp4"], FAILED, "'missing.mp4' cannot be opened"),
        (["0.png", "three.webp", "--out", "0.png/a.gif"], FAILED, "cannot write '0.png/a.gif'"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_file(run, arguments, status, sentence):
    before = sorted(path.name for path in Path().iterdir())
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert sentence in result.stderr and "Traceback" not in result.stderr
    assert isinstance(result.exception, SystemExit)
    assert sorted(path.name for path in Path().iterdir()) == before


def test_smoothing_is_the_librarys(run, bundled):
    assert run("three.webp", "--smoothing", 0.5, "--out", "out.gif").exit_code == DONE
    expected = clip.explain_clip(bundled, clip.read_clip("three.webp"), smoothing=0.5)
    pictures, _ = frames("out.gif")
    for frame, other in zip(pictures, expected.frames, strict=True):
        # A GIF has 256 colours.
        assert np.abs(frame - np.asarray(other.convert("RGB"))).mean() < 12
