"""Explain single frames quickly, and pack them for the browser."""

import base64
import io
import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

import cam
from cam._media.images import read_image
from cam._media.video import Clip
from cam.errors import ImageError, InputError
from cam.kernels.blending.colormaps import colormap_table
from cam.polarity import DIVERGING

COLORMAP = "inferno"
# Of a frame on the way to the browser, in pixels: what networks see is smaller still.
SIDE = 320
QUALITY = 85
# Of a camera's frame, in base64: 480 × 360 pixels in JPEG have a fifth of it.
LARGEST_FRAME = 400_000


@dataclass(frozen=True)
class Explainer:
    """What explains frames.

    Attributes:
        model: A twin of the visitors' model, whose lock stays free for what is quick.
        method: The method's name.
        target: The class that is explained; None: each frame's top class.
        layer: The layer's dotted name; None: the model's default.
    """

    model: cam.Model
    method: str
    target: int | None = None
    layer: str | None = None

    def explain(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        """Explain frames in one batch.

        Returns:
            For each: its predicted class with the probability, the class that is explained, its
            map (H, W) as a PNG whose 255 is where the colours end, and what the model sees.

        Raises:
            CamError: The model cannot be explained so.
        """
        attribution = cam.attribute(
            self.model,
            self.model.prepare(images),
            self.method,
            targets=self.target,
            layers=self.layer,
        )[self.method]
        chances = attribution.logits.softmax(1)  # (B, classes)
        top = chances.argmax(1).tolist()
        targets = attribution.targets
        explained = targets.tolist() if isinstance(targets, torch.Tensor) else top
        maps = quantise(attribution.heatmap, cam.methods()[self.method].percentile)
        return [
            {
                "label": self.model.label(best),
                "probability": round(float(chances[index, best]), 4),
                "explained": self.model.label(explained[index]),
                "map": encode_image(maps[index]),
                "image": encode_image(_reduce(self.model.crop(image)), "JPEG", quality=QUALITY),
            }
            for index, (image, best) in enumerate(zip(images, top, strict=True))
        ]


def quantise(heatmaps: torch.Tensor, percentile: float, signed: bool = False) -> np.ndarray:
    """Quantise maps to 8 bits.

    Args:
        heatmaps: (B, H, W) floats in [0, 1], or in [-1, 1] with ``signed``.
        percentile: Where the colours end, of the size of each map's values.
        signed: Whether the maps have two signs.

    Returns:
        (B, H, W) uint8: 255 where the colours end and above; with ``signed`` 0 is their other end,
        and no evidence lies between 127 and 128.

    Raises:
        InputError: A value is not a number, so that there is no map.
    """
    values = heatmaps.float().cpu()
    if values.isnan().any():
        raise InputError("the network's output is not finite here, so there is no map")
    if percentile < 100:
        ends = values.abs().flatten(1).quantile(percentile / 100, dim=1)
        values = values / ends.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]
    if signed:
        values = (values + 1) / 2
    scaled: np.ndarray = (values.clamp(0, 1) * 255).round().byte().numpy()
    return scaled


def _reduce(image: Image.Image) -> Image.Image:
    return image if max(image.size) <= SIDE else ImageOps.contain(image, (SIDE, SIDE))


def encode_image(image: Image.Image | np.ndarray, form: str = "PNG", **options: Any) -> str:
    """Encode an image, or a map (H, W) uint8, as base64."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    options = options or ({"compress_level": 1} if form == "PNG" else {})
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def pack_colours() -> dict[str, str]:
    """Pack the colours of maps without and with signs: 256 × 3 bytes in base64 each."""
    names = {"plain": COLORMAP, "signed": DIVERGING}
    return {
        kind: base64.b64encode(colormap_table(name).numpy().tobytes()).decode()
        for kind, name in names.items()
    }


@dataclass
class LiveClip:
    """A clip whose frames are explained as the browser asks for them, and then kept.

    Attributes:
        clip: Its frames and their durations.
        explainer: What explains them.
        frames: The frames that are explained, from the first on.
        seconds: What that took.
    """

    clip: Clip
    explainer: Explainer
    frames: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    lock: Lock = field(default_factory=Lock)

    def get_frames(self, first: int, count: int) -> list[dict[str, Any]]:
        """Return frames from the first on, explained; fewer at the end of the clip."""
        last = min(first + count, len(self.clip.frames))
        with self.lock:
            while len(self.frames) < last:
                begun, start = len(self.frames), time.perf_counter()
                images = list(self.clip.frames[begun : begun + count])
                self.frames += self.explainer.explain(images)
                self.seconds += time.perf_counter() - start
            return self.frames[first:last]

    @property
    def per_second(self) -> float:
        """Frames explained and packed a second so far."""
        return len(self.frames) / self.seconds if self.seconds else 0.0


def decode_frame(text: str) -> Image.Image:
    """Decode a camera's frame, a JPEG in base64.

    Raises:
        ImageError: It is too large, or no image.
    """
    if len(text) > LARGEST_FRAME:
        raise ImageError("the camera's frame is too large; the browser reduces it to 480 pixels")
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise ImageError("the camera's frame is no image") from None
    return read_image(content, "the camera's frame").image
