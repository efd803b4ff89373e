"""Read records of queries: DETR and its family.

The last layer gives each query logits of the classes and a box in shares of the image. DETR and
YOLOS add a class "no object" and take a softmax (Carion et al. 2020, "End-to-End Object Detection
with Transformers", section 3); Deformable DETR, Conditional DETR, RT-DETR and D-FINE have none and
take sigmoids (Zhu et al. 2021, "Deformable DETR", appendix A.4).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from cam._detection.candidates import corners, pack_candidates


def find_queries(output: object) -> tuple[Tensor, Tensor] | None:
    """Return logits (B, Q, C) and boxes (B, Q, 4) of a record of queries; None of others."""
    boxes = _entry(output, "pred_boxes")
    logits = _entry(output, "logits")
    if logits is None:
        logits = _entry(output, "pred_logits")
    if boxes is None or logits is None:
        return None
    fit = boxes.ndim == logits.ndim == 3 and boxes.shape[:2] == logits.shape[:2]
    return (logits, boxes) if fit and boxes.shape[2] == 4 else None


def has_no_object_class(module: nn.Module, outputs: int, labels: int | None) -> bool | None:
    """Say whether the last of the outputs is "no object"; None where nothing tells.

    Args:
        module: The network, whose configuration knows how many classes there are.
        outputs: Logits of a query.
        labels: How many names the caller gave; None: none.
    """
    config = getattr(module, "config", None)
    classes = labels if labels is not None else getattr(config, "num_labels", None)
    if classes is None:
        # The first DETR and those that came from it.
        classes = getattr(module, "num_classes", None)
    if outputs == classes:
        return False
    return True if isinstance(classes, int) and outputs == classes + 1 else None


def read_queries(logits: Tensor, boxes: Tensor, size: tuple[int, int], no_object: bool) -> Tensor:
    """Read queries as candidates.

    Args:
        logits: (B, Q, C), or (B, Q, C + 1) with "no object" last.
        boxes: (B, Q, 4), centre and size in shares of the image.
        size: (H, W) of the input.
        no_object: Whether that class is there.

    Returns:
        (B, Q, 7 + C). Objectness is one minus the probability of "no object", or without that
        class the largest of the others.
    """
    height, width = size
    scale = boxes.new_tensor([width, height, width, height])
    if no_object:
        probabilities = logits.softmax(2)
        scores, objectness = probabilities[..., :-1], 1 - probabilities[..., -1]
    else:
        scores = logits.sigmoid()
        objectness = scores.amax(2)
    return pack_candidates(corners(boxes) * scale, scores, objectness)


def _entry(output: object, name: str) -> Tensor | None:
    value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    return value if isinstance(value, Tensor) else None
