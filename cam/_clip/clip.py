"""Explain clips: the frames of an animation, or several pictures.

A clip is explained in batches; each frame's heatmap is that of :func:`cam.attribute` for this frame
alone, unless smoothing over time is asked for.
"""

import io
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cam._attribution.attribution import attribute
from cam._engine.layers import Layers
from cam._media.images import (
    DECODER_ERRORS,
    MAX_PIXELS,
    ImageSource,
    Photo,
    open_picture,
    read_image,
    sample,
)
from cam._media.rendering import overlay
from cam._media.video import Clip, kind_of, read_video, write_video
from cam._methods.base.method_registry import Method, method
from cam._models.model import Model
from cam.errors import Cancelled, ImageError, InputError
from cam.polarity import DIVERGING
from cam.targets import Targets

MAX_FRAMES = 240
# A frame is kept at this side at most: 240 of them are 280 MB.
LARGEST_SIDE = 640
# Of all frames together: a tenth of a second each at 1080p.
MAX_CLIP_PIXELS = 8 * MAX_PIXELS
FORMATS = ("WEBP", "GIF", "MP4")
NO_CLIP = "is neither a video nor an image that can be read here; use MP4, WebM, GIF, WebP or PNG"
# What browsers do with a frame that is to be shown for no time at all.
NO_TIME, USUAL_TIME = 10, 100

Report = Callable[[float, str], bool | None]
"""Called with the share that is done and the current step; False cancels."""


def read_clip(
    source: ImageSource | Sequence[ImageSource],
    name: str | None = None,
    frames_per_second: float = 8,
    report: Report | None = None,
) -> Clip:
    """Read a video, an animation or several pictures as a clip.

    An animation is a GIF, WebP or PNG; a video MP4, MOV, WebM or Matroska. Of one with more than
    ``MAX_FRAMES`` frames every second, fourth, … one is taken, each shown until the next, so that
    the whole is seen at its own speed; of one with more than ``MAX_DECODED`` the
    beginning. ``notes`` say so. Its sound is left out.

    Args:
        source: A path, encoded bytes or an open binary file; or several pictures of one size, of
            what :func:`cam.load_image` takes.
        name: What to call it in messages.
        frames_per_second: For several pictures, which carry no times.
        report: Called before each frame; False cancels.

    Returns:
        The frames, at most ``LARGEST_SIDE`` pixels wide and high, each with its own duration.

    Raises:
        ImageError: It is no picture, is damaged, too large, or has too many frames; or the pictures
            differ in size.
        Cancelled: ``report`` answered False.
    """
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _read_pictures(list(source), name or "the images", frames_per_second, report)
    if isinstance(source, bytes):
        return _read_file(io.BytesIO(source), name or "the clip", report)
    if isinstance(source, str | os.PathLike) and not str(source).startswith("sample:"):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return _read_file(file, name or path.name, report)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ImageError(f"{str(path)!r} cannot be opened: {reason}") from None
    return _read_pictures([source], name or "the image", frames_per_second, report)


@dataclass(eq=False)
class _Frames:
    """Frames that are being collected for a clip."""

    name: str
    pictures: list[Image.Image] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    size: tuple[int, int] | None = None

    def add(self, photo: Photo, duration: int) -> None:
        """Add a frame of the first one's size, and its notes."""
        self.size = self.size or photo.image.size
        if photo.image.size != self.size:
            width, height = photo.image.size
            raise ImageError(
                f"{photo.name} has {width} × {height} pixels at frame {len(self.pictures) + 1}, "
                f"but the first frame of the clip has {self.size[0]} × {self.size[1]}; make all of "
                "them the same size"
            )
        self.notes |= dict.fromkeys(photo.notes)
        self.pictures.append(_reduce(photo.image, self.notes))
        self.durations.append(duration)

    def finish(self) -> Clip:
        """Return the clip."""
        return Clip(tuple(self.pictures), tuple(self.durations), self.name, tuple(self.notes))


def _read_pictures(
    sources: list[ImageSource], name: str, frames_per_second: float, report: Report | None
) -> Clip:
    if not sources:
        raise ImageError("there is no image to make a clip of; give at least one")
    if not frames_per_second > 0:
        raise InputError(f"frames_per_second must be above 0, but is {frames_per_second}")
    _check_count(len(sources), name)
    frames = _Frames(name)
    for index, source in enumerate(sources):
        _tell(report, index / len(sources), "reading")
        frames.add(read_image(source), max(1, round(1000 / frames_per_second)))
    return frames.finish()


