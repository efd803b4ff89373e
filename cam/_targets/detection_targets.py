"""Define targets: a detection, all, a region's class, a missed object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from cam._detection.candidates import Candidates, are_candidates
from cam._targets.class_target import Class, ClassTarget, refuse_label
from cam.errors import TargetError

Sides = Sequence[float] | Tensor | np.ndarray
"""x0, y0, x1, y1 in pixels of the input."""


@dataclass(frozen=True, eq=False)
class _DetectionTarget(ClassTarget):
    """A scalar made of the candidates of one image.

    Attributes:
        reads_all: Whether it reads what the detector itself would drop: low scores, and boxes that
            a better one covers.
    """

    reads_all: ClassVar[bool] = False

    def _read(self, output: Tensor, label: Class | None) -> tuple[Candidates, Tensor]:
        """Return the candidates, and the score of a class of each, (N,)."""
        if not are_candidates(output[None]):
            raise TargetError(
                "a box is asked of a model that detects objects, not of an output of shape "
                f"{tuple(output.shape)} an image"
            )
        candidates = Candidates(output)
        index = refuse_label(label) if isinstance(label, str) else label
        scores = candidates.class_scores
        if index is not None and scores is not None and not 0 <= index < scores.shape[1]:
            raise TargetError(
                f"target {index} is out of range: the detector has {scores.shape[1]} classes, 0 "
                f"to {scores.shape[1] - 1}"
            )
        return candidates, candidates.score_of(index)


@dataclass(frozen=True, eq=False)
class Box(_DetectionTarget):
    """A detection, of a detector of any kind.

    Of all candidates it is the one whose box overlaps most, of equal ones the surest. Where the
    detector gives each box one label, as torchvision's do, only those with this label count. Where
    none overlaps enough, as when a method has hidden the object, the score is 0, and the map of an
    image in which there is none to begin with is zero everywhere.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the input.
        label: Its label; None: any.
        overlap: The least intersection over union that counts as the same detection.
    """

    box: Sides
    label: Class | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _check_box(self.box))
        _check_overlap(self.overlap)

    def __call__(self, output: Tensor) -> Tensor:
        """Return the matching candidate's score, of (N, 6) or (N, 7 + C)."""
        candidates, scores = self._read(output, self.label)
        overlaps = overlaps_with(candidates, self.box)  # (N,)
        if self.label is not None and not candidates.has_classes:
            overlaps = overlaps.where(candidates.labels == float(self.label), 0)
        highest = overlaps.max() if len(overlaps) else None
        if highest is None or float(highest) < self.overlap:
            return _nothing(scores)
        equal = overlaps >= highest
        return scores[scores.detach().masked_fill(~equal, -torch.inf).argmax()]


@dataclass(frozen=True, eq=False)
class Missed(_DetectionTarget):
    """An object that the detector misses, in a box that is drawn by hand.

    The mean score of its class over all candidates that overlap the box, weighted by how much:
    those too that are below the detector's threshold, or that a better box covers.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the input.
        label: The class that should be there.
        overlap: The least intersection over union that counts.
    """

    reads_all = True

    box: Sides
    label: Class
    overlap: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _check_box(self.box))
        _check_overlap(self.overlap)

    def __call__(self, output: Tensor) -> Tensor:
        """Compute Σ o_n p_n / Σ o_n over overlaps o_n of at least the least; 0 without any."""
        candidates, scores = self._read(output, self.label)
        weights = overlaps_with(candidates, self.box)
        weights = weights.where(weights >= self.overlap, 0)
        if not candidates.has_classes:
            weights = weights.where(candidates.labels == float(self.label), 0)
        total = weights.sum()
        return (scores * weights).sum() / total if bool(total > 0) else _nothing(scores)


@dataclass(frozen=True, eq=False)
class Region(_DetectionTarget):
    """A class in a region: the sum of its scores over all candidates centred there.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the input.
        label: The class; None: each candidate's likeliest.
    """

    reads_all = True

    box: Sides
    label: Class | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", _check_box(self.box))

    def __call__(self, output: Tensor) -> Tensor:
        """Compute Σ p_n over candidates whose centre lies in the box."""
        candidates, scores = self._read(output, self.label)
        boxes = candidates.boxes.detach()
        centres, box = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes.new_tensor(self.box)
        inside = ((centres >= box[:2]) & (centres <= box[2:])).all(1) & (candidates.labels >= 0)
        return (scores * inside).sum()


@dataclass(frozen=True, eq=False)
class AllDetections(_DetectionTarget):
    """All that is detected: the sum of scores above a threshold; "all" as a target means it too.

    Candidates that a better one covers count as well where the detector does not drop them.

    Attributes:
        label: Of this class; None: each candidate's likeliest.
        threshold: Scores must be higher.
    """

    label: Class | None = None
    threshold: float = 0.5

    def __call__(self, output: Tensor) -> Tensor:
        """Compute Σ p_n over p_n above the threshold."""
        _, scores = self._read(output, self.label)
        return (scores * (scores.detach() > self.threshold)).sum()


def read_everything(targets: object) -> bool:
    """Test whether any of some targets reads what a detector itself would drop."""
    if isinstance(targets, list | tuple):
        return any(map(read_everything, targets))
    return isinstance(targets, _DetectionTarget) and targets.reads_all


def ask_boxes(targets: object) -> bool:
    """Test whether all targets read few candidates: gradients are mostly zero."""
    if isinstance(targets, list | tuple):
        return bool(targets) and all(map(ask_boxes, targets))
    return isinstance(targets, Box | Missed)


def _check_box(sides: Sides) -> tuple[float, ...]:
    box = sides.tolist() if isinstance(sides, Tensor | np.ndarray) else sides
    numbers = tuple(float(side) for side in box)
    if len(numbers) != 4 or not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise TargetError(
            f"a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1, but was given as {list(numbers)}"
        )
    return numbers


def _check_overlap(overlap: float) -> None:
    if not 0 < overlap <= 1:
        raise TargetError(f"a box's overlap must lie above 0 and up to 1, not {overlap}")


def _nothing(scores: Tensor) -> Tensor:
    """Return 0 as part of the graph, so that a gradient of it is zero and not missing."""
    return (scores * 0).sum()


def overlaps_with(candidates: Candidates, box: Sides) -> Tensor:
    """Compute how much each candidate's box overlaps with one, (N,) detached."""
    boxes = candidates.boxes.detach()
    return box_overlaps(boxes, boxes.new_tensor(box))


def box_overlaps(boxes: Tensor, box: Tensor) -> Tensor:
    """Compute the intersection over union (D,) of boxes with one.

    Args:
        boxes: (D, 4), x0, y0, x1, y1 each.
        box: (4,).
    """
    inside = torch.minimum(boxes[:, 2:], box[2:]) - torch.maximum(boxes[:, :2], box[:2])
    common = inside.clamp(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return common / (areas + (box[2:] - box[:2]).prod() - common)
