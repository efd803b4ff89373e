"""Define targets: the scalar of each image's output that is explained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cam._detection.candidates import are_candidates
from cam._targets.class_target import (
    Class,
    ClassTarget,
    find_class,
    refuse_label,
    select_entry,
)
from cam._targets.detection_targets import AllDetections as AllDetections
from cam._targets.detection_targets import Box as Box
from cam._targets.detection_targets import Missed as Missed
from cam._targets.detection_targets import Region as Region
from cam._targets.segment_target import Segment as Segment
from cam.errors import TargetError
from cam.types import TargetFunction

Target = int | str | TargetFunction
# What is asked of a model that returns one number an image.
RAISE, LOWER = "raise", "lower"
# What is asked of a detector: all that it detects.
ALL = "all"
Targets = Target | Sequence[Target] | Tensor | np.ndarray | None


@dataclass(frozen=True, eq=False)
class Logit(ClassTarget):
    """The raw score of a class, before softmax: what a plain index means too."""

    target: Class

    def __call__(self, output: Tensor) -> Tensor:
        """Return y_A."""
        return select_entry(output, self.target)


@dataclass(frozen=True, eq=False)
class Probability(ClassTarget):
    """The probability of a class, by softmax: what raises it may do so by lowering the others."""

    target: Class

    def __call__(self, output: Tensor) -> Tensor:
        """Compute exp(y_A) / Σ_k exp(y_k)."""
        return select_entry(output.softmax(0), self.target)


@dataclass(frozen=True, eq=False)
class LogProbability(ClassTarget):
    """The logarithm of a class's probability, which does not fade where that is near 1."""

    target: Class

    def __call__(self, output: Tensor) -> Tensor:
        """Compute y_A - log Σ_k exp(y_k)."""
        return select_entry(output.log_softmax(0), self.target)


@dataclass(frozen=True, eq=False)
class ReST(ClassTarget):
    """The logit and the logarithm of the probability: "residual softmax target-class".

    The logit alone says nothing of the other classes, the probability fades where it is near 1
    (Cai 2025, "CAMs as Shapley Value-based Explainers").
    """

    target: Class

    def __call__(self, output: Tensor) -> Tensor:
        """Compute y_A + log softmax(y)_A."""
        return select_entry(output + output.log_softmax(0), self.target)


@dataclass(frozen=True, eq=False)
class Contrast(ClassTarget):
    """Why one class and not another (Prabhushankar et al. 2020, "Contrastive Explanations").

    Attributes:
        target: The class asked for.
        against: The other; None: the mean of all others.
    """

    target: Class
    against: Class | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """Compute y_A - y_B, or y_A minus the mean of other logits."""
        score = select_entry(output, self.target)
        if self.against is None:
            if len(output) < 2:
                raise TargetError("a contrast needs a second class, but the model has one output")
            return score - (output.sum() - score) / (len(output) - 1)
        return score - select_entry(output, self.against)


@dataclass(frozen=True, eq=False)
class Counterfactual(ClassTarget):
    """What speaks against a class (Selvaraju et al. 2017, "Grad-CAM", section 3.3)."""

    target: Class

    def __call__(self, output: Tensor) -> Tensor:
        """Return -y_A."""
        return -select_entry(output, self.target)


@dataclass(frozen=True, eq=False)
class Several(ClassTarget):
    """Several classes at once: the sum of their logits, for a head with more than one label."""

    classes: tuple[Class, ...]

    def __call__(self, output: Tensor) -> Tensor:
        """Compute Σ y_k over the classes."""
        if not self.classes:
            raise TargetError("several classes were announced, but none is named")
        return torch.stack([select_entry(output, label) for label in self.classes]).sum()


@dataclass(frozen=True, eq=False)
class Binary:
    """A single number an image: for the positive class it, for the negative one minus it.

    Of a regression that is what raises the value, and what lowers it: "raise" and "lower" as
    targets of :func:`cam.attribute`.
    """

    positive: bool = True

    def __call__(self, output: Tensor) -> Tensor:
        """Return the output's only element, or minus it."""
        if output.numel() != 1:
            raise TargetError(
                f"a binary target takes one logit an image, not shape {tuple(output.shape)}"
            )
        return output.reshape(()) if self.positive else -output.reshape(())


@dataclass(frozen=True, eq=False)
class Similarity:
    """How near an image's embedding is to another one: for models that return embeddings.

    Attributes:
        embedding: (D,), for example that of another picture, or of a text.
        cosine: Whether lengths do not count; otherwise the dot product.
    """

    embedding: Tensor
    cosine: bool = True

    def __call__(self, output: Tensor) -> Tensor:
        """Compute their cosine, or their dot product."""
        if output.shape != self.embedding.shape or output.ndim != 1:
            raise TargetError(
                f"the model's embedding of an image has shape {tuple(output.shape)}, and the one "
                f"it is compared with {tuple(self.embedding.shape)}; both must be (D,)"
            )
        other = self.embedding.detach().to(output)
        if self.cosine:
            return torch.nn.functional.cosine_similarity(output, other, dim=0)
        return output @ other


