"""Offer Captum's DeepLift and DeepLiftShap, with the slopes that Captum gives.

Captum changes the backward pass of modules of ten classes. A function, another activation, and a
module that reads what another of them returned keep their ordinary gradient there; here too, with
a warning that names what has slopes in this library's ``deeplift``.
"""

import warnings
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from cam._methods.gradients.deeplift import PicturePairs
from cam.compat.captum.baselines import Baselines, expand_baselines, unwrap_baselines
from cam.compat.captum.explained_function import (
    Attribution,
    CaptumTarget,
    Inputs,
    bind,
    repeat_rows,
)
from cam.compat.captum.module_slopes import SlopedModules
from cam.errors import CamWarning, InputError, MethodError


class DeepLift(Attribution):
    """DeepLIFT by the rescale rule, in one backward pass.

    Args:
        model: A network whose activations are modules.
        multiply_by_inputs: Whether slopes are multiplied by the difference to the baselines.
        eps: Captum's 1e-10: below it a difference counts as none.

    Raises:
        MethodError: Another ``eps``, which this library takes from the numbers' precision.
    """

    def __init__(
        self, model: nn.Module, multiply_by_inputs: bool = True, eps: float = 1e-10
    ) -> None:
        super().__init__(model)
        self.model = model
        self._multiply_by_inputs = multiply_by_inputs
        if eps != 1e-10:
            raise MethodError(
                f"eps must be 1e-10, but is {eps!r}: a difference counts as none here where it is "
                "rounding"
            )

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether slopes are multiplied by the difference to the baselines."""
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
        return_convergence_delta: bool = False,
        custom_attribution_func: Callable[..., tuple[Tensor, ...]] | None = None,
    ) -> Any:
        """Compute attributions of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            baselines: A number, or a tensor of the inputs' shape or with one picture; None: 0.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            return_convergence_delta: Whether to return by how much an image's attributions miss
                the difference of the scores.
            custom_attribution_func: From tuples of slopes, inputs and baselines, or the first of
                these, to a tuple of attributions.

        Returns:
            (B, C, H, W) of the inputs' dtype, in a tuple where the inputs are; with the delta that
            too, (B,).

        Raises:
            InputError: The baselines do not fit.
            MethodError: Captum's slopes are not this library's: of ``nn.Softmax``, of a pooling
                that is no ``nn.MaxPool2d`` or whose windows overlap, of a module that runs twice.
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs.detach()
        start = expand_baselines(baselines, pictures)
        modules = SlopedModules()
        with question.passes("deeplift") as passes:
            pairs = PicturePairs(passes.module, modules.rule)
            with passes.through(pairs), modules.watch(passes.module):
                _, slopes = passes.gradients(torch.stack([pictures, start], 1))
            slopes = slopes[:, 0]
            if custom_attribution_func is not None:
                count = len(signature(custom_attribution_func).parameters)
                parts = ((slopes,), (pictures,), (start,))[:count]
                (attributions,) = custom_attribution_func(*parts)
            else:
                ways = pictures - start if self.multiplies_by_inputs else 1
                attributions = slopes * ways
            gap = None
            if return_convergence_delta:
                owner = torch.arange(len(start), device=start.device)
                gap = passes.pixels.scores - passes.scores(start, owner)
        if modules.plain:
            warnings.warn(
                f"Captum's DeepLift, and so this, keeps the ordinary gradient of "
                f"{', '.join(sorted(modules.plain))} in this network; cam.attribute(model, inputs, "
                "'deeplift') gives these slopes too",
                CamWarning,
                stacklevel=2,
            )
        if gap is None:
            return question.answer(attributions)
        return question.answer(attributions), attributions.flatten(1).sum(1) - gap


class DeepLiftShap(DeepLift):
    """The mean of DeepLIFT over several baselines.

    Args:
        model: A network whose activations are modules.
        multiply_by_inputs: As for :class:`DeepLift`.
    """

    def __init__(self, model: nn.Module, multiply_by_inputs: bool = True) -> None:
        super().__init__(model, multiply_by_inputs)

    def attribute(  # type: ignore[override]  # baselines have no default
        self,
        inputs: Inputs,
        baselines: Tensor | tuple[Tensor, ...] | Callable[..., Any],
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        custom_attribution_func: Callable[..., tuple[Tensor, ...]] | None = None,
    ) -> Any:
        """Compute attributions of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            baselines: (N, C, H, W), or a function that returns it, of the inputs or of nothing.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            return_convergence_delta: As for :meth:`DeepLift.attribute`, of each pair (B N,).
            custom_attribution_func: As for :meth:`DeepLift.attribute`.

        Returns:
            As :meth:`DeepLift.attribute`.

        Raises:
            InputError: There are not at least two baselines.
            CamError: As :meth:`DeepLift.attribute`.
        """
        if callable(baselines):
            baselines = baselines(inputs) if signature(baselines).parameters else baselines()
        blanks = unwrap_baselines(baselines)
        if not isinstance(blanks, Tensor) or len(blanks) < 2:
            raise InputError("baselines is a tensor of at least two images; DeepLift takes one")
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        pictures = question.inputs.detach()
        count = len(blanks)
        options = {"target": target, "additional_forward_args": additional_forward_args}
        answer = super().attribute(
            pictures.repeat_interleave(count, 0),
            blanks.repeat(len(pictures), 1, 1, 1),
            return_convergence_delta=return_convergence_delta,
            custom_attribution_func=custom_attribution_func,
            **repeat_rows(options, count),
        )
        attributions, *delta = answer if return_convergence_delta else (answer,)
        mean = question.answer(attributions.unflatten(0, (-1, count)).mean(1))
        return (mean, *delta) if return_convergence_delta else mean
