"""Keep the images and names by which a result is looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from cam._media.images import UNNAMED, Photo
from cam._media.rendering import overlay
from cam._methods.base.method_registry import methods
from cam._models.cropping import crop_image
from cam._models.model import Model
from cam._models.preprocessing import Transform, mean_and_std
from cam._output.explanation_files import (
    data_uri,
    distinct_stems,
    npz_bytes,
    record,
    write_explanation,
)
from cam._output.target_names import name_target
from cam._output.viewer.notebook import pack_result, write_frame
from cam._output.volume_view import choose_plane, draw_planes, make_sheet
from cam.errors import InputError
from cam.polarity import DIVERGING
from cam.types import Attribution

# How far beyond [0, 1] rounding takes a pixel whose normalisation is undone.
ROUNDING = 0.01
COLORMAP = "inferno"


@dataclass(frozen=True, eq=False)
class ResultView:
    """What a result needs beside its maps; holds the batch, and no copy of it.

    Attributes:
        name: The model's.
        batch: (B, C, H, W), its input; of volumes and clips (B, C, D, H, W).
        mean: What its preparation subtracted from each channel.
        std: What it then divided by.
        labels: One name a class, or None.
        version: Of the batch's memory when it was explained.
        photos: The images that the batch was prepared from; none where it came as a tensor.
        transform: The model's, by which the photos are cropped to what it saw.
    """

    name: str
    batch: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] | None
    version: int
    photos: tuple[Photo, ...] = ()
    transform: Transform | None = None

    @staticmethod
    def of(model: Model | nn.Module, batch: Tensor, photos: Sequence[Photo] = ()) -> "ResultView":
        """Take what is needed of a model and its input."""
        transform, labels, name = None, None, type(model).__name__
        if isinstance(model, Model):
            transform, labels, name = model.transform, model.labels, model.name
        mean, std = mean_and_std(transform)
        version = _version(batch)
        return ResultView(name, batch, mean, std, labels, version, tuple(photos), transform)

    def write_html(self, attributions: Mapping[str, Attribution]) -> str:
        """Return HTML for a notebook that shows several methods' maps of the batch."""
        if self.batch.ndim == 5:
            return self._write_sheets(attributions)
        return write_frame(self, attributions)

    def pack(self, attributions: Mapping[str, Attribution], index: int) -> dict[str, Any]:
        """Pack one image with several methods' maps for the viewer.

        Raises:
            InputError: They are of a volume or a clip.
        """
        if self.batch.ndim == 5:
            raise InputError(
                "the viewer shows images; of a volume or a clip .overlay(plane=…) draws a plane"
            )
        return pack_result(self, attributions, index)

    def describe(self, attribution: Attribution) -> str:
        """Describe a result in one line."""
        shape = " × ".join(map(str, attribution.heatmap.shape[1:]))
        names = [self.name_target(attribution, index) for index in range(min(len(self.batch), 3))]
        more = len(self.batch) - len(names)
        targets = ", ".join(names) + (f" and {more} more" if more else "")
        at = f" at {', '.join(attribution.layers)}" if attribution.layers else ""
        count = len(self.batch)
        kind = "image" if self.batch.ndim == 4 else "volume"
        images = f"{count} {kind}{'s' * (count != 1)} of {shape}"
        return f"{attribution.method}{at}: {images}, {targets}, {attribution.cost.seconds:.2g} s"

    def overlay(
        self,
        attribution: Attribution,
        image: Image.Image | None = None,
        index: int = 0,
        *,
        plane: int | None = None,
        **options: Any,
    ) -> Image.Image:
        """Lay one image's map over it; see :meth:`cam.Attribution.overlay`."""
        if not -len(self.batch) <= index < len(self.batch):
            raise InputError(f"there is no image {index}: the batch has {len(self.batch)}")
        if self.batch.ndim == 5:
            if image is not None:
                raise InputError(
                    "of a volume or a clip the planes of the batch are drawn; leave image out, and "
                    "choose one with plane=…"
                )
            map_ = attribution.picture()[0][index]
            return self._draw_planes(attribution, index, options)[choose_plane(map_, plane)]
        if plane is not None:
            raise InputError(f"plane is {plane!r}, but an image has no planes; leave it out")
        maps, settings = self._choose_drawing(attribution, options)
        under = self.draw_image(index)[0] if image is None else image
        drawn: Image.Image = overlay(under, maps[index], **settings)
        return drawn

    def _choose_drawing(
        self, attribution: Attribution, options: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the maps that are drawn, and how: as the method's are, or by options."""
        maps, signed = attribution.picture()
        colormap = DIVERGING if signed else COLORMAP
        percentile = methods()[attribution.method].percentile
        defaults = {"colormap": colormap, "percentile": percentile, "signed": signed, "fade": True}
        return maps, {**defaults, "alpha": 0.85, **options}

    def _draw_planes(
        self, attribution: Attribution, index: int, options: Mapping[str, Any]
    ) -> list[Image.Image]:
        maps, settings = self._choose_drawing(attribution, options)
        volume = self.batch[index].detach().float()  # (C, D, H, W)
        low, high = self._find_range(volume)

        def draw(plane: int) -> Image.Image:
            return self._draw_pixels(volume[:, plane].cpu(), low, high)[0]

        return draw_planes(draw, maps[index], **settings)

    def _write_sheets(self, attributions: Mapping[str, Attribution]) -> str:
        """Return HTML with each volume's planes under each method's map."""
        figures = [
            f"<figure><img src='{data_uri(make_sheet(self._draw_planes(each, index, {})))}' "
            f"alt='{escape(name)}'><figcaption>{escape(name)}: "
            f"{escape(self.name_target(each, index))}</figcaption></figure>"
            for index in range(len(self.batch))
            for name, each in attributions.items()
        ]
        return "\n".join(figures)

    def save(
        self, attributions: Mapping[str, Attribution], folder: str | PathLike[str]
    ) -> list[Path]:
        """Write each image's overlay, arrays and record; see :meth:`cam.Attribution.save`."""
        into = Path(folder)
        names = ["image" if photo.name in UNNAMED else photo.name for photo in self.photos]
        names = names or [f"image-{index}" for index in range(len(self.batch))]
        files = []
        for index, (stem, name) in enumerate(zip(distinct_stems(names), names, strict=True)):
            notes = self.photos[index].notes if self.photos else ()
            for key, attribution in attributions.items():
                facts = record(self, attribution, index, name, notes)
                if self.batch.ndim == 5:
                    drawn = make_sheet(self._draw_planes(attribution, index, {}))
                else:
                    drawn = self.overlay(attribution, index=index)
                arrays = npz_bytes(attribution, index)
                written = write_explanation(into, f"{stem}.{key}", drawn, arrays, facts)
                files += [into / file for file in written["files"].values()]
        return files

    def draw_image(self, index: int) -> tuple[Image.Image, str]:
        """Draw what the model saw, and say what a reader should know of it."""
        if self.photos and self.transform is not None:
            return crop_image(self.transform, self.photos[index].image), ""
        return self._draw_pixels(self.batch[index].detach().float().cpu())

    def _find_range(self, volume: Tensor) -> tuple[float | None, float | None]:
        """Return the lowest and the highest value of a volume, after its normalisation."""
        if len(self.mean) == len(volume):
            mean, std = (
                volume.new_tensor(part).view(-1, 1, 1, 1) for part in (self.mean, self.std)
            )
            volume = volume * std + mean
        return float(volume.min()), float(volume.max())

    def _draw_pixels(
        self, tensor: Tensor, low: float | None = None, high: float | None = None
    ) -> tuple[Image.Image, str]:
        """Draw what the model saw, (C, H, W), in the range of a volume that it is a plane of."""
        blank = Image.new("RGB", (tensor.shape[2], tensor.shape[1]), "#808080")
        if _version(self.batch) != self.version:
            return blank, "The batch was changed since, so its image is not shown."
        if len(tensor) not in (1, 3):
            return blank, f"An input of {len(tensor)} channels is no image to show."
        pixels = tensor.movedim(0, -1).numpy()  # (H, W, C)
        if len(self.mean) == pixels.shape[2]:
            pixels = pixels * np.asarray(self.std) + np.asarray(self.mean)
        if not np.isfinite(pixels).all():
            return blank, "The input holds NaN or infinity, so it is not shown."
        caption = ""
        low = float(pixels.min()) if low is None else low
        high = float(pixels.max()) if high is None else high
        if low < -ROUNDING or high > 1 + ROUNDING:
            pixels = (pixels - low) / (high - low)
            caption = "Colours are stretched: how the input was normalised is not known."
        levels = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
        return Image.fromarray(levels.repeat(3 // levels.shape[2], axis=2)), caption

    def name_target(self, attribution: Attribution, index: int) -> str:
        """Name what is explained of an image."""
        return name_target(attribution.targets[index], self.label)

    def label(self, number: int) -> str:
        """Return the name of a class, or ``class 7`` without labels."""
        return f"class {number}" if self.labels is None else self.labels[number]


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written to; inference tensors do not count that."""
    return 0 if tensor.is_inference() else tensor._version
