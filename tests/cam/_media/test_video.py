"""Videos: colours and times, turned, sampled, cut, broken; MP4 out."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

import cam
from cam._clip import clip
from cam._media import video

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]
KINDS = [("mp4", "libx264"), ("mov", "libx264"), ("webm", "libvpx"), ("matroska", "mpeg4")]


def film(pictures, times, kind="mp4", codec="libx264", file=None, **options) -> bytes:
    """A video by FFmpeg itself, with times in milliseconds, the end among them."""
    buffer = io.BytesIO()
    with av.open(file or buffer, "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = (
            pictures[0].width,
            pictures[0].height,
            "yuv420p",
        )
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            frame.duration = times[index + 1] - times[index]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.read_bytes() if file else buffer.getvalue()


def plain(count, size=(64, 48)):
    return [Image.new("RGB", size, COLOURS[index % len(COLOURS)]) for index in range(count)]


def middle(frame) -> np.ndarray:
    return np.asarray(frame).astype(int)[frame.height // 2, frame.width // 2]


@pytest.mark.parametrize(("kind", "codec"), KINDS)
def test_colours_come_back_in_their_order_for_their_time(kind, codec):
    content = film(plain(5), [0, 40, 120, 300, 340, 380], kind, codec)
    read = clip.read_clip(content, "film")
    assert read.durations[:4] == (40, 80, 180, 40) and len(read.frames) == 5
    for frame, colour in zip(read.frames, COLOURS, strict=True):
        assert np.abs(middle(frame) - colour).max() < 16, (middle(frame), colour)
    assert read.notes == ()


def test_a_path_is_read_too(tmp_path):
    file = tmp_path / "film.mp4"
    file.write_bytes(film(plain(3), [0, 40, 80, 120]))
    read = clip.read_clip(file)
    assert read.name == "film.mp4" and read.frames_per_second == pytest.approx(25)


@pytest.mark.parametrize(
    ("matrix", "red"),
    [
        ((1, 0, 0, 1), "left"),
        ((0, 1, -1, 0), "top"),  # x' = -y, y' = x: a quarter clockwise, as a phone held upright
        ((-1, 0, 0, -1), "right"),
        ((0, -1, 1, 0), "bottom"),
    ],
)
def test_a_film_is_turned_as_its_header_says(matrix, red):
    """The header's matrix is written by hand, as QuickTime's specification gives it."""
    picture = Image.new("RGB", (96, 64), "blue")
    picture.paste("red", (0, 0, 48, 64))
    content = film([picture] * 2, [0, 40, 80])
    a, b, c, d = (factor * 0x10000 for factor in matrix)
    header = content.index(b"tkhd") + 4
    at = header + 40  # version, times, identity, duration, layer, volume
    before = struct.unpack(">9i", content[at : at + 36])
    assert before == (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    [frame, _] = clip.read_clip(content[:at] + turned + content[at + 36 :]).frames
    assert frame.size == ((96, 64) if red in ("left", "right") else (64, 96))
    pixels = np.asarray(frame).astype(int)
    redness = pixels[..., 0] - pixels[..., 2]
    rows, columns = len(pixels), len(pixels[0])
    half = {
        "left": redness[:, : columns // 2 - 4],
        "right": redness[:, columns // 2 + 4 :],
        "top": redness[: rows // 2 - 4],
        "bottom": redness[rows // 2 + 4 :],
    }
    assert {name: bool(part.mean() > 100) for name, part in half.items()} == {
        name: name == red for name in half
    }


def test_a_long_film_is_seen_as_a_whole_at_its_own_speed(monkeypatch):
    monkeypatch.setattr(clip, "MAX_FRAMES", 8)
    content = film(plain(21), list(range(0, 22 * 40, 40)))
    read = clip.read_clip(content, "film")
    # Of 21 frames every fourth: 0, 4, … 20, and the last one until the end.
    assert len(read.frames) == 6 and read.durations == (160,) * 5 + (40,)
    for index, frame in enumerate(read.frames):
        assert np.abs(middle(frame) - COLOURS[4 * index % 5]).max() < 16
    assert read.notes == ("6 of its 21 frames are taken, evenly spaced",)


def test_of_an_endless_film_the_beginning_is_decoded(monkeypatch):
    content = film(plain(50), list(range(0, 51 * 40, 40)))
    monkeypatch.setattr(video, "MAX_DECODED", 10)
    shares = []
    read = clip.read_clip(content, "film", report=lambda share, _: shares.append(share))
    assert len(read.frames) == 10 and len(shares) == 10
    assert read.notes == ("only its first 0 seconds are read; cut it to see others",)
    monkeypatch.setattr(video, "MAX_DECODED", 4800)
    monkeypatch.setattr(video, "MAX_DECODED_PIXELS", 64 * 48 * 7)
    assert len(clip.read_clip(content, "film").frames) == 7
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(cam.ImageError, match="3,072 pixels a frame"):
        clip.read_clip(content, "film")


def test_large_frames_are_reduced():
    read = clip.read_clip(film(plain(2, (1280, 720)), [0, 40, 80]))
    assert read.frames[0].size == (640, 360)
    assert any("reduced from 1280 × 720" in note for note in read.notes)


def test_cancelled_while_it_is_read():
    content = film(plain(20), list(range(0, 21 * 40, 40)))
    with pytest.raises(cam.Cancelled):
        clip.read_clip(content, report=lambda share, _: share < 0.5)


@pytest.mark.parametrize(("kind", "codec"), KINDS)
def test_a_truncated_film_is_one_sentence_or_a_note(kind, codec):
    content = film(plain(60), list(range(0, 61 * 40, 40)), kind, codec)
    try:
        read = clip.read_clip(content[: len(content) // 2], "film")
    except cam.ImageError as error:
        assert "film is damaged, incomplete or no video" in str(error) and "\n" not in str(error)
    else:
        assert kind in ("webm", "matroska") and len(read.frames) < 60


def test_a_film_whose_index_came_but_not_its_frames(tmp_path):
    noise = [Image.effect_noise((64, 48), 50 + index).convert("RGB") for index in range(40)]
    file, times = tmp_path / "film.mp4", list(range(0, 41 * 40, 40))
    content = film(noise, times, file=file, movflags="+faststart")
    try:
        read = clip.read_clip(content[: len(content) * 2 // 3], "film")
    except cam.ImageError as error:
        assert "damaged" in str(error)
    else:
        assert any("of the 40 frames that it promises" in note for note in read.notes)


@pytest.mark.parametrize(
    "content",
    [b"\0\0\0\x20ftypisom" + b"\0" * 200, b"\x1a\x45\xdf\xa3" + b"\xff" * 300, b"\0\0\0\x08moov"],
)
def test_what_only_begins_like_a_film(content):
    with pytest.raises(cam.ImageError) as caught:
        clip.read_clip(content, "film")
    message = str(caught.value)
    assert "film is damaged, incomplete or no video" in message or "holds no images" in message


def test_sound_alone_is_no_film():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(cam.ImageError, match="only sound"):
        clip.read_clip(buffer.getvalue(), "song")


@pytest.mark.parametrize("size", [(64, 48), (65, 47)])
def test_mp4_out(size):
    pictures, durations = plain(5, size), (40, 80, 180, 40, 83)
    made = clip.ExplainedClip(
        tuple(pictures), durations, torch.zeros(5, 2, 2), (0,) * 5, "gradcam", {}
    )
    content = made.encoded("MP4")
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert not container.streams.audio and content.index(b"moov") < content.index(b"mdat")
    read = clip.read_clip(content)
    assert read.durations == durations
    assert read.frames[0].size == (64, size[1] // 2 * 2)
    for frame, colour in zip(read.frames, COLOURS, strict=True):
        assert np.abs(middle(frame) - colour).max() < 16
