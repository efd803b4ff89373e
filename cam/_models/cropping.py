"""Crop an image to what a model's transform lets it see."""

import torch
from PIL import Image

from cam._models.preprocessing import Transform, crop_to_input, mean_and_std


def crop_image(transform: Transform, photo: Image.Image) -> Image.Image:
    """Crop what a model sees of a photo, at the photo's own resolution.

    Where the transform's geometry cannot be read, it is the transformed image itself, with the
    normalisation undone.

    Args:
        transform: The model's, from a PIL image to (3, H, W) floats.
        photo: In mode RGB.
    """
    part = crop_to_input(transform, photo)
    if part is not None:
        return part
    mean, std = (torch.tensor(values) for values in mean_and_std(transform))
    pixels = transform(photo).movedim(0, -1) * std + mean  # (H, W, 3)
    return Image.fromarray((pixels.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
