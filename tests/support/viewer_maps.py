"""An image and maps of all kinds, for the viewer's tests."""

import numpy as np
from PIL import Image

from cam._output.viewer.payload import ViewerMap

SIZE = 56


def make_image(side: int = 144) -> Image.Image:
    """Make an image of noise, in which every byte occurs."""
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def make_maps(size: int = SIZE) -> list[ViewerMap]:
    """Make maps of all kinds: smooth, noisy with a percentile, signed, and with no value (NaN)."""
    generator = np.random.default_rng(2)
    rows, columns = np.mgrid[:size, :size] / size
    smooth = np.exp(-((rows - 0.3) ** 2 + (columns - 0.7) ** 2) * 12).astype(np.float32)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    noisy = generator.exponential(size=(size, size)).astype(np.float32)
    noisy /= noisy.max()
    signed = generator.normal(size=(size, size)).astype(np.float32)
    signed[:4] = 0
    strongest = float(np.abs(signed).max())
    signed /= np.float32(strongest)
    positive = np.maximum(signed, 0) / signed.max()
    holes = smooth.copy()
    holes[:, : size // 4] = np.nan
    return [
        ViewerMap("smooth", "Smooth", smooth, captions=("Layer 4",)),
        ViewerMap("noisy", "Noisy", noisy, kind="sensitivity", percentile=99),
        ViewerMap("signed", "Signed", positive, signed, strongest, "contribution"),
        ViewerMap("holes", "Holes", holes),
    ]