def _read_file(file: BinaryIO, name: str, report: Report | None) -> Clip:
    kind = kind_of(file.read(12))
    file.seek(0)
    if kind is None:
        return _read_animation(file, name, report)
    notes: dict[str, None] = {}
    video = read_video(
        file,
        kind,
        name,
        MAX_FRAMES,
        lambda frame: _reduce(frame, notes),
        lambda share: _tell(report, share, "reading"),
    )
    return replace(video, notes=(*video.notes, *notes))


def _read_animation(file: BinaryIO, name: str, report: Report | None) -> Clip:
    frames = _Frames(name)
    count = 1
    with open_picture(file, name, NO_CLIP) as image:
        # A GIF does not say how many frames it has before all of them are read.
        announced = getattr(image, "n_frames", 1) if image.format in ("WEBP", "PNG") else 1
        _check_count(announced, name)
        try:
            while True:
                _check_count(count, name)
                _check_pixels(image.size, max(announced, count), name)
                _tell(report, (count - 1) / max(announced, count), "reading")
                image.load()
                # A copy: a single frame has no others that a note would name.
                frames.add(read_image(image.copy(), name), _milliseconds(image, frames.notes))
                image.seek(count)
                count += 1
        except EOFError:
            return frames.finish()
        except Image.DecompressionBombError:
            raise ImageError(
                f"{name} has too many pixels at frame {count}; shrink it first"
            ) from None
        except DECODER_ERRORS:
            raise ImageError(
                f"{name} is damaged or incomplete at frame {count}; save it again"
            ) from None


def _check_pixels(size: tuple[int, int], count: int, name: str) -> None:
    width, height = size
    most = MAX_CLIP_PIXELS // max(1, width * height)
    if count > most:
        raise ImageError(
            f"{name} has more than {most} frames of {width} × {height} pixels, which is the most "
            "of that size; shrink or shorten it first"
        )


def _check_count(count: int, name: str) -> None:
    if count > MAX_FRAMES:
        raise ImageError(
            f"{name} has more than {MAX_FRAMES} frames, which is the most; cut it first"
        )


def _reduce(frame: Image.Image, notes: dict[str, None]) -> Image.Image:
    if max(frame.size) <= LARGEST_SIDE:
        return frame
    smaller = ImageOps.contain(frame, (LARGEST_SIDE, LARGEST_SIDE))
    notes[
        f"its frames were reduced from {frame.width} × {frame.height} to "
        f"{smaller.width} × {smaller.height} pixels"
    ] = None
    return smaller


def _milliseconds(image: Image.Image, notes: dict[str, None]) -> int:
    duration = round(float(image.info.get("duration", 0) or 0))
    if duration > NO_TIME:
        return duration
    if getattr(image, "is_animated", False):
        notes[
            f"frames that are to be shown for {NO_TIME} ms or less are shown for {USUAL_TIME} ms, "
            "as browsers do"
        ] = None
    return USUAL_TIME


def demonstration(name: str = "chelsea", frames: int = 24, seed: int = 0) -> Clip:
    """Make a clip by a pan and zoom across a photo.

    Args:
        name: One of :func:`cam.samples`.
        frames: How many.
        seed: Of the path.

    Raises:
        ImageError: There is no such sample, or too many frames are asked for.
    """
    if frames < 1:
        raise InputError(f"frames must be at least 1, but is {frames}")
    _check_count(frames, "the demonstration")
    photo = sample(name)
    generator = np.random.default_rng(seed)
    # From one window to another: how much of the short side it shows, and where it is.
    share, x, y = generator.uniform((0.55, 0, 0), (0.95, 1, 1), (2, 3)).T
    windows = []
    for moment in np.linspace(0, 1, frames):
        eased = moment * moment * (3 - 2 * moment)
        side = min(photo.size) * (share[0] + (share[1] - share[0]) * eased)
        left = (photo.width - side) * (x[0] + (x[1] - x[0]) * eased)
        top = (photo.height - side) * (y[0] + (y[1] - y[0]) * eased)
        box = (left, top, left + side, top + side)
        windows.append(photo.resize((256, 256), Image.Resampling.BICUBIC, box))
    return Clip(
        tuple(windows),
        (83,) * frames,
        f"a pan and zoom across the photo {name}",
        ("it was made from a photo, not filmed",),
    )


