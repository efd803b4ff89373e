"""Offer Captum's attribution classes (0.9), with its signs, shapes and dtypes.

``from captum.attr import Saliency`` becomes ``from cam.compat.captum import Saliency``. What
differs: the model is explained in evaluation mode, whatever mode it is in, and comes back as it
was; ``forward_func`` takes one tensor of pictures (B, C, H, W), and nothing beside it.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cam._engine.capture import capture
from cam._engine.evaluation_mode import original_module
from cam._engine.method_sources import Capture, LayerGradients, PixelGradients, Source
from cam._engine.passes import Passes
from cam._methods.cams.gradient_cam import gradcam
from cam._methods.gradients.integrated_gradients import average_gradients, gauss_legendre
from cam.errors import InputError, LayerError, MethodError, TargetError
from cam.parameters import integer

Forward = nn.Module | Callable[[Tensor], Any]
CaptumTarget = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None

# Pictures on the way of integrated gradients that go through the model at once.
_BATCH = 32


class _Attribution:
    """A way to explain one function.

    Args:
        forward_func: A model, or a function of a batch of pictures.
    """

    def __init__(self, forward_func: Forward) -> None:
        self.forward_func = forward_func

    def _capture(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: CaptumTarget,
        additional: object,
        reads: Sequence[type[Source]] = (),
        layers: Sequence[tuple[str, nn.Module]] = (),
    ) -> tuple[nn.Module, Capture]:
        if isinstance(inputs, tuple) or additional is not None:
            raise InputError(
                "one tensor of pictures is explained here, without arguments beside it; bind these "
                "in a function of the pictures"
            )
        module = _as_module(self.forward_func, inputs)
        # Captum's callers give inputs that require a gradient; these are not theirs.
        explained = _convert_target(target, inputs)
        return module, capture(module, inputs, explained, reads=reads, layers=layers)


class Saliency(_Attribution):
    """The gradient of the score by the pixels."""

    def attribute(
        self,
        inputs: Tensor,
        target: CaptumTarget = None,
        abs: bool = True,
        additional_forward_args: object = None,
    ) -> Tensor:
        """Compute gradients of a batch.

        Args:
            inputs: (B, C, H, W) floats.
            target: A class for all, one for each, or, where the output has more dimensions, a tuple
                of indices; None where there is one number an image.
            abs: Whether signs are dropped.
            additional_forward_args: None.

        Returns:
            (B, C, H, W), of the inputs' dtype.

        Raises:
            CamError: As :func:`cam.attribute`.
        """
        _, captured = self._capture(inputs, target, additional_forward_args, (PixelGradients,))
        (pixels,) = captured.read(PixelGradients)
        return pixels.gradients.abs() if abs else pixels.gradients


class LayerGradCam(_Attribution):
    """Grad-CAM at a layer, before ReLU and at the layer's resolution.

    Args:
        forward_func: A model, or a function of a batch of pictures.
        layer: A module that runs in it.
        device_ids: Not needed.
    """

    def __init__(
        self, forward_func: Forward, layer: nn.Module, device_ids: Sequence[int] | None = None
    ) -> None:
        super().__init__(forward_func)
        self.layer = layer

    def attribute(
        self,
        inputs: Tensor,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
    ) -> Tensor:
        """Compute Σ_c w_c A_c, w_c the mean gradient over map A_c.

        Args:
            inputs: (B, C, H, W) floats.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: None.
            attribute_to_layer_input: False; name the layer in front instead.
            relu_attributions: Whether what speaks against the target becomes zero.
            attr_dim_summation: Whether the channels are added up.

        Returns:
            (B, 1, h, w), or (B, C, h, w) without the sum, of the layer's dtype.

        Raises:
            LayerError: The input of the layer is asked for.
            CamError: As :func:`cam.attribute`.
        """
        if attribute_to_layer_input:
            raise LayerError("the input of a layer is not explained; name the layer that makes it")
        layers = [(type(self.layer).__name__, self.layer)]
        _, captured = self._capture(
            inputs, target, additional_forward_args, (LayerGradients,), layers
        )
        (layer,) = captured.read(LayerGradients)
        maps = gradcam(layer.activations, layer.gradients)
        maps = maps.sum(1, keepdim=True) if attr_dim_summation else maps
        return maps.relu() if relu_attributions else maps


class IntegratedGradients(_Attribution):
    """The gradient by the pixels, integrated on the straight way from a baseline.

    Args:
        forward_func: A model, or a function of a batch of pictures.
        multiply_by_inputs: Whether the integral is multiplied by the way, so that all adds up to
            the difference of the scores.
    """

    def __init__(self, forward_func: Forward, multiply_by_inputs: bool = True) -> None:
        super().__init__(forward_func)
        self.multiply_by_inputs = multiply_by_inputs

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor | float | None = None,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Compute attributions of a batch.

        Args:
            inputs: (B, C, H, W) floats.
            baselines: A number, or a tensor of the inputs' shape or with one picture; None: 0.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: None.
            n_steps: Points at which the gradient is taken.
            method: ``gausslegendre``, ``riemann_left``, ``riemann_right``, ``riemann_middle`` or
                ``riemann_trapezoid``.
            internal_batch_size: Pictures that go through the model at once; None: 32.
            return_convergence_delta: Whether to return by how much an image's attributions miss
                the difference of the scores.

        Returns:
            (B, C, H, W) of the inputs' dtype, and with the delta that too, (B,).

        Raises:
            InputError: The baselines do not fit.
            MethodError: Another rule, or a number of steps or a batch size below 1.
            CamError: As :func:`cam.attribute`.
        """
        points, weights = _integration_points(method, n_steps)
        size = _BATCH if internal_batch_size is None else internal_batch_size
        if not integer(1).holds(size):
            raise MethodError(f"internal_batch_size must be at least 1, but is {size!r}")
        module, captured = self._capture(inputs, target, additional_forward_args)
        pixels = captured.pixels
        start = _expand_baselines(baselines, pixels.inputs)
        with Passes(module, captured, size).of("integrated_gradients") as passes:
            total, ways = average_gradients(passes, start, points, weights)
            attributions = (total * ways if self.multiply_by_inputs else total).to(inputs.dtype)
            if not return_convergence_delta:
                return attributions
            owner = torch.arange(len(start), device=start.device)
            gap = pixels.scores - passes.scores(start, owner)
        return attributions, attributions.flatten(1).sum(1) - gap


