"""Colour heatmaps, and lay them over pictures."""

from dataclasses import dataclass

from PIL.Image import Image
from torch import Tensor

import cam
from cam.polarity import DIVERGING

# Those whose lightness rises steadily come first: they are read right with any colour vision.
COLORMAPS = ["inferno", "viridis", "magma", "plasma", "cividis", "turbo", "jet", "gray"]


@dataclass(frozen=True)
class Display:
    """How heatmaps are shown.

    Attributes:
        alpha: Opacity, 0 to 1.
        colormap: One of :data:`COLORMAPS`.
        threshold: Where a map is below it, the picture is left as it is; 0 to 1.
        signed: Whether maps are shown for and against the class; None: those of contributions.
    """

    alpha: float = 0.5
    colormap: str = COLORMAPS[0]
    threshold: float = 0.0
    signed: bool | None = None

    def select_values(self, attribution: cam.Attribution) -> tuple[Tensor, bool]:
        """Select the first picture's map (H, W), and whether it is shown signed.

        It is in [-1, 1] if it is, else in [0, 1].
        """
        values, signed = attribution.picture(self.signed)
        return values[0], signed

    def overlay(self, picture: Image, attribution: cam.Attribution) -> Image:
        """Lay a map over what the model sees."""
        values, signed = self.select_values(attribution)
        return cam.overlay(
            picture,
            values,
            DIVERGING if signed else self.colormap,
            self.alpha,
            cam.methods()[attribution.method].percentile,
            self.threshold,
            signed,
        )
