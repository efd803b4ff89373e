"""Offer pytorch-grad-cam's overlay in OpenCV's colours, without OpenCV."""

import numpy as np

from cam._media.rendering import overlay
from cam.errors import InputError

COLORMAP_JET = 2
# OpenCV's numbers of the colour maps that are here too.
_NAMES = {13: "magma", 14: "inferno", 15: "plasma", 16: "viridis", 17: "cividis", 20: "turbo"}


def show_cam_on_image(
    img: np.ndarray,
    mask: np.ndarray,
    use_rgb: bool = False,
    colormap: int = COLORMAP_JET,
    image_weight: float = 0.5,
) -> np.ndarray:
    """Lay a coloured heatmap over a picture.

    The result is (1 - w) colour + w picture, divided by its largest value.

    Args:
        img: (H, W, 3) floats in [0, 1].
        mask: (H, W) in [0, 1].
        use_rgb: Whether the picture's channels are red, green, blue; otherwise blue comes first.
        colormap: OpenCV's number of it: jet, magma, inferno, plasma, viridis, cividis or turbo.
        image_weight: Share of the picture, 0 to 1.

    Returns:
        (H, W, 3) uint8, channels in the picture's order.

    Raises:
        InputError: A picture above 1, a share outside its range, shapes that do not fit, or
            another colour map.
    """
    img, mask = np.asarray(img), np.asarray(mask)
    if img.ndim != 3 or img.shape[2] != 3 or img.shape[:2] != mask.shape:
        raise InputError(
            f"the image (H, W, 3) and the mask (H, W) must be of one size, but have shapes "
            f"{img.shape} and {mask.shape}"
        )
    if img.max() > 1:
        raise InputError(f"the image must be floats in [0, 1], but reaches {img.max():g}")
    if not 0 <= image_weight <= 1:
        raise InputError(f"image_weight must lie in [0, 1], but is {image_weight}")
    colours = _colour((255 * mask).astype(np.uint8), colormap)
    if not use_rgb:
        colours = colours[..., ::-1]
    blended = (1 - image_weight) * colours.astype(np.float32) / 255 + image_weight * img
    picture: np.ndarray = (255 * (blended / blended.max())).astype(np.uint8)
    return picture


def _colour(levels: np.ndarray, colormap: int) -> np.ndarray:
    """Colour levels 0 … 255 in red, green, blue, (H, W, 3)."""
    if colormap == COLORMAP_JET:
        # OpenCV's jet: three tents of slope 4, cut off at 255.
        tents = np.array([765, 510, 255])
        jet: np.ndarray = np.clip(382 - np.abs(4 * levels[..., None].astype(int) - tents), 0, 255)
        return jet
    if colormap not in _NAMES:
        names = f"2 (jet), {', '.join(f'{key} ({name})' for key, name in _NAMES.items())}"
        raise InputError(f"there is no colour map {colormap} here; known: {names}")
    black = np.zeros((1, *levels.shape, 3), np.uint8)
    blended = overlay(black, levels[None].astype(np.float32) / 255, _NAMES[colormap], 1.0)
    colours: np.ndarray = blended[0].numpy()
    return colours