class _Function(nn.Module):
    """A function of pictures as a module, on the pictures' device."""

    def __init__(self, function: Callable[[Tensor], Any], device: torch.device) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("device_marker", torch.empty(0, device=device))

    def forward(self, pictures: Tensor) -> Any:
        """Call the function."""
        return self.function(pictures)


def _as_module(forward_func: Forward, inputs: Tensor) -> nn.Module:
    if isinstance(forward_func, nn.Module):
        return original_module(forward_func)
    # A bound method's network is put in evaluation mode with the rest.
    device = inputs.device if isinstance(inputs, Tensor) else torch.device("cpu")
    return _Function(forward_func, device)


def _convert_target(target: CaptumTarget, inputs: Tensor) -> Any:
    """Convert Captum's kinds of targets to this library's."""
    if target is None:
        return _take_only_number
    if isinstance(target, Tensor):
        return target.reshape(-1)[0] if target.numel() == 1 else target
    if isinstance(target, tuple):
        return [itemgetter(target)] * len(inputs)
    if isinstance(target, list) and target and isinstance(target[0], tuple):
        return [itemgetter(index) for index in target]
    return target


def _take_only_number(output: Tensor) -> Tensor:
    if output.numel() != 1:
        raise TargetError(
            f"the output for an image has shape {tuple(output.shape)}, so a target must say which "
            "number of it is explained"
        )
    return output.reshape(())


def _expand_baselines(baselines: Tensor | float | None, inputs: Tensor) -> Tensor:
    if isinstance(baselines, Tensor):
        if baselines.shape not in (inputs.shape, (1, *inputs.shape[1:])):
            raise InputError(
                f"baselines of shape {tuple(baselines.shape)} do not fit inputs of shape "
                f"{tuple(inputs.shape)}; give a number, one picture, or one for each input"
            )
        return baselines.detach().to(inputs).expand_as(inputs)
    if baselines is not None and (
        isinstance(baselines, bool) or not isinstance(baselines, int | float)
    ):
        raise InputError(f"baselines is a number or a tensor, not {type(baselines).__name__}")
    return torch.full_like(inputs, baselines or 0)


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
