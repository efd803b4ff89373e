"""pytorch-grad-cam's targets: from one image's output to the scalar that is explained."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ClassifierOutputTarget:
    """The logit of a class."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """y_c of (…, classes)."""
        return model_output[..., self.category]


@dataclass(frozen=True)
class ClassifierOutputSoftmaxTarget:
    """The probability of a class."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """softmax(y)_c of (…, classes)."""
        return model_output.softmax(-1)[..., self.category]


@dataclass(frozen=True)
class BinaryClassifierOutputTarget:
    """The only logit for category 1, minus it for category 0."""

    category: int

    def __call__(self, model_output: Tensor) -> Tensor:
        """± y."""
        return model_output if self.category == 1 else -model_output


class SoftmaxOutputTarget:
    """All probabilities; a scalar only where there is one output."""

    def __call__(self, model_output: Tensor) -> Tensor:
        """softmax(y)."""
        return model_output.softmax(-1)


class RawScoresOutputTarget:
    """The output itself; a scalar only where there is one output."""

    def __call__(self, model_output: Tensor) -> Tensor:
        """The same."""
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
        """Σ over pixels of y_c · mask, from (classes, H, W)."""
        return (model_output[self.category] * self.mask.to(model_output.device)).sum()
