"""Offer Captum's Occlusion and FeatureAblation."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from cam.compat.captum.baselines import Baselines, expand_baselines, unwrap_baselines
from cam.compat.captum.explained_function import (
    BATCH,
    Attribution,
    CaptumTarget,
    Inputs,
    Question,
    bind,
)
from cam.errors import InputError, MethodError
from cam.parameters import integer


class FeatureAblation(Attribution):
    """How far the score falls when a feature shows the baseline."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: what is taken away is counted, not how the score changes with it."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Ablate one feature after another.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            baselines: A number, or a tensor of the inputs' shape or with one picture; None: 0.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            feature_mask: The feature's number at each place, (B, C, H, W) or what expands to that;
                None: each number of a picture is a feature.
            perturbations_per_eval: How many ablations of the batch run at once; only a matter of
                speed.
            show_progress: Not needed.

        Returns:
            (B, C, H, W), of the scores' dtype, each place with its feature's drop; in a tuple where
            the inputs are.

        Raises:
            InputError: The baselines or the features do not fit.
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs
        features = _expand_features(unwrap_baselines(feature_mask), pictures)
        numbers = sorted(set(features.flatten().tolist()))

        def masks() -> Iterator[Tensor]:
            for number in numbers:
                yield features == number

        total, _ = _add_drops(question, masks, baselines, perturbations_per_eval)
        return question.answer(total)


class Occlusion(Attribution):
    """How far the score falls when a window shows the baseline, a mean over the windows."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: what is taken away is counted, not how the score changes with it."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        sliding_window_shapes: tuple[Any, ...],
        strides: int | tuple[Any, ...] | None = None,
        baselines: Baselines = None,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Slide a window over a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            sliding_window_shapes: The window's size in channels, rows and columns.
            strides: From one window to the next, for all axes or each; None: 1.
            baselines: A number, or a tensor of the inputs' shape or with one picture; None: 0.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            perturbations_per_eval: How many windows run at once; only a matter of speed.
            show_progress: Not needed.

        Returns:
            (B, C, H, W) float32; in a tuple where the inputs are.

        Raises:
            InputError: The baselines do not fit.
            MethodError: The window or its strides do not fit.
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs
        window = _read_axes(sliding_window_shapes, pictures, "sliding_window_shapes")
        stride = _read_axes(1 if strides is None else strides, pictures, "strides")
        starts = _window_starts(tuple(pictures.shape[1:]), window, stride)

        def masks() -> Iterator[Tensor]:
            for corner in product(*starts):
                mask = torch.zeros(pictures.shape[1:], dtype=torch.bool, device=pictures.device)
                # The last window may reach beyond the edge, and is cut off there.
                box = zip(corner, window, strict=True)
                mask[tuple(slice(at, at + side) for at, side in box)] = True
                yield mask[None]

        total, covered = _add_drops(question, masks, baselines, perturbations_per_eval)
        return question.answer(total.float() / covered)


def _add_drops(
    question: Question,
    masks: Callable[[], Iterator[Tensor]],
    baselines: Baselines,
    per_pass: int,
) -> tuple[Tensor, Tensor]:
    """Return the sum of the masks' drops at each place, and how many masks cover it."""
    if not integer(1).holds(per_pass):
        raise MethodError(
            f"perturbations_per_eval must be a whole number of at least 1, but is {per_pass!r}"
        )
    pictures = question.inputs.detach()
    blank = expand_baselines(baselines, pictures)
    count = len(pictures)
    with torch.no_grad(), question.passes("ablation", max(BATCH, per_pass * count)) as passes:
        scores = passes.pixels.scores
        total = torch.zeros_like(pictures, dtype=scores.dtype)
        covered = torch.zeros_like(pictures[:1], dtype=torch.float32)
        owner = torch.arange(count, device=pictures.device)
        for part in _groups(masks(), max(1, passes.batch_size // count)):
            hidden = torch.cat([torch.where(mask, blank, pictures) for mask in part])
            drops = scores.repeat(len(part)) - passes.scores(hidden, owner.repeat(len(part)))
            for mask, drop in zip(part, drops.view(len(part), count), strict=True):
                total += drop[:, None, None, None] * mask
                if len(mask) == 1:
                    covered += mask
    return total, covered


def _groups(masks: Iterator[Tensor], size: int) -> Iterator[list[Tensor]]:
    group: list[Tensor] = []
    for mask in masks:
        group.append(mask)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _expand_features(features: Tensor | None, pictures: Tensor) -> Tensor:
    shape = pictures.shape
    if features is None:
        return torch.arange(pictures[0].numel(), device=pictures.device).view(1, *shape[1:])
    try:
        features = torch.broadcast_to(features, (*features.shape[:1], *shape[1:]))
    except (RuntimeError, AttributeError):
        features = None
    if features is None or features.ndim != 4 or len(features) not in (1, shape[0]):
        raise InputError(
            f"feature_mask must be a tensor that expands to the inputs' shape {tuple(shape)}"
        )
    return features.to(pictures.device)


def _read_axes(value: Any, pictures: Tensor, name: str) -> tuple[int, ...]:
    """Read a number an axis, behind that of the pictures."""
    axes = pictures.ndim - 1
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], tuple):
        (value,) = value
    sides = value if isinstance(value, tuple) else (value,) * axes
    if len(sides) != axes or not all(integer(1).holds(side) for side in sides):
        raise MethodError(
            f"{name} must be {axes} whole numbers of at least 1, one an axis, but is {value!r}"
        )
    return sides


def _window_starts(
    shape: tuple[int, ...], window: tuple[int, ...], stride: tuple[int, ...]
) -> list[range]:
    """List the starts of windows along each axis until one reaches the end."""
    starts = []
    for side, length, step in zip(shape, window, stride, strict=True):
        if length > side or (length < side and step > length):
            raise MethodError(
                f"a window of {window} with strides {stride} does not cover inputs of {shape}: it "
                "must fit in, and no stride may be above its side"
            )
        steps = -(-(side - length) // step) + 1
        starts.append(range(0, steps * step, step))
    return starts