def select_scores(
    logits: Tensor,
    targets: Targets,
    class_index: Callable[[str], int] = refuse_label,
    owner: Tensor | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor | tuple[TargetFunction, ...]]:
    """Select the score of each image that is explained.

    Args:
        logits: (B, classes) raw output of the model; for callables it may have any shape (B, …).
        targets: None for each image's top class, or for its value where the output is one number
            an image; one class for all; one for each image, as a sequence, an integer tensor or
            array (B,); or callables from one image's output to a scalar, such as the targets of
            this module. A class is an index or a label; of one number an image "raise" and "lower"
            ask what raises and what lowers it; of a detector "all" asks for all detections.
        class_index: From a label to its index; by default there are no labels.
        owner: (N,) int64, which image each of N targets is of; None: each image has one.
        size: (H, W) of the images that are explained: segments are laid on their output here, and
            stay there. None: other inputs, whose targets are what this function returned before.

    Returns:
        The scores (B,) or (N,), part of the autograd graph, and their targets: int64 classes as
        many, or the callables.

    Raises:
        TargetError: Out of range, of the wrong number or kind, or not a scalar.
    """
    batch = len(logits) if owner is None else len(owner)
    single = logits[0].numel() == 1
    if targets is None:
        if single:
            # There is one thing to explain, whatever axes it has.
            return logits.reshape(batch), torch.zeros(batch, dtype=torch.long, device=logits.device)
        _require_classes(logits)
        classes = logits.detach().argmax(1)
        return _gather(logits, classes), classes
    if isinstance(targets, np.ndarray):
        targets = torch.from_numpy(targets)
    if isinstance(targets, Tensor):
        requested: list[Target] = _from_tensor(targets)
        # Without a dimension it is one class for all.
        requested = requested * batch if targets.ndim == 0 else requested
    elif isinstance(targets, Sequence) and not isinstance(targets, str):
        requested = [_as_plain(target) for target in targets]
    else:
        requested = [_as_plain(targets)] * batch
    if len(requested) != batch:
        raise TargetError(
            f"{len(requested)} targets were given for {batch} images; give one for all, one for "
            "each, or a list of them for each"
        )
    if are_candidates(logits):
        requested = [AllDetections() if _is_all(target) else target for target in requested]
    requested = [_as_direction(target, class_index, single) for target in requested]
    functions = tuple(target for target in requested if callable(target))
    if functions:
        if len(functions) < batch:
            raise TargetError("targets mixes callables with classes; use one kind for all images")
        if size is not None:
            functions = _lay_down(functions, logits, owner, size)
        return _call(functions, logits, owner), functions
    logits = logits.reshape(len(logits), 1) if single else logits
    logits = logits if owner is None else logits[owner]
    _require_classes(logits)
    classes = torch.tensor(
        [find_class(target, logits.shape[1], class_index) for target in requested],
        device=logits.device,
    )
    return _gather(logits, classes), classes


def _is_all(target: Target) -> bool:
    return isinstance(target, str) and target == ALL


def _as_direction(target: Target, class_index: Callable[[str], int], single: bool) -> Target:
    """Turn "raise" and "lower" into a target, and the labels of one into indices."""
    if isinstance(target, ClassTarget):
        return target.resolve(class_index)
    if target not in (RAISE, LOWER) or not isinstance(target, str):
        return target
    if single:
        return Binary(target == RAISE)
    try:
        return class_index(target)
    except TargetError:
        raise TargetError(
            f"{target!r} is asked of a model that returns one number an image, and this one "
            "returns several; name a class"
        ) from None


def _require_classes(logits: Tensor) -> None:
    if logits.ndim != 2:
        raise TargetError(
            f"the model's output has the shape {tuple(logits.shape)}, not (B, classes); say which "
            f"part of it is explained: {_suggest_target(logits)}"
        )


def _suggest_target(logits: Tensor) -> str:
    """Name the kind of target that fits an output."""
    if logits.ndim == 4:
        return "cam.targets.Segment(class) for a class's pixels, or 'segment:CLASS'"
    if are_candidates(logits):
        return "cam.targets.Box(box, label) for a detection, or 'all'"
    return (
        "a callable target from one image's output, of shape "
        f"{tuple(logits.shape[1:])}, to a scalar"
    )


def _gather(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None])[:, 0]


def _from_tensor(targets: Tensor) -> list[Target]:
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise TargetError(f"a tensor of targets holds integers, not {targets.dtype}")
    if targets.ndim > 1:
        raise TargetError(
            f"a tensor of targets has one dimension, not shape {tuple(targets.shape)}"
        )
    return list(targets.reshape(-1).tolist())


def _as_plain(target: object) -> Target:
    """Convert any integer (numpy's, a one-element tensor) to Python's int."""
    if isinstance(target, bool):
        raise TargetError("a target is a class index, a label or a callable, not True or False")
    if isinstance(target, int | str) or callable(target):
        return target
    try:
        return target.__index__()  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, TypeError, ValueError, RuntimeError):
        kind = type(target).__name__
        raise TargetError(f"a target is a class index, a label or a callable, not {kind}") from None


def _lay_down(
    functions: tuple[TargetFunction, ...],
    output: Tensor,
    owner: Tensor | None,
    size: tuple[int, int],
) -> tuple[TargetFunction, ...]:
    """Fix what targets read of these images, so that they read the same of others."""
    images = _images_of(output, owner)
    return tuple(
        function.lay_on(image, size) if isinstance(function, Segment) else function
        for function, image in zip(functions, images, strict=True)
    )


def _images_of(output: Tensor, owner: Tensor | None) -> tuple[Tensor, ...]:
    images = output.unbind()
    return images if owner is None else tuple(images[image] for image in owner.tolist())


def _call(functions: tuple[TargetFunction, ...], output: Tensor, owner: Tensor | None) -> Tensor:
    images = _images_of(output, owner)
    scores = [function(image) for function, image in zip(functions, images, strict=True)]
    for score in scores:
        if not isinstance(score, Tensor) or score.numel() != 1:
            kind = (
                f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
            )
            raise TargetError(f"a target callable must return a scalar tensor, not {kind}")
    return torch.stack([score.reshape(()) for score in scores])
