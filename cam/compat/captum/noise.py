"""Offer Captum's NoiseTunnel and GradientShap, with the same draws."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cam.compat.captum.baselines import Baselines, expand_baselines, unwrap_baselines
from cam.compat.captum.explained_function import (
    Attribution,
    CaptumTarget,
    Forward,
    Inputs,
    bind,
    repeat_rows,
)
from cam.errors import InputError, MethodError
from cam.parameters import integer

_TYPES = ("smoothgrad", "smoothgrad_sq", "vargrad")


class NoiseTunnel(Attribution):
    """The mean of another way's attributions over noisy copies of the pictures.

    Draws come from torch's generator as Captum's do, so the same seed gives the same numbers.

    Args:
        attribution_method: An object of a class of this package.
    """

    def __init__(self, attribution_method: Any) -> None:
        super().__init__(attribution_method.forward_func)
        self.attribution_method = attribution_method

    @property
    def multiplies_by_inputs(self) -> bool:
        """As of the other way."""
        return bool(self.attribution_method.multiplies_by_inputs)

    def has_convergence_delta(self) -> bool:
        """Return that of the other way."""
        return bool(self.attribution_method.has_convergence_delta())

    def attribute(
        self,
        inputs: Inputs,
        nt_type: str = "smoothgrad",
        nt_samples: int = 5,
        nt_samples_batch_size: int | None = None,
        stdevs: float | tuple[float, ...] = 1.0,
        draw_baseline_from_distrib: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Compute attributions of noisy copies.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            nt_type: ``smoothgrad``, their mean, ``smoothgrad_sq``, that of their squares, or
                ``vargrad``, their variance.
            nt_samples: Copies of each picture.
            nt_samples_batch_size: How many of them are drawn at once; None: all.
            stdevs: Standard deviation of the noise.
            draw_baseline_from_distrib: Whether each copy draws one of the baselines.
            kwargs: For the other way's ``attribute``.

        Returns:
            As of the other way; its delta has an entry for each copy.

        Raises:
            MethodError: Another type, or a number below 1.
            CamError: As of the other way.
        """
        size = nt_samples if nt_samples_batch_size is None else nt_samples_batch_size
        if nt_type not in _TYPES:
            raise MethodError(f"there is no nt_type {nt_type!r}; known: {', '.join(_TYPES)}")
        for name, value in (("nt_samples", nt_samples), ("nt_samples_batch_size", size)):
            if not integer(1).holds(value):
                raise MethodError(f"{name} must be a whole number of at least 1, but is {value!r}")
        question = bind(self.forward_func, inputs, None)
        pictures = question.inputs.detach()
        deviation = _read_deviation(stdevs)
        with_delta = self.has_convergence_delta() and kwargs.get("return_convergence_delta", False)
        total = squares = torch.zeros(())
        deltas = []
        size = min(size, nt_samples)
        full, rest = divmod(nt_samples, size)
        drawn: dict[int, dict[str, Any]] = {}
        for copies in [size] * full + [rest] * (rest > 0):
            # As in Captum baselines are drawn once for all parts of the same size.
            if copies not in drawn:
                drawn[copies] = _expand(kwargs, copies, pictures, draw_baseline_from_distrib)
            repeated = pictures.repeat_interleave(copies, 0)
            noisy = repeated + torch.normal(0, torch.full_like(repeated, deviation))
            answer = self.attribution_method.attribute(noisy, **drawn[copies])
            if with_delta:
                answer, delta = answer
                deltas.append(delta)
            each = answer.unflatten(0, (-1, copies))
            total = total + each.sum(1)
            squares = squares + each.square().sum(1)
        mean, square = total / nt_samples, squares / nt_samples
        result = {"smoothgrad": mean, "smoothgrad_sq": square, "vargrad": square - mean * mean}
        smoothed = question.answer(result[nt_type])
        return (smoothed, torch.cat(deltas)) if with_delta else smoothed


