"""Hold an image's segmentation, whose regions are targets."""

from dataclasses import dataclass

import torch
from scipy import ndimage
from torch import Tensor

from cam._targets.segment_target import enlarge, find_winners
from cam.errors import TargetError
from cam.targets import Segment


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """The class of each pixel of one image.

    Attributes:
        mask: (H, W) int64, the class of each pixel of the input; -1 where a network of one class
            says that it is not there.
        names: One name a class; None where the classes have none.
    """

    mask: Tensor
    names: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[int, ...]:
        """Those that are there, the largest first."""
        classes, counts = torch.unique(self.mask[self.mask >= 0], return_counts=True)
        return tuple(classes[counts.argsort(descending=True, stable=True)].tolist())

    def label(self, index: int) -> str:
        """Return the name of a class, or ``class 7`` without names."""
        return self.names[index] if self.names is not None else f"class {index}"

    def share(self, index: int) -> float:
        """Return the share of the image that a class takes up."""
        return float((self.mask == index).float().mean())

    def segment(self, index: int) -> Segment:
        """Return the target that asks for a class where it is.

        Raises:
            TargetError: It is nowhere.
        """
        pixels = self.mask == index
        if not bool(pixels.any()):
            there = ", ".join(map(str, self.classes)) or "none"
            raise TargetError(
                f"class {index} is nowhere in the segmentation, whose classes are {there}"
            )
        return Segment(index, pixels)

    def region(self, x: float, y: float) -> Segment:
        """Return the target that asks for the connected region around a pixel.

        Args:
            x: Its column, in pixels of the input.
            y: Its row.

        Raises:
            TargetError: It lies outside of the image, or no class is there.
        """
        height, width = self.mask.shape
        row, column = int(y // 1), int(x // 1)
        if not (0 <= row < height and 0 <= column < width):
            raise TargetError(
                f"the pixel {x:g}, {y:g} lies outside of the image of {width} × {height} pixels"
            )
        index = int(self.mask[row, column])
        if index < 0:
            raise TargetError(f"no class is at {x:g}, {y:g}, so there is nothing to explain")
        numbers, _ = ndimage.label((self.mask == index).cpu().numpy())
        region = torch.from_numpy(numbers == numbers[row, column])
        return Segment(index, region.to(self.mask.device))

    def __repr__(self) -> str:
        parts = [f"{self.label(each)} {self.share(each):.1%}" for each in self.classes]
        height, width = self.mask.shape
        return f"Segmentation({height} × {width}: {', '.join(parts) or 'nothing'})"


def segment_images(
    scores: Tensor, size: tuple[int, int], names: tuple[str, ...] | None
) -> list[Segmentation]:
    """Let the highest class win at each pixel of the input.

    Args:
        scores: (B, K, h, w).
        size: (H, W) of the input, to which they are enlarged bilinearly.
        names: One name a class; others than K are none of these classes.
    """
    fitting = names if names is not None and len(names) == scores.shape[1] else None
    return [Segmentation(find_winners(enlarge(image.float(), size)), fitting) for image in scores]
