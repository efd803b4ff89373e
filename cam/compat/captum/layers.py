"""Offer Captum's LayerGradCam, GuidedGradCam, GuidedBackprop and Deconvolution."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cam._engine.evaluation_mode import attach
from cam._engine.method_sources import LayerGradients
from cam._methods.cams.gradient_cam import gradcam
from cam._methods.gradients.modified_backward import Rule, deconvnet, guided_backprop, run_backward
from cam.compat.captum.explained_function import (
    Attribution,
    CaptumTarget,
    Forward,
    Inputs,
    Question,
    bind,
)
from cam.errors import LayerError, MethodError


class LayerAttribution(Attribution):
    """A way to explain one function at a layer.

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

    @staticmethod
    def interpolate(
        layer_attribution: Tensor,
        interpolate_dims: int | tuple[int, ...],
        interpolate_mode: str = "nearest",
    ) -> Tensor:
        """Bring a layer's attributions to another size.

        Args:
            layer_attribution: (B, C, h, w).
            interpolate_dims: The size, (H, W).
            interpolate_mode: As ``mode`` of :func:`torch.nn.functional.interpolate`.

        Returns:
            (B, C, H, W).
        """
        return functional.interpolate(layer_attribution, interpolate_dims, mode=interpolate_mode)


class LayerGradCam(LayerAttribution):
    """Grad-CAM at a layer, before ReLU and at the layer's resolution."""

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
    ) -> Tensor:
        """Compute Σ_c w_c A_c, w_c the mean gradient over map A_c.

        Args:
            inputs: (B, C, H, W) floats, or a tuple of them alone.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
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
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        layers = [(type(self.layer).__name__, self.layer)]
        (layer,) = question.capture([LayerGradients], layers).read(LayerGradients)
        maps = gradcam(layer.activations, layer.gradients)
        maps = maps.sum(1, keepdim=True) if attr_dim_summation else maps
        return maps.relu() if relu_attributions else maps


class _ChangedReLU(Attribution):
    """A gradient whose ReLUs send back something else.

    Args:
        model: A network whose ReLUs are modules.
    """

    _rule: Rule

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model = model

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
    ) -> Any:
        """Compute changed gradients of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.

        Returns:
            (B, C, H, W), of the inputs' dtype; in a tuple where the inputs are.

        Raises:
            MethodError: The network has ReLUs that are no ``nn.ReLU``, which Captum leaves as they
                are, or none at all.
            CamError: As :func:`cam.attribute`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        return question.answer(self._gradients(question))

    def _gradients(self, question: Question) -> Tensor:
        name = type(self).__name__
        calls: list[int] = []

        def check(changed: int) -> None:
            if changed != len(calls):
                raise MethodError(
                    f"Captum's {name} changes only ReLUs that are nn.ReLU modules, and "
                    f"{changed - len(calls)} of this network's {changed} are not, which this "
                    "library changes too; call cam.attribute(model, inputs, "
                    f"{_METHODS[name]!r}) for that"
                )
            calls.clear()

        with question.passes(name) as passes, _counting_relus(question.module, calls):
            return run_backward(passes, type(self)._rule, check)


class GuidedBackprop(_ChangedReLU):
    """Guided backpropagation."""

    _rule = staticmethod(guided_backprop)


class Deconvolution(_ChangedReLU):
    """The deconvolutional network."""

    _rule = staticmethod(deconvnet)


_METHODS = {"GuidedBackprop": "guided_backprop", "Deconvolution": "deconvnet"}


class GuidedGradCam(Attribution):
    """Guided backpropagation times Grad-CAM after ReLU.

    Args:
        model: A network whose ReLUs are modules.
        layer: A module that runs in it.
        device_ids: Not needed.
    """

    def __init__(
        self, model: nn.Module, layer: nn.Module, device_ids: Sequence[int] | None = None
    ) -> None:
        super().__init__(model)
        self.grad_cam = LayerGradCam(model, layer, device_ids)
        self.guided_backprop = GuidedBackprop(model)

    def attribute(
        self,
        inputs: Inputs,
        target: CaptumTarget = None,
        additional_forward_args: object = None,
        interpolate_mode: str = "nearest",
        attribute_to_layer_input: bool = False,
    ) -> Any:
        """Compute products of a batch.

        Args:
            inputs: As for :meth:`Saliency.attribute`.
            target: As for :meth:`Saliency.attribute`.
            additional_forward_args: As for :meth:`Saliency.attribute`.
            interpolate_mode: As for :meth:`LayerAttribution.interpolate`.
            attribute_to_layer_input: As for :meth:`LayerGradCam.attribute`.

        Returns:
            (B, C, H, W), of the inputs' dtype; in a tuple where the inputs are.

        Raises:
            CamError: As :class:`LayerGradCam` and :class:`GuidedBackprop`.
        """
        question = bind(self.forward_func, inputs, target, additional_forward_args)
        maps = self.grad_cam.attribute(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions=True,
        )
        gradients = self.guided_backprop._gradients(question)
        size = tuple(gradients.shape[2:])
        return question.answer(
            gradients * LayerAttribution.interpolate(maps, size, interpolate_mode)
        )


@contextmanager
def _counting_relus(module: nn.Module, calls: list[int]) -> Iterator[None]:
    """Add an entry for each time that an ``nn.ReLU`` runs."""

    def count(*_: object) -> None:
        calls.append(1)

    relus = [child for child in module.modules() if isinstance(child, nn.ReLU)]
    with attach(relu.register_forward_hook(count) for relu in relus):
        yield
