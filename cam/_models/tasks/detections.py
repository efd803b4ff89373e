"""Hold the detections of an image, each of them a target."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from torch import Tensor

from cam.errors import TargetError
from cam.targets import Box


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Sequence[Box]):
    """The detections of one image, the surest first: a sequence of targets.

    ``detections[2]`` is the target of the third, and a list of these, one for each image, asks
    :func:`cam.attribute` for a map of each.

    Attributes:
        boxes: (D, 4), x0, y0, x1, y1 in pixels of the input.
        labels: (D,) int64.
        scores: (D,) in [0, 1].
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor

    def __len__(self) -> int:
        """Count them."""
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> Box: ...

    @overload
    def __getitem__(self, index: slice) -> list[Box]: ...

    def __getitem__(self, index: int | slice) -> Box | list[Box]:
        """Return the target of a detection.

        Raises:
            TargetError: There is none of that number.
        """
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise TargetError(
                f"there is no detection {index}: the model detects {len(self)} in the image; a "
                "lower threshold gives more"
            )
        return Box(self.boxes[index], int(self.labels[index]))

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        lines = [
            f"{score:.3f} of class {label} at {', '.join(f'{side:.1f}' for side in box)}"
            for box, label, score in zip(
                self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True
            )
        ]
        return f"Detections({'; '.join(lines) or 'none'})"
