"""Lay maps of different models over the same part of a photo."""

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from cam._media.images import ImageSource, load_image
from cam._models.model import Model
from cam._models.preprocessing import find_input_box
from cam.errors import InputError


def shared_view(
    photo: ImageSource, models: Sequence[Model], heatmaps: Sequence[Tensor]
) -> tuple[Image.Image, Tensor]:
    """Crop photo and heatmaps to the part that all models see.

    Models crop a photo differently and look at it in different sizes; pixel by pixel, their
    heatmaps do not show the same places.

    Args:
        photo: What :func:`cam.load_image` takes.
        models: One for each heatmap.
        heatmaps: Each (H, W) floats, of any size.

    Returns:
        The part, and the heatmaps (N, H, W) float32 on the CPU, in the largest of their sizes;
        as they were, where they lie over the same part in the same size already.

    Raises:
        InputError: It cannot be read from a model's transform which part it keeps.
    """
    image = load_image(photo)
    boxes = []
    for model in models:
        box = find_input_box(model.transform, image.size)
        if box is None:
            raise InputError(
                f"which part of a photo {model.name!r} sees cannot be read from its transform, so "
                "its heatmap cannot be laid beside another model's"
            )
        boxes.append(box)
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    shared = (max(lefts), max(tops), min(rights), min(bottoms))
    size = max((tuple(heatmap.shape) for heatmap in heatmaps), key=math.prod)
    cut = [_cut(heatmap, box, shared, size) for heatmap, box in zip(heatmaps, boxes, strict=True)]
    return image.crop(shared), torch.stack(cut)


_Box = tuple[int, int, int, int]


def _cut(heatmap: Tensor, box: _Box, part: _Box, size: tuple[int, ...]) -> Tensor:
    """Cut a part out of a heatmap's box, in another size."""
    heatmap = heatmap.detach().float().cpu()
    if box == part and tuple(heatmap.shape) == tuple(size):
        return heatmap
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    # From -1 to 1 over the box.
    across = ((part[0] + part[2]) - (left + right)) / width
    down = ((part[1] + part[3]) - (top + bottom)) / height
    theta = torch.tensor(
        [[(part[2] - part[0]) / width, 0, across], [0, (part[3] - part[1]) / height, down]]
    )
    grid = functional.affine_grid(theta[None], [1, 1, *size], align_corners=False)
    return functional.grid_sample(
        heatmap[None, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0, 0]
