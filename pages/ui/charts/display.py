"""Colour heatmaps, and lay them over pictures."""

from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

import cam
from cam.pages.ui.charts.colours import SIGNED

# Those whose lightness rises steadily come first: they are read right with any colour vision.
COLORMAPS = ["inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray"]


@dataclass(frozen=True)
class Display:
    """How heatmaps are shown.

    Attributes:
        alpha: Opacity, 0 to 1.
        colormap: One of :data:`COLORMAPS`.
        threshold: Where a map is below it, the picture is left as it is; 0 to 1.
        signed: Whether maps that tell for from against are shown with both.
    """

    alpha: float = 0.5
    colormap: str = COLORMAPS[0]
    threshold: float = 0.0
    signed: bool = False

    def select_values(self, attribution: cam.Attribution) -> tuple[Tensor, bool]:
        """Select the first picture's map (h, w), and whether it is shown signed.

        It is in [-1, 1] if it is, else in [0, 1].
        """
        raw = attribution.raw[0]
        if not self.signed or not bool((raw < 0).any()):
            return attribution.heatmap[0], False
        return raw / raw.abs().max(), True

    def overlay(self, picture: Image, attribution: cam.Attribution) -> Image:
        """Lay a map over what the model sees."""
        values, signed = self.select_values(attribution)
        return cam.overlay(
            picture,
            values,
            SIGNED if signed else self.colormap,
            self.alpha,
            cam.methods()[attribution.method].percentile,
            self.threshold,
            signed,
        )
