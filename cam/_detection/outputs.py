"""Recognise a detector by what it returns, and read its candidates."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from cam._detection.final_detections import are_detections, read_detections
from cam._detection.grid_heads import counts_a_pyramid, find_grid, read_grid
from cam._detection.query_heads import find_queries, has_no_object_class, read_queries
from cam.errors import ModelError

FINAL, QUERIES, GRID = "final", "queries", "grid"


@dataclass(frozen=True, eq=False)
class Detected:
    """What a detector returned for a batch.

    Attributes:
        values: (B, N, 6) or (B, N, 7 + C), as :class:`cam._detection.candidates.Candidates`.
        kind: "final" (suppressed already), "queries" or "grid" (candidates that overlap).
        exclusive: Whether a candidate has one label: not where each class has a sigmoid.
    """

    values: Tensor
    kind: str
    exclusive: bool = True


@dataclass(frozen=True)
class Declared:
    """What a caller said of a network.

    Attributes:
        detects: Whether it is a detector.
        labels: How many classes have a name; None where none have.
    """

    detects: bool
    labels: int | None


_declared: WeakKeyDictionary[nn.Module, Declared] = WeakKeyDictionary()


def declare(module: nn.Module, detects: bool, labels: int | None) -> None:
    """Remember what a caller says of a network."""
    _declared[module] = Declared(detects, labels)


def declare_alike(module: nn.Module, original: nn.Module) -> None:
    """Remember of a copy what a caller said of its original."""
    if original in _declared:
        _declared[module] = _declared[original]


def read_candidates(module: nn.Module, output: object, size: tuple[int, int]) -> Detected | None:
    """Read a detector's candidates; None where nothing shows that it is a detector.

    Args:
        module: The network, or its declared original.
        output: What it returned.
        size: (H, W) of the input.

    Raises:
        ModelError: The network was declared a detector, and its output cannot be read for sure.
    """
    declared = _declared.get(module, Declared(False, None))
    if are_detections(output):
        return Detected(read_detections(output), FINAL)
    if (queries := find_queries(output)) is not None:
        no_object = has_no_object_class(module, queries[0].shape[2], declared.labels)
        if no_object is not None:
            return Detected(read_queries(*queries, size, no_object), QUERIES, no_object)
        if declared.detects:
            raise ModelError(
                f"the detector has {queries[0].shape[2]} outputs a query, and nothing says "
                "whether the last of them is 'no object'; give labels=…, one name a class"
            )
        return None
    head = find_grid(output)
    if head is not None and (declared.detects or counts_a_pyramid(head.shape[2], size)):
        return Detected(read_grid(head), GRID)
    if declared.detects:
        if isinstance(output, Tensor) and output.ndim == 3 and output.shape[2] == 6:
            return Detected(output, FINAL)
        raise ModelError(
            "the model was declared a detector, but returns neither torchvision's list of boxes, "
            "scores and labels, nor logits with pred_boxes, nor a tensor (B, 4 + classes, N); "
            "wrap it in a module that does"
        )
    return None
