"""What is explained: for each image the scalar whose evidence is sought."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cam.errors import TargetError
from cam.types import TargetFunction

Target = int | str | TargetFunction
Targets = Target | Sequence[Target] | Tensor | np.ndarray | None


def select_scores(
    logits: Tensor, targets: Targets, class_index: Callable[[str], int]
) -> tuple[Tensor, Tensor | tuple[TargetFunction, ...]]:
    """Pick the score of each image that is to be explained.

    Args:
        logits: (B, classes) raw output of the model; for callables it may have any shape (B, …).
        targets: None for each image's top class; one class for all; one for each image, as a
            sequence, an integer tensor or array (B,); or callables from one image's output to a
            scalar. A class is an index or a label.
        class_index: From a label to its index.

    Returns:
        The scores (B,), part of the autograd graph, and what was explained: (B,) int64 classes or
        the callables.

    Raises:
        TargetError: Out of range, of the wrong number or kind, or not a scalar.
    """
    batch = len(logits)
    if targets is None:
        _require_classes(logits)
        classes = logits.detach().argmax(1)
        return _gather(logits, classes), classes
    if isinstance(targets, np.ndarray):
        targets = torch.from_numpy(targets)
    if isinstance(targets, Tensor):
        wanted: list[Target] = _from_tensor(targets)
        # Without a dimension it is one class for all.
        wanted = wanted * batch if targets.ndim == 0 else wanted
    elif isinstance(targets, Sequence) and not isinstance(targets, str):
        wanted = [_as_plain(target) for target in targets]
    else:
        wanted = [_as_plain(targets)] * batch
    if len(wanted) != batch:
        raise TargetError(
            f"{len(wanted)} targets were given for {batch} images; give one for all, or one for "
            "each"
        )
    functions = tuple(target for target in wanted if callable(target))
    if functions:
        if len(functions) < batch:
            raise TargetError("targets mixes callables with classes; use one kind for all images")
        return _call(functions, logits), functions
    _require_classes(logits)
    classes = torch.tensor(
        [_class(target, logits.shape[1], class_index) for target in wanted], device=logits.device
    )
    return _gather(logits, classes), classes


def _require_classes(logits: Tensor) -> None:
    if logits.ndim != 2:
        raise TargetError(
            f"the model's output has the shape {tuple(logits.shape)}, not (B, classes); give a "
            "callable target that makes a scalar of one image's output"
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
    """An int of any kind (numpy's, a one-element tensor) as Python's own."""
    if isinstance(target, bool):
        raise TargetError("a target is a class index, a label or a callable, not True or False")
    if isinstance(target, int | str) or callable(target):
        return target
    try:
        return target.__index__()  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, TypeError, ValueError, RuntimeError):
        kind = type(target).__name__
        raise TargetError(f"a target is a class index, a label or a callable, not {kind}") from None


def _class(target: Target, classes: int, class_index: Callable[[str], int]) -> int:
    index = class_index(target) if isinstance(target, str) else target
    if not isinstance(index, int) or not 0 <= index < classes:
        raise TargetError(
            f"target {index} is out of range: the model has {classes} classes, 0 to {classes - 1}"
        )
    return index


def _call(functions: tuple[TargetFunction, ...], output: Tensor) -> Tensor:
    scores = [function(one) for function, one in zip(functions, output, strict=True)]
    for score in scores:
        if not isinstance(score, Tensor) or score.numel() != 1:
            found = (
                f"shape {tuple(score.shape)}" if isinstance(score, Tensor) else type(score).__name__
            )
            raise TargetError(f"a target callable must return a scalar tensor, not {found}")
    return torch.stack([score.reshape(()) for score in scores])