@dataclass(frozen=True, eq=False)
class ExplainedClip:
    """A clip with a heatmap over each frame.

    Attributes:
        frames: What the model sees of each, with the heatmap over it.
        durations: The clip's, in milliseconds.
        heatmaps: (N, H, W) float32 in [0, 1], or in [-1, 1] of contributions, on the CPU.
        targets: Each frame's class.
        method: The method's name.
        seconds: The time of each step: "prepare" (to the model's input), "explain", "draw".
    """

    frames: tuple[Image.Image, ...]
    durations: tuple[int, ...]
    heatmaps: Tensor
    targets: tuple[int, ...]
    method: str
    seconds: dict[str, float]

    def encoded(self, format: str = "WEBP") -> bytes:
        """Encode the frames as an endless animation, or as a video.

        Args:
            format: "WEBP"; "GIF", whose times are in hundredths of a second and whose colours are
                256; or "MP4", a video in H.264 without sound.

        Raises:
            InputError: Another format.
        """
        if format not in FORMATS:
            raise InputError(f"format is {format!r}, but must be one of {', '.join(FORMATS)}")
        if format == "MP4":
            return write_video(self.frames, self.durations)
        buffer = io.BytesIO()
        self.frames[0].save(
            buffer,
            format=format,
            save_all=True,
            append_images=self.frames[1:],
            duration=list(self.durations),
            loop=0,
            **({"quality": 85, "method": 2} if format == "WEBP" else {}),
        )
        return buffer.getvalue()


def explain_clip(
    model: Model,
    clip: Clip,
    method_name: str | Method = "gradcam",
    targets: Targets = None,
    layers: Layers = None,
    *,
    batch_size: int = 8,
    smoothing: float = 0.0,
    colormap: str = "turbo",
    alpha: float = 0.5,
    fade: bool = False,
    precision: str | None = None,
    report: Report | None = None,
) -> ExplainedClip:
    """Explain each frame of a clip and lay its heatmap over it.

    Args:
        model: What is explained.
        clip: As :func:`read_clip` gives.
        method_name: One method, or :func:`cam.method` with parameters.
        targets: A class for all frames, as for :func:`cam.attribute`; None: each frame's top class.
        layers: As for :func:`cam.attribute`.
        batch_size: How many frames go through the model at once.
        smoothing: s in h_t ← s · h_(t-1) + (1 - s) · h_t, from 0, which leaves each frame as it is,
            to below 1.
        colormap: One of ``kernels.COLORMAPS``.
        alpha: Opacity of the heatmap.
        fade: Whether the opacity follows the evidence, as for :func:`cam.overlay`.
        precision: As for :func:`cam.attribute`.
        report: Called after each batch with the share that is done and what is being done; False
            cancels.

    Raises:
        CamError: The model cannot be explained so, or an option is out of its range.
        Cancelled: ``report`` answered False.
    """
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing must lie from 0 to below 1, but is {smoothing}")
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, but is {batch_size}")
    configured = method(method_name) if isinstance(method_name, str) else method_name
    seconds = dict.fromkeys(("prepare", "explain", "draw"), 0.0)
    drawn: list[Image.Image] = []
    heatmaps: list[Tensor] = []
    explained: list[int] = []
    latest: Tensor | None = None
    for start in range(0, len(clip.frames), batch_size):
        frames = clip.frames[start : start + batch_size]
        began = time.perf_counter()
        batch = model.prepare(frames)
        prepared = time.perf_counter()
        (attribution,) = attribute(
            model, batch, configured, targets, layers, precision=precision
        ).values()
        values, signed = attribution.picture()
        maps = values.cpu()  # a GPU has done its work when it is there
        done = time.perf_counter()
        if not isinstance(attribution.targets, Tensor):
            raise InputError("a clip is explained for classes, not for callables")
        explained += attribution.targets.tolist()
        for frame, heatmap in zip(frames, maps, strict=True):
            if latest is not None:
                heatmap = smoothing * latest + (1 - smoothing) * heatmap
            latest = heatmap if smoothing else None
            heatmaps.append(heatmap)
            crop, percentile = model.crop(frame), configured.info.percentile
            colours = DIVERGING if signed else colormap
            drawn.append(
                overlay(crop, heatmap, colours, alpha, percentile, signed=signed, fade=fade)
            )
        seconds["prepare"] += prepared - began
        seconds["explain"] += done - prepared
        seconds["draw"] += time.perf_counter() - done
        _tell(report, len(drawn) / len(clip.frames), f"frame {len(drawn)} of {len(clip.frames)}")
    return ExplainedClip(
        tuple(drawn),
        clip.durations,
        torch.stack(heatmaps),
        tuple(explained),
        configured.name,
        seconds,
    )


def _tell(report: Report | None, share: float, what: str) -> None:
    if report is not None and report(share, what) is False:
        raise Cancelled("the clip was cancelled")
