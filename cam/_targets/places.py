"""Say where targets ask: as masks, mirrored, outside of the image."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cam._targets.detection_targets import Box, Missed, Region
from cam._targets.segment_target import Segment, draw_place
from cam.errors import TargetError


def draw_places(targets: object, images: int, size: tuple[int, int]) -> Tensor | None:
    """Fill the boxes and regions of targets; None where some target has no place.

    Args:
        targets: One for all images, or one for each.
        images: How many there are.
        size: (H, W) of the input.

    Returns:
        (images, H, W) bool.

    Raises:
        TargetError: A place lies outside of the image.
    """
    several = list(targets) if isinstance(targets, list | tuple) else [targets] * images
    require_inside(several, size)
    masks = [_draw(target, size) for target in several]
    drawn = [mask for mask in masks if mask is not None]
    return torch.stack(drawn) if len(drawn) == len(several) and drawn else None


def _draw(target: object, size: tuple[int, int]) -> Tensor | None:
    if isinstance(target, Segment):
        if target.mask is None:
            return None if target.at is None else draw_place(target.at, size)
        mask = target.mask.cpu()
        if tuple(mask.shape) == size:
            return mask
        return functional.interpolate(mask[None, None].float(), size, mode="nearest")[0, 0] > 0
    if not isinstance(target, Box | Missed | Region):
        return None
    left, top, right, bottom = (max(round(float(side)), 0) for side in target.box)
    mask = torch.zeros(size, dtype=torch.bool)
    # A box thinner than a pixel has the pixel that it lies in.
    mask[min(top, size[0] - 1) : max(bottom, top + 1)][
        :, min(left, size[1] - 1) : max(right, left + 1)
    ] = True
    return mask


def require_inside(targets: object, size: tuple[int, int]) -> None:
    """Refuse a place that does not meet the image.

    Raises:
        TargetError: It lies outside.
    """
    for target in targets if isinstance(targets, list | tuple) else [targets]:
        if isinstance(target, Segment) and target.at is not None:
            draw_place(target.at, size)
        if not isinstance(target, Box | Missed | Region):
            continue
        left, top, right, bottom = (float(side) for side in target.box)
        if right <= 0 or bottom <= 0 or left >= size[1] or top >= size[0]:
            raise TargetError(
                f"the box {left:g}, {top:g}, {right:g}, {bottom:g} lies outside of the image of "
                f"{size[1]} × {size[0]} pixels; give x0, y0, x1, y1 in pixels of the input"
            )


def mirror_target(target: Any, width: int) -> Any:
    """Return what asks the same of the mirrored image; others than places stay.

    Args:
        target: Of one image.
        width: Of the input, in pixels.
    """
    if isinstance(target, Segment) and target.mask is not None:
        return replace(target, mask=target.mask.flip(1))
    if isinstance(target, Box | Missed | Region):
        left, top, right, bottom = (float(side) for side in target.box)
        return replace(target, box=(width - right, top, width - left, bottom))
    return target
