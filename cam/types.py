"""Define the small frozen records that travel between parts of the library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from cam.errors import InputError

# Beside the largest score, maps of the bundled networks reach 1e-3, and those of a network that
# lets nothing through 1e-11.
ROUNDING = 1e-8

TargetFunction = Callable[[Tensor], Tensor]
"""From one image's output, e.g. its (classes,) logits, to the scalar that is explained."""


@dataclass(frozen=True)
class Cost:
    """The cost of an explanation, for the whole batch.

    Attributes:
        forwards: Forward passes of batches, those that other methods of the call shared included.
        backwards: Backward passes, those of other methods included.
        seconds: From the start of the shared passes to the map, without what other methods did.
    """

    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True)
class Progress:
    """How far a method with further passes is.

    Attributes:
        method: Its name.
        done: Inputs that went through the model.
        total: Inputs that will.
        partial: Makes the method's result from the inputs that are done, without another pass: in
            the units, kind and scale of the final one, raw map and heatmap NaN wherever nothing was
            gathered yet, such as on images of the batch that are not begun. It has no remarks and
            no error. Call it while the report runs. None where there is nothing new to show, where
            maps of several layers or pictures are fused, and for a method whose map does not grow.
    """

    method: str
    done: int
    total: int
    partial: "Callable[[], Attribution] | None" = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Maps:
    """A method's maps of one layer, or of the pixels.

    Attributes:
        raw: (B, h, w) before ReLU and normalisation, signed where the method is.
        normalised: (B, h, w) in [0, 1].
        remarks: What a reader of the maps should know, as (image, sentence).
        terms: Makes the (B, C, h, w) whose sum over the channels is raw; None where the map is no
            such sum.
        error: (B, h, w) standard error of raw, of a method that draws; NaN where the draws are too
            few to tell, None for a method that draws nothing.
    """

    raw: Tensor
    normalised: Tensor
    remarks: tuple[tuple[int, str], ...] = ()
    terms: Callable[[], Tensor] | None = field(default=None, repr=False)
    error: Tensor | None = None


