"""Clips: the same maps as frame by frame, times, refusals."""

import io

import pytest
import torch
from PIL import Image

import cam
from cam._clip import clip


def animation(durations, size=(64, 48), format="WEBP", **options):
    frames = [
        Image.effect_noise(size, 20 + 30 * index).convert("RGB") for index in range(len(durations))
    ]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format, save_all=True, append_images=frames[1:], duration=durations, **options
    )
    return buffer.getvalue(), frames


@pytest.mark.parametrize("format", ["WEBP", "GIF", "PNG"])
def test_frames_and_their_times_are_read(format):
    options = {"lossless": True} if format == "WEBP" else {}
    content, frames = animation([40, 120, 300], format=format, **options)
    film = clip.read_clip(content, "film")
    assert film.durations == (40, 120, 300) and len(film.frames) == 3
    assert film.frames_per_second == pytest.approx(3000 / 460)
    if format != "GIF":
        assert [read.tobytes() for read in film.frames] == [frame.tobytes() for frame in frames]


def test_each_frame_is_explained_as_if_alone(bundled):
    film = clip.demonstration("chelsea", 3, seed=1)
    explained = clip.explain_clip(bundled, film, "gradcam", batch_size=2)
    for index, frame in enumerate(film.frames):
        alone = cam.attribute(bundled, bundled.prepare(frame), "gradcam")["gradcam"]
        assert torch.allclose(explained.heatmaps[index], alone.heatmap[0], atol=1e-3)
        assert explained.targets[index] == int(alone.targets[0])
    expected = cam.overlay(bundled.crop(film.frames[1]), explained.heatmaps[1], "turbo", 0.5)
    assert explained.frames[1].tobytes() == expected.tobytes()
    again = clip.read_clip(explained.encoded("WEBP"))
    assert again.durations == film.durations and len(again.frames) == 3
    assert clip.read_clip(explained.encoded("GIF")).durations == (80, 80, 80)
    with pytest.raises(cam.InputError, match="WEBP, GIF, MP4"):
        explained.encoded("AVI")


def test_smoothing_over_time_by_hand(bundled):
    film = clip.demonstration("coffee", 3)
    plain = clip.explain_clip(bundled, film).heatmaps
    smooth = clip.explain_clip(bundled, film, smoothing=0.25).heatmaps
    second = 0.25 * plain[0] + 0.75 * plain[1]
    assert torch.allclose(smooth[0], plain[0], atol=1e-6)
    assert torch.allclose(smooth[1], second, atol=1e-6)
    assert torch.allclose(smooth[2], 0.25 * second + 0.75 * plain[2], atol=1e-6)


def test_too_much_is_refused_in_one_sentence(monkeypatch):
    content, _ = animation([50] * 5, format="GIF")
    with monkeypatch.context() as patch:
        patch.setattr(clip, "MAX_FRAMES", 4)
        with pytest.raises(cam.ImageError, match="film has more than 4 frames"):
            clip.read_clip(content, "film")
        with pytest.raises(cam.ImageError, match="more than 4 frames"):
            clip.read_clip([cam.sample("coffee")] * 5)
    with monkeypatch.context() as patch:
        patch.setattr(clip, "MAX_CLIP_PIXELS", 64 * 48 * 3)
        with pytest.raises(cam.ImageError, match="more than 3 frames of 64 × 48"):
            clip.read_clip(content, "film")
    # A header that promises 65,535 × 65,535 pixels, in a few bytes.
    bomb = b"GIF89a\xff\xff\xff\xff" + content[10:]
    with pytest.raises(cam.ImageError, match="pixels"):
        clip.read_clip(bomb, "bomb")
    for broken in (content[: len(content) // 2], b"these are words"):
        with pytest.raises(cam.ImageError):
            clip.read_clip(broken, "film")


def test_large_frames_are_reduced_and_no_time_is_a_tenth_of_a_second():
    content, _ = animation([0, 0], size=(1300, 650), format="GIF")
    film = clip.read_clip(content, "film")
    assert film.frames[0].size == (640, 320) and film.durations == (100, 100)
    assert any("reduced from 1300 × 650" in note for note in film.notes)
    assert any("as browsers do" in note for note in film.notes)


def test_several_pictures_are_a_clip_if_they_are_of_one_size():
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    film = clip.read_clip(pictures, frames_per_second=4)
    assert film.durations == (250, 250) and film.frames[1].getpixel((3, 3)) == (0, 0, 255)
    with pytest.raises(cam.ImageError, match="64 × 32 pixels at frame 3"):
        clip.read_clip([*pictures, Image.new("RGB", (64, 32))])


def test_cancelled(bundled):
    film = clip.demonstration(frames=4)
    with pytest.raises(cam.Cancelled):
        clip.explain_clip(bundled, film, batch_size=1, report=lambda share, _: share < 0.4)


def test_the_demonstration_says_what_it_is_and_is_the_same_each_time():
    first, second = (clip.demonstration("rocket", 3, seed=7) for _ in range(2))
    assert [a.tobytes() for a in first.frames] == [b.tobytes() for b in second.frames]
    assert first.notes == ("it was made from a photo, not filmed",)
    assert clip.demonstration("rocket", 3, seed=8).frames[0] != first.frames[0]
