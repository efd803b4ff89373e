"""Offer Captum's Saliency, InputXGradient and IntegratedGradients."""

from typing import Any

import numpy as np
import torch

from cam._engine.method_sources import PixelGradients
from cam._methods.gradients.integrated_gradients import average_gradients, gauss_legendre
from cam.compat.captum.baselines import Baselines, expand_baselines
from cam.compat.captum.explained_function import (
    BATCH,
    Attribution,
    CaptumTarget,
    Forward,
    Inputs,
    bind,
)
from cam.errors import MethodError
from cam.parameters import integer


class Saliency(Attribution):
    """The gradient of the score by the pixels."""

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        abs: bool = True,
        additional_forward_args: object = None,
    ) -> Any:
        """Compute gradients of a batch.

        Args:
            inputs: (B, C, H, W) floats, or a tuple of them alone.
            target: A class for all, one for each, or, where the output has more dimensions, a tuple
                of indices; None where there is one number an image.
            abs: Whether signs are dropped.
            additional_forward_args: What the function takes behind the pictures.

        Returns:
            (B, C, H, W), of the inputs' dtype; in a tuple where the inputs are.

        Raises:
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        (pixels,) = question.capture([PixelGradients]).read(PixelGradients)
        return question.answer(pixels.gradients.abs() if abs else pixels.gradients)


class InputXGradient(Attribution):
    """The pixels times the gradient of the score by them."""

    @property
    def multiplies_by_inputs(self) -> bool:
        """True."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
    ) -> Any:
        """Compute products of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.

        Returns:
            (B, C, H, W), of the inputs' dtype; in a tuple where the inputs are.

        Raises:
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        (pixels,) = question.capture([PixelGradients]).read(PixelGradients)
        return question.answer(pixels.inputs * pixels.gradients)


class IntegratedGradients(Attribution):
    """The gradient by the pixels, integrated on the straight way from a baseline.

    Args:
        forward_func: A model, or a function of a batch of pictures.
        multiply_by_inputs: Whether the integral is multiplied by the way, so that all adds up to
            the difference of the scores.
    """

    def __init__(self, forward_func: Forward, multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        self._multiply_by_inputs = multiply_by_inputs

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the integral is multiplied by the way."""
        return self._multiply_by_inputs

    def has_convergence_delta(self) -> bool:
        """Return True."""
        return True

    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Compute attributions of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            baselines: A number, or a tensor of the inputs' shape or with one picture; None: 0.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            n_steps: Points at which the gradient is taken.
            method: ``gausslegendre``, ``riemann_left``, ``riemann_right``, ``riemann_middle`` or
                ``riemann_trapezoid``.
            internal_batch_size: Pictures that go through the model at once; None: 32.
            return_convergence_delta: Whether to return by how much an image's attributions miss
                the difference of the scores.

        Returns:
            (B, C, H, W) of the inputs' dtype, in a tuple where the inputs are, and with the delta
            that too, (B,).

        Raises:
            InputError: The baselines do not fit.
            MethodError: Another rule, or a number of steps or a batch size below 1.
            CamError: As :func:`cam.attribute`.
        """
        points, weights = _integration_points(method, n_steps)
        size = BATCH if internal_batch_size is None else internal_batch_size
        if not integer(1).holds(size):
            raise MethodError(f"internal_batch_size must be at least 1, but is {size!r}")
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs
        start = expand_baselines(baselines, pictures.detach())
        with question.passes("integrated_gradients", size) as passes:
            total, ways = average_gradients(passes, start, points, weights)
            attributions = total * ways if self.multiplies_by_inputs else total
            attributions = attributions.to(pictures.dtype)
            if not return_convergence_delta:
                return question.answer(attributions)
            owner = torch.arange(len(start), device=start.device)
            gap = passes.pixels.scores - passes.scores(start, owner)
        return question.answer(attributions), attributions.flatten(1).sum(1) - gap


def _integration_points(name: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights (steps,) over [0, 1] of Captum's rules."""
    if not integer(1).holds(steps):
        raise MethodError(f"n_steps must be a whole number of at least 1, but is {steps!r}")
    if name == "gausslegendre":
        return gauss_legendre(steps)
    even, weights = np.arange(steps) / steps, np.full(steps, 1 / steps)
    if name == "riemann_trapezoid":
        # Captum's: weights that add up to 1 - 1 / steps.
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    shift = {"riemann_left": 0, "riemann_middle": 0.5, "riemann_right": 1}
    if name not in shift:
        names = ", ".join(["gausslegendre", *shift, "riemann_trapezoid"])
        raise MethodError(f"there is no method {name!r} of integration; known: {names}")
    return even + shift[name] / steps, weights
