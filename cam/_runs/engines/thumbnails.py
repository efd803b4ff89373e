"""What the model saw of an item: its mask there, and a small picture."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cam._data.dataset import Item
from cam._models.model import Model
from cam._models.preprocessing import crop_to_input, mean_and_std

# Side and quality of the stored pictures: enough to recognise one in a report.
PICTURE, QUALITY = 160, 80


def mask_as_seen(transform: object, mask: np.ndarray, size: tuple[int, int]) -> Tensor | None:
    """A mask of the whole picture as the model sees it: cropped and scaled as its input.

    Args:
        transform: The model's.
        mask: (H, W) bool at the picture's size.
        size: (h, w) of the input.

    Returns:
        (h, w) bool, where at least half of a pixel's area was; None where the transform's geometry
        cannot be read.
    """
    part = crop_to_input(transform, Image.fromarray(mask.astype(np.uint8) * 255))
    if part is None:
        return None
    scaled = part.resize((size[1], size[0]), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(scaled) >= 128)


def picture_bytes(model: Model, item: Item) -> bytes:
    """A small JPEG of what the model saw."""
    if isinstance(item.image, Tensor):
        mean, std = (torch.tensor(values) for values in mean_and_std(model.transform))
        pixels = item.image.float().cpu().movedim(0, -1) * std + mean
        levels = (pixels.nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8)
        image = Image.fromarray(levels.numpy())
    else:
        image = model.crop(item.image)
    image.thumbnail((PICTURE, PICTURE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
