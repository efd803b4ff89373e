"""Lay candidates out in columns: box, score, label, objectness, classes.

A candidate is a box that a detector may report: a query, a cell of a grid, or what is left of them
after its own suppression. The tensor stays part of the graph, but for the labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# What the detector says without classes: x0, y0, x1, y1, score, label.
_BARE = 6
_CLASSES = 7
PADDING = -1.0


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of one image.

    Attributes:
        values: (N, 6), or (N, 7 + C) where every class has a score.
    """

    values: Tensor

    @property
    def boxes(self) -> Tensor:
        """(N, 4), x0, y0, x1, y1 in pixels of the input."""
        return self.values[:, :4]

    @property
    def scores(self) -> Tensor:
        """(N,), of the likeliest class."""
        return self.values[:, 4]

    @property
    def labels(self) -> Tensor:
        """(N,) the likeliest class, as a float; of padding -1."""
        return self.values[:, 5].detach()

    @property
    def objectness(self) -> Tensor:
        """(N,), how sure it is that there is any object; its score where nothing else says it."""
        return self.values[:, _CLASSES - 1] if self.has_classes else self.scores.clamp(min=0)

    @property
    def has_classes(self) -> bool:
        """Whether every class has a score."""
        return self.values.shape[1] > _BARE

    @property
    def class_scores(self) -> Tensor | None:
        """(N, C); None where only the likeliest class has a score."""
        return self.values[:, _CLASSES:] if self.has_classes else None

    def score_of(self, label: int | None) -> Tensor:
        """Return the score of a class, (N,); 0 where a candidate has another class only.

        Args:
            label: Its index; None: of the likeliest.
        """
        if label is None:
            return self.scores
        if self.has_classes:
            return self.values[:, _CLASSES + label]
        return self.scores * (self.labels == label)


def pack_candidates(boxes: Tensor, class_scores: Tensor, objectness: Tensor) -> Tensor:
    """Join what a detector says of each candidate.

    Args:
        boxes: (B, N, 4), x0, y0, x1, y1 in pixels of the input.
        class_scores: (B, N, C) in [0, 1].
        objectness: (B, N) in [0, 1].

    Returns:
        (B, N, 7 + C), as :class:`Candidates` reads each image of it.
    """
    scores, labels = class_scores.max(2)
    columns = [scores, labels.to(scores), objectness]
    return torch.cat([boxes, torch.stack(columns, 2), class_scores], 2)


def are_candidates(output: Tensor) -> bool:
    """Test whether an output (B, …) has the columns of candidates."""
    return output.ndim == 3 and (output.shape[2] == _BARE or output.shape[2] > _CLASSES)


def join_batches(parts: Sequence[Tensor]) -> Tensor:
    """Join outputs (B, …) of several batches; candidates are padded to the longest.

    Returns:
        (ΣB, …).
    """
    if not all(are_candidates(part) for part in parts):
        return torch.cat(list(parts))
    images = [image for part in parts for image in part]
    return nn.utils.rnn.pad_sequence(images, batch_first=True, padding_value=PADDING)


def corners(boxes: Tensor) -> Tensor:
    """Convert boxes (…, 4) from centre and size to corners."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centres - halves, centres + halves], -1)