class GradientShap(Attribution):
    """Gradients at random points of the ways from drawn baselines, times the ways.

    Draws come from torch's and numpy's generators as Captum's do, so the same seeds give the same
    numbers.

    Args:
        forward_func: A model, or a function of a batch of pictures.
        multiply_by_inputs: Whether the gradients are multiplied by the ways.
    """

    def __init__(self, forward_func: Forward, multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the gradients are multiplied by the ways."""
        return self._multiply_by_inputs

    def has_convergence_delta(self) -> bool:
        """Return True."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        baselines: Tensor | tuple[Tensor, ...] | Callable[..., Any],
        n_samples: int = 5,
        stdevs: float | tuple[float, ...] = 0.0,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Compute attributions of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            baselines: (N, C, H, W) to draw from, or a function that returns it, of the inputs or
                of nothing.
            n_samples: Draws for each picture.
            stdevs: Standard deviation of the noise on the pictures.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            return_convergence_delta: Whether to return by how much attributions miss the
                difference of the scores, for each draw.

        Returns:
            (B, C, H, W), in a tuple where the inputs are; with the delta that too,
            (B n_samples,).

        Raises:
            InputError: The baselines are no such tensor.
            CamError: As :func:`cam.attribute`.
        """
        if callable(baselines):
            baselines = baselines(inputs) if signature(baselines).parameters else baselines()
        distribution = unwrap_baselines(baselines)
        if not isinstance(distribution, Tensor):
            raise InputError(
                f"baselines is a tensor of images to draw from, not {type(distribution).__name__}"
            )
        way = _RandomWayPoint(self.forward_func, self.multiplies_by_inputs)
        return NoiseTunnel(way).attribute(
            inputs,
            nt_samples=n_samples,
            stdevs=stdevs,
            draw_baseline_from_distrib=True,
            baselines=distribution,
            target=target,
            additional_forward_args=additional_forward_args,
            return_convergence_delta=return_convergence_delta,
        )


class _RandomWayPoint(GradientShap):
    """The gradient at one random point of each way."""

    def attribute(  # type: ignore[override]  # one baseline for each picture
        self,
        inputs: Tensor,
        baselines: Baselines = None,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        start = expand_baselines(baselines, inputs)
        shares = torch.from_numpy(np.random.uniform(0, 1, len(inputs))).to(inputs)
        shares = shares.view(-1, 1, 1, 1)
        with question.passes("gradientshap") as passes:
            _, gradients = passes.gradients(shares * inputs + (1 - shares) * start)
            scores = passes.pixels.scores
            at_start = passes.scores(start) if return_convergence_delta else scores
        attributions = gradients * (inputs - start) if self.multiplies_by_inputs else gradients
        if not return_convergence_delta:
            return attributions
        return attributions, attributions.flatten(1).sum(1) - (scores - at_start)


def _read_deviation(stdevs: float | tuple[float, ...]) -> float:
    deviation = unwrap_baselines(stdevs)
    if isinstance(deviation, bool) or not isinstance(deviation, int | float) or deviation < 0:
        raise MethodError(f"stdevs must be a number of at least 0, but is {stdevs!r}")
    return float(deviation)


def _expand(kwargs: dict[str, Any], copies: int, pictures: Tensor, draw: bool) -> dict[str, Any]:
    """Repeat what belongs to each picture for its copies."""
    count = len(pictures)
    expanded = repeat_rows(kwargs, copies)
    baselines = unwrap_baselines(kwargs.get("baselines"))
    if isinstance(baselines, Tensor) and draw:
        expanded["baselines"] = baselines[np.random.choice(len(baselines), copies * count).tolist()]
    elif isinstance(baselines, Tensor) and len(baselines) == count > 1:
        expanded["baselines"] = baselines.repeat_interleave(copies, 0)
    mask = unwrap_baselines(kwargs.get("feature_mask"))
    if isinstance(mask, Tensor) and len(mask) == count > 1:
        expanded["feature_mask"] = mask.repeat_interleave(copies, 0)
    return expanded
