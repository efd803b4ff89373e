"""Offer pytorch-grad-cam's targets: from an output to a scalar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cam._targets.detection_targets import box_overlaps


@dataclass(frozen=True)
class ClassifierOutputTarget:
    """The logit of a class."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return y_c of (…, classes)."""
        return model_output[..., self.category]


@dataclass(frozen=True)
class ClassifierOutputSoftmaxTarget:
    """The probability of a class."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return softmax(y)_c of (…, classes)."""
        return model_output.softmax(-1)[..., self.category]


@dataclass(frozen=True)
class BinaryClassifierOutputTarget:
    """The only logit for category 1, minus it for category 0."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return ± y."""
        return model_output if self.category == 1 else -model_output


class SoftmaxOutputTarget:
    """All probabilities; a scalar only where there is one output."""

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return softmax(y)."""
        return model_output.softmax(-1)


class RawScoresOutputTarget:
    """The output itself; a scalar only where there is one output."""

    def __call__(self, model_output: Tensor) -> Tensor:
        """Return the output."""
        return model_output


class SemanticSegmentationTarget:
    """A class of a segmentation, inside a mask.

    Args:
        category: The class.
        mask: (H, W), by which the class's logits are weighted before they are summed.
    """

    def __init__(self, category: int, mask: np.ndarray) -> None:
        self.category = category
        self.mask = torch.from_numpy(mask)

    def __call__(self, model_output: Tensor) -> Tensor:
        """Sum y_c · mask over the pixels of (classes, H, W)."""
        return (model_output[self.category] * self.mask.to(model_output.device)).sum()


class FasterRCNNBoxScoreTarget:
    """How well the detections fit some boxes; :class:`cam.targets.Box` explains one alone.

    For each box the detection that overlaps most counts with its overlap and its score, if it
    overlaps enough and has the box's label.

    Args:
        labels: One for each box.
        bounding_boxes: (n, 4): x0, y0, x1, y1 in pixels of the input.
        iou_threshold: The least intersection over union that counts.
    """

    def __init__(
        self, labels: Sequence[int], bounding_boxes: np.ndarray, iou_threshold: float = 0.5
    ) -> None:
        self.labels = labels
        self.bounding_boxes = bounding_boxes
        self.iou_threshold = iou_threshold

    def __call__(self, model_outputs: Tensor) -> Tensor:
        """Sum overlap + score over the boxes, from detections (D, 6)."""
        total = (model_outputs[:, 4] * 0).sum()
        for box, label in zip(self.bounding_boxes, self.labels, strict=False):
            if not len(model_outputs):
                break
            overlaps = box_overlaps(model_outputs[:, :4], torch.as_tensor(box).to(model_outputs))
            best = overlaps.argmax()
            if overlaps[best] > self.iou_threshold and model_outputs[best, 5] == label:
                total = total + overlaps[best] + model_outputs[best, 4]
        return total
