"""Ask a detector about a data set's objects, and read its answers."""

import torch
from torch import Tensor

from cam._data.dataset import Item
from cam._detection.candidates import Candidates
from cam._models.model import Model
from cam._models.preprocessing import find_input_box
from cam._targets.detection_targets import Box, overlaps_with
from cam.errors import TargetError

Sides = tuple[float, float, float, float]


def find_box(model: Model, item: Item, size: tuple[int, int], label: int | None) -> Box:
    """Return the target of an item with one object, in pixels of the input.

    Args:
        model: Whose transform makes the input.
        item: Of the data.
        size: (H, W) of the input.
        label: The object's class; None: whatever is detected there.

    Raises:
        TargetError: The item has no box or several, the transform's geometry cannot be read, or
            the model does not see the object.
    """
    if len(item.boxes) != 1:
        raise TargetError(
            f"the item has {len(item.boxes)} boxes, and a detector is asked about one; open the "
            "data with items='objects'"
        )
    box = item.boxes[0]
    if not isinstance(item.image, Tensor):
        part = find_input_box(model.transform, item.image.size)
        if part is None:
            raise TargetError(
                "where the model's transform puts the object is not known; use one that resizes, "
                "crops and normalises"
            )
        box = _move(box, part, size)
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise TargetError("the object lies outside of what the model sees of the image")
    return Box(box, label)


def _move(box: Sides, part: tuple[int, int, int, int], size: tuple[int, int]) -> Sides:
    """Convert a box to pixels of the input, and cut it off at its edges."""
    across = size[1] / (part[2] - part[0])
    down = size[0] / (part[3] - part[1])
    return (
        max((box[0] - part[0]) * across, 0.0),
        max((box[1] - part[1]) * down, 0.0),
        min((box[2] - part[0]) * across, float(size[1])),
        min((box[3] - part[1]) * down, float(size[0])),
    )


def describe_detection(target: Box, output: Tensor) -> tuple[int | None, float | None]:
    """Return the label and the score of what is detected in a target's box.

    Args:
        target: The box; its label does not count.
        output: (N, 6) or (N, 7 + C), candidates.

    Returns:
        Of the surest candidate that overlaps enough; None twice where there is none.
    """
    candidates = Candidates(output)
    fits = overlaps_with(candidates, target.box) >= target.overlap
    if not bool(fits.any()):
        return None, None
    best = candidates.scores.masked_fill(~fits, -torch.inf).argmax()
    return int(candidates.labels[best]), float(candidates.scores[best])
