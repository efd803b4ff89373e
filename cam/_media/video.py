"""Read video frames with their times, and write MP4, through PyAV."""

import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from cam._extras import require
from cam._media.images import MAX_PIXELS
from cam.errors import ImageError

# Of a longer one only the beginning is read: 160 seconds at 30 frames a second, at 1080p.
MAX_DECODED = 4800
MAX_DECODED_PIXELS = MAX_DECODED * 1920 * 1080
# Pictures begin like MP4 too.
_PICTURES = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
_MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames in their order.

    Attributes:
        frames: RGB pictures of one size, upright.
        durations: How long each is shown, in milliseconds.
        name: Where it came from, for messages.
        notes: What was done to it that its owner may not expect.
    """

    frames: tuple[Image.Image, ...]
    durations: tuple[int, ...]
    name: str
    notes: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """At which it was recorded, on average."""
        return 1000 * len(self.frames) / sum(self.durations)


def kind_of(head: bytes) -> str | None:
    """Name a video's kind by its head: "mov" (MP4 too), "matroska" (WebM)."""
    if head[4:8] in _BOXES and head[8:12] not in _PICTURES:
        return "mov"
    return "matroska" if head[:4] == b"\x1a\x45\xdf\xa3" else None


def read_video(
    file: BinaryIO,
    kind: str,
    name: str,
    most: int,
    reduce: Callable[[Image.Image], Image.Image],
    tell: Callable[[float], None],
) -> Clip:
    """Read a video frame by frame, with at most ``most`` in memory.

    Where there are more, every second, fourth, … of them is kept, so that the whole is seen at its
    own speed. Frames are turned as the file says that they were filmed.

    Args:
        file: An open file.
        kind: As :func:`kind_of` says; nothing else is tried, least of all lists of other files.
        name: What to call it in messages.
        most: Frames.
        reduce: Makes of a frame what stays in memory.
        tell: Called with the share that is read; what it raises ends the reading.

    Raises:
        ImageError: It is no video, is damaged, or its frames are too large.
        MissingExtraError: PyAV is not installed.
    """
    require("video", f"the video {name}")
    import av

    frames: list[Image.Image] = []
    times: list[float] = []
    step, count, end, cut = 1, 0, 0.0, False
    promised = 0
    try:
        with av.open(file, format=kind) as container:
            if not container.streams.video:
                raise ImageError(f"{name} holds no images, only sound or nothing")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            promised = stream.frames
            limit = _limit_frames(stream, name)
            for frame in container.decode(stream):
                if count == limit:
                    cut = True
                    break
                usual = float(1 / (stream.average_rate or 25))
                at = end if frame.time is None else float(frame.time)
                length = float((frame.duration or 0) * (frame.time_base or 0))
                if count % step == 0:
                    if len(frames) == most:
                        # Every second one goes, and from now on every second one of the others.
                        del frames[1::2], times[1::2]
                        step *= 2
                    if count % step == 0:
                        frames.append(reduce(_turn_upright(frame)))
                        times.append(at)
                count, end = count + 1, at + (length or usual)
                tell(min(count / max(promised or _estimate_frames(stream), count, 1), 1.0))
    except (av.FFmpegError, OSError, ValueError, EOFError):
        where = f" at frame {count + 1}" if count else ""
        raise ImageError(
            f"{name} is damaged, incomplete or no video{where}; save it again as MP4 or WebM"
        ) from None
    if not frames:
        raise ImageError(f"{name} is a video without a single frame")
    notes = []
    if step > 1:
        notes.append(f"{len(frames)} of its {count:,} frames are taken, evenly spaced")
    if cut:
        notes.append(f"only its first {end - times[0]:.0f} seconds are read; cut it to see others")
    elif count < promised:
        notes.append(f"it ends after {count:,} of the {promised:,} frames that it promises")
    edges = [round(1000 * at) for at in (*times, end)]
    durations = tuple(max(1, b - a) for a, b in itertools.pairwise(edges))
    return Clip(tuple(frames), durations, name, tuple(notes))


def _limit_frames(stream: Any, name: str) -> int:
    """Return how many frames of that size are decoded at most."""
    pixels = max(1, stream.codec_context.width * stream.codec_context.height)
    if pixels > MAX_PIXELS:
        raise ImageError(f"{name} has {pixels:,} pixels a frame; shrink it first")
    most: int = min(MAX_DECODED, MAX_DECODED_PIXELS // pixels)
    return most


def _estimate_frames(stream: Any) -> int:
    if not stream.duration:
        return MAX_DECODED
    seconds = float(stream.duration * stream.time_base)
    return round(seconds * float(stream.average_rate or 25))


def _turn_upright(frame: Any) -> Image.Image:
    image: Image.Image = frame.to_image()
    turn = _TURNS.get(round(frame.rotation) % 360)  # counter-clockwise, as Pillow turns
    return image if turn is None else image.transpose(turn)


def write_video(frames: Sequence[Image.Image], durations: Sequence[int]) -> bytes:
    """Write frames as MP4: H.264, 4:2:0, which every browser and player shows.

    Args:
        frames: RGB pictures of one size; a last odd row or column is left out, as 4:2:0 asks.
        durations: Of each, in milliseconds.

    Raises:
        MissingExtraError: PyAV is not installed.
    """
    require("video", "writing MP4")
    import av

    # Even sides, as 4:2:0 halves them.
    width, height = (max(2, side - side % 2) for side in frames[0].size)
    # FFmpeg can be built without x264; browsers play VP9 in MP4 too.
    codec = "libx264" if "libx264" in av.codecs_available else "libvpx-vp9"
    options = {"crf": "20", "preset": "veryfast", "bf": "0"} if codec == "libx264" else {}
    with tempfile.TemporaryDirectory() as folder:
        # FFmpeg moves the index to the front at the end, for which it opens the file anew.
        path = Path(folder, "clip.mp4")
        with av.open(path, "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(codec, rate=1000, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.time_base = _MILLISECOND
            starts = itertools.accumulate(durations, initial=0)
            lasting = dict(zip(starts, durations, strict=False))
            for picture, start in zip(frames, lasting, strict=True):
                even = picture.convert("RGB").crop((0, 0, width, height))
                frame = av.VideoFrame.from_image(even)
                frame.pts, frame.time_base = start, _MILLISECOND
                _put(container, stream.encode(frame), lasting)
            _put(container, stream.encode(), lasting)
        return path.read_bytes()


def _put(container: Any, packets: list[Any], lasting: dict[int, int]) -> None:
    for packet in packets:
        # The encoder forgets it, and without it the last frame would flash by.
        packet.duration = lasting[packet.pts]
        container.mux(packet)
