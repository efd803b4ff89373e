"""Choose which candidates are detections: a threshold, and suppression of overlaps."""

from torch import Tensor
from torchvision.ops import batched_nms

from cam._detection.candidates import Candidates
from cam._detection.outputs import GRID, Detected

# Of candidates of one class that overlap by more, the surest stays, as in the YOLO family.
_OVERLAP = 0.7


def choose_detections(
    detected: Detected, image: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Choose the candidates of an image with scores above a threshold.

    A candidate whose classes have a sigmoid each is a detection for each class above it.

    Args:
        detected: The batch.
        image: Which of it.
        threshold: Scores must be higher.

    Returns:
        Boxes (D, 4), labels (D,) int64 and scores (D,), the surest first.
    """
    candidates = Candidates(detected.values[image].detach())
    class_scores = candidates.class_scores
    if detected.exclusive or class_scores is None:
        rows = (candidates.scores > threshold).nonzero()[:, 0]
        labels, scores = candidates.labels[rows].long(), candidates.scores[rows]
    else:
        rows, labels = (class_scores > threshold).nonzero().unbind(1)
        scores = class_scores[rows, labels]
    order = scores.argsort(descending=True, stable=True)
    boxes = candidates.boxes[rows]
    if detected.kind == GRID:
        order = batched_nms(boxes.float(), scores.float(), labels, _OVERLAP)
    return boxes[order], labels[order], scores[order]
