"""Read from the address how maps are drawn."""

from dataclasses import replace
from typing import Any

from PIL.Image import Image

import cam
from cam._output.viewer.payload import COLORMAPS, SIGNS, ViewerOptions
from cam.pages.ui.state import address
from cam.pages.ui.widgets import links
from cam.polarity import DIVERGING

DEFAULT = ViewerOptions()
# What :meth:`cam.Attribution.picture` is asked for.
PICTURED = {"auto": None, "for": False, "both": True, "against": True}
TINY = 1e-37


def read_options() -> ViewerOptions:
    """Read how the viewer opens; a warning and the default for what it does not know."""
    alpha = links.read_number("opacity", "opacity", DEFAULT.alpha, 0, 1)
    threshold = links.read_number("threshold", "threshold", DEFAULT.threshold, 0, 1)
    words: dict[str, Any] = {"colormap": DEFAULT.colormap, "signs": DEFAULT.signs}
    for name, options in (("colormap", COLORMAPS), ("signs", SIGNS)):
        text = address.get_value(name)
        if text in options:
            words[name] = text
        elif text is not None:
            links.warn(text, name, options)
    assert alpha is not None and threshold is not None
    fade = links.read_switch("fade", DEFAULT.fade)
    return replace(DEFAULT, alpha=alpha, fade=fade, threshold=threshold, **words)


def draw_overlay(options: ViewerOptions, crop: Image, attribution: cam.Attribution) -> Image:
    """Lay a map over what the model sees, as the viewer draws it."""
    values, signed = attribution.picture(PICTURED[options.signs])
    heatmap, percentile = values[0], cam.methods()[attribution.method].percentile
    if options.signs == "against":
        # The colours end where they do with both signs; under the rest the image stays as it is.
        heatmap = heatmap / heatmap.abs().nanquantile(percentile / 100).clamp(min=TINY)
        heatmap, percentile = heatmap.where(heatmap < 0, float("nan")), 100
    colours = DIVERGING if signed else options.colormap
    return cam.overlay(
        crop, heatmap, colours, options.alpha, percentile, options.threshold, signed, options.fade
    )
