"""Read tensors of a grid head: YOLO and its family.

Each cell of each pyramid level is a candidate: (B, 4 + C, N) with centre and size in pixels, and
the classes' scores after a sigmoid, alone or first in a tuple with the head's raw maps.
"""

from itertools import combinations

import torch
from torch import Tensor

from cam._detection.candidates import corners, pack_candidates
from cam.errors import ModelError

_STRIDES = (4, 8, 16, 32, 64)
_FEWEST = 4


def find_grid(output: object) -> Tensor | None:
    """Return the tensor that may be a grid head's; None where there is none."""
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 3 or not output.is_floating_point():
        return None
    return output if 4 < output.shape[1] < output.shape[2] else None


def counts_a_pyramid(cells: int, size: tuple[int, int]) -> bool:
    """Test whether a number is that of all cells of a pyramid of the image.

    Args:
        cells: How many candidates there are.
        size: (H, W) of the input.
    """
    levels = [-(-size[0] // stride) * -(-size[1] // stride) for stride in _STRIDES]
    return any(
        sum(part) == cells for several in (2, 3, 4) for part in combinations(levels, several)
    )


def read_grid(head: Tensor) -> Tensor:
    """Read a grid head's tensor as candidates.

    Args:
        head: (B, 4 + C, N).

    Returns:
        (B, N, 7 + C). Objectness is the largest of the classes' scores.

    Raises:
        ModelError: Scores outside [0, 1], or boxes that are corners.
    """
    values = head.transpose(1, 2)  # (B, N, 4 + C)
    boxes, scores = values[..., :4], values[..., 4:]
    with torch.no_grad():
        if not bool(((scores >= 0) & (scores <= 1)).all()):
            raise ModelError(
                "the detector's class scores are not in [0, 1]; wrap it in a module that returns "
                "(B, 4 + classes, N) after the sigmoid"
            )
        # Of centres and sizes some box at the right or lower edge is smaller than its centre.
        if len(boxes[0]) >= _FEWEST and bool((boxes[..., 2:] > boxes[..., :2]).all()):
            raise ModelError(
                "the detector's boxes look like corners x0, y0, x1, y1; wrap it in a module that "
                "returns centre and size, x, y, width, height in pixels"
            )
    return pack_candidates(corners(boxes), scores, scores.amax(2))