class View(Protocol):
    """How a result is looked at: what stands beside its maps."""

    def describe(self, attribution: "Attribution") -> str:
        """Describe a result in one line."""

    def write_html(self, attributions: "Mapping[str, Attribution]") -> str:
        """Return HTML for a notebook that shows several methods' maps of the batch."""

    def pack(self, attributions: "Mapping[str, Attribution]", index: int) -> dict[str, Any]:
        """Pack one image with several methods' maps for the viewer."""

    def overlay(
        self, attribution: "Attribution", image: Image | None, index: int, **options: Any
    ) -> Image:
        """Lay one image's map over it."""

    def save(
        self, attributions: "Mapping[str, Attribution]", folder: str | PathLike[str]
    ) -> list[Path]:
        """Write each image's overlay, arrays and record."""


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """The result of one method for one batch.

    Attributes:
        heatmap: (B, H, W) float32 in [0, 1] at the input's resolution, on the model's device; of
            volumes and clips (B, D, H, W), where D are the planes or the frames. All maps below
            have that axis too.
        raw: (B, h, w) float32 before ReLU, normalisation and upsampling, signed where the method
            is. With several layers: their maps, fused at the finest of their resolutions.
        signed: (B, H, W) float32, the raw map at the input's resolution.
        kind: What its numbers are: "contribution", "sensitivity" or "evidence", of
            :data:`cam.polarity.KINDS`.
        targets: (B,) int64 class of each image, or the callables that were explained.
        scores: (B,) float32 raw score (logit) that was explained.
        logits: (B, classes) float32 output of the forward pass, detached.
        layers: Dotted names of the layers used; empty for a method of the pixels.
        method: Name of the method.
        cost: Passes and seconds that it took.
        precision: In which the network computed: "fp32", "tf32", "fp16", "bf16" or "fp64".
        remarks: What the method says a reader should know; part of :meth:`notes`.
        error: (B, h, w) float32 standard error of the raw map, of a method that draws: how far
            another seed's map may be from it. NaN where the draws are too few to tell. None for a
            method that draws nothing, and where maps of several layers or pictures are fused.
    """

    heatmap: Tensor
    raw: Tensor
    targets: Tensor | tuple[TargetFunction, ...]
    scores: Tensor
    logits: Tensor
    layers: tuple[str, ...]
    method: str
    kind: str
    cost: Cost
    precision: str
    remarks: tuple[tuple[int, str], ...] = ()
    error: Tensor | None = None
    view: "View | None" = field(default=None, repr=False)

    def __repr__(self) -> str:
        """Describe the result in one line, and not each of its values."""
        shape = tuple(self.heatmap.shape)
        text = f"{self.method}: {shape}" if self.view is None else self.view.describe(self)
        return f"<Attribution {text}>"

    def _repr_html_(self) -> str | None:
        """Return the viewer for a notebook; None, for the plain text, where there is no image."""
        return None if self.view is None else self.view.write_html({self.method: self})

    def overlay(self, image: Image | None = None, index: int = 0, **options: Any) -> Image:
        """Lay an image's map over it.

        Contributions for and against are drawn in a diverging colour map, everything else in
        "inferno"; where there is no evidence the image stays as it is.

        Args:
            image: What lies under the map, which must be what the model saw: ``model.crop(photo)``.
                None: the image that was explained, cropped; its pixels at the model's resolution
                where the batch was a tensor.
            index: Which image of the batch.
            options: Of :func:`cam.overlay`, in place of those. Of a volume or a clip also
                ``plane``, the plane or frame that is drawn, in the scale of all of them; None: the
                one with the strongest value.

        Returns:
            A PIL image in mode RGB.

        Raises:
            InputError: There is no such image, or the options do not fit.
        """
        return self._with_view().overlay(self, image, index, **options)

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write each image's overlay (PNG), arrays (npz) and record (JSON).

        Of a volume or a clip the overlay has up to 16 planes side by side, and the arrays all.
        Each file appears whole or not at all; of an image all three or none.

        Args:
            folder: Where to; made if it is not there.

        Returns:
            The files: ``IMAGE.METHOD.png``, ``.npz`` and ``.json`` of each image.

        Raises:
            CamError: The folder cannot be written.
        """
        return self._with_view().save({self.method: self}, folder)

    def to_numpy(self) -> np.ndarray:
        """Copy the heatmaps to an array (B, H, W), float32 in [0, 1]."""
        heatmaps: np.ndarray = self.heatmap.detach().cpu().numpy().copy()
        return heatmaps

    def _with_view(self) -> "View":
        """Return what is beside the maps.

        Raises:
            InputError: It did not travel with a result from another process.
        """
        if self.view is None:
            raise InputError(
                "this result has no images: it came from another process or a file; lay its "
                ".heatmap over an image with cam.overlay"
            )
        return self.view

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process: the maps, and not the images."""
        return {**self.__dict__, "view": None}

    @cached_property
    def signed(self) -> Tensor:
        """Upsample the raw map, once it is needed."""
        size = self.heatmap.shape[1:]
        return self.raw if self.raw.shape[1:] == size else resize(self.raw, size)

    def picture(self, signed: bool | None = None) -> tuple[Tensor, bool]:
        """Return the maps as :func:`cam.overlay` draws them.

        Args:
            signed: Whether values for and against the target, where there are both, are drawn in
                the two colours of a diverging colour map such as "RdBu_r"; None: those of
                contributions.

        Returns:
            (B, H, W) float32, and whether it is signed: then in [-1, 1] with 0 for what says
            nothing, else the heatmap.
        """
        if signed is None:
            signed = self.kind == "contribution"
        else:
            signed = signed and bool((self.raw < 0).any())
        if not signed:
            return self.heatmap, False
        axes = tuple(range(1, self.signed.ndim))
        strongest = self.signed.abs().amax(axes, keepdim=True)
        return self.signed / strongest.where(strongest != 0, 1), True

    def notes(self) -> list[tuple[int, str]]:
        """List what a reader of the maps should know, as (image, sentence).

        An all-zero map says nothing about the picture and looks like a failure; it means that the
        layer's evidence speaks against the target, or that there is none.
        """
        notes = list(self.remarks)
        highest = self.raw.flatten(1).amax(1)
        lowest = self.raw.flatten(1).amin(1)
        for image, (low, high) in enumerate(zip(lowest.tolist(), highest.tolist(), strict=True)):
            if low == high == 0:
                sentence = (
                    "the map is zero everywhere: nothing here speaks for or against the target"
                )
            elif high <= 0:
                sentence = (
                    "the map is zero everywhere because all evidence at this layer speaks against "
                    "the target; look at .raw, another layer or another target"
                )
            elif self._is_rounding(image, max(high, -low)):
                scores = float(self.logits[image].abs().max())
                sentence = (
                    f"the strongest value of the raw map is {max(high, -low):.1g}, which is "
                    f"rounding beside scores of {scores:.2g}: nothing here moves the score, so the "
                    "map's pattern means nothing"
                )
            elif low == high:
                sentence = "the map is the same everywhere, so it points at nothing"
            else:
                continue
            notes.append((image, sentence))
        return notes

    def _is_rounding(self, image: int, strongest: float) -> bool:
        """Test whether a map that grows with the score is nothing beside the scores."""
        # RISE's and the squares of gradients may rightly be small.
        if self.kind != "contribution" and not self.layers:
            return False
        scores = float(self.logits[image].abs().max())
        return strongest < ROUNDING * scores


class Attributions(dict[str, Attribution]):
    """Several methods' results for one batch, by name; in a notebook the viewer with all."""

    def __repr__(self) -> str:
        """Describe each method's result in one line."""
        lines = [f"  {name!r}: {attribution!r}," for name, attribution in self.items()]
        return "\n".join(["{", *lines, "}"]) if lines else "{}"

    def _repr_html_(self) -> str | None:
        return None if self.view is None else self.view.write_html(self)

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write every method's overlays, arrays and records; see :meth:`Attribution.save`."""
        first = next(iter(self.values()), None)
        return [] if first is None else first._with_view().save(self, folder)

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Copy the heatmaps of each method to an array (B, H, W), float32 in [0, 1]."""
        return {name: attribution.to_numpy() for name, attribution in self.items()}

    @property
    def view(self) -> "View | None":
        """What stands beside the maps of all methods."""
        return next((attribution.view for attribution in self.values()), None)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps (B, h, w), or (B, d, h, w), linearly between the centres of their cells."""
    mode = "bilinear" if maps.ndim == 3 else "trilinear"
    return functional.interpolate(maps[:, None], size=tuple(size), mode=mode, align_corners=False)[
        :, 0
    ]
