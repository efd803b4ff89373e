"""Offer torchcam's extractors that weigh a layer by its gradients.

A is a layer's activations and G the gradients of the score by them, (B, C, h, w); a map is
max(Σ_c w_c A_c, 0), min-max normalised.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cam.compat.torchcam.methods.extractor import (
    Classes,
    Extractor,
    Layers,
    OutputTargets,
    select_outputs,
)
from cam.compat.torchcam.methods.map_sizes import EPSILON
from cam.errors import LayerError


class GradientExtractor(Extractor):
    """Weights of a layer from the backward pass of the caller's forward pass."""

    needs_scores: ClassVar[bool] = True

    def _gradients(
        self,
        scores: Any,
        class_idx: Classes,
        targets: OutputTargets = None,
        retain_graph: bool = False,
    ) -> list[Tensor]:
        total = select_outputs(scores, class_idx, targets).sum()
        try:
            gradients = torch.autograd.grad(total, self.outputs, retain_graph=retain_graph)
        except RuntimeError as error:
            raise LayerError(
                f"no gradient comes from the scores to {self.target_names}: {error}"
            ) from error
        return [self._reshape(part).detach() for part in gradients]

    def _weights(self, class_idx: Classes, scores: Any, **kwargs: Any) -> Sequence[Tensor]:
        gradients = self._gradients(scores, class_idx, **kwargs)
        return [
            self._weigh(layer, gradient)
            for layer, gradient in zip(self.hook_a, gradients, strict=True)
        ]

    def _weigh(self, activations: Tensor, gradients: Tensor) -> Tensor:
        raise NotImplementedError


class GradCAM(GradientExtractor):
    """Grad-CAM: w = mean of G."""

    def _weigh(self, _activations: Tensor, gradients: Tensor) -> Tensor:
        return gradients.flatten(2).mean(-1)


class GradCAMpp(GradientExtractor):
    """Grad-CAM++ as torchcam 0.5.0 computes it: w = Σ G² max(G, 0).

    Its division by the paper's denominator acts on a copy, so α is G²; the paper's map is
    ``cam.attribute(model, inputs, "gradcam_plus_plus")``.
    """

    def _weigh(self, _activations: Tensor, gradients: Tensor) -> Tensor:
        return (gradients.square() * gradients.relu()).flatten(2).sum(-1)


class XGradCAM(GradientExtractor):
    """XGrad-CAM: w = Σ G A / Σ A."""

    def _weigh(self, activations: Tensor, gradients: Tensor) -> Tensor:
        shares = (gradients * activations).flatten(2).sum(-1)
        return shares / (activations.flatten(2).sum(-1) + EPSILON)


class LayerCAM(GradientExtractor):
    """LayerCAM: w = max(G, 0) at each place."""

    def _weigh(self, _activations: Tensor, gradients: Tensor) -> Tensor:
        return gradients.relu()

    @staticmethod
    def _scale(maps: Tensor) -> Tensor:
        # Equation 9 of the paper, with its γ of 2.
        return torch.tanh(2 * maps)


class SmoothGradCAMpp(GradientExtractor):
    """Smooth Grad-CAM++ as torchcam computes it.

    With means over noisy copies of the picture, α = E G² / (2 E G² + Σ A E G³), A of the picture;
    w = Σ α max(G, 0) with G, as the maps that are weighed, of the last copy. Noise is drawn as
    there, so the same seed gives the same maps.

    Args:
        model: As for :class:`Extractor`.
        target_layer: As for :class:`Extractor`.
        num_samples: Copies.
        std: Standard deviation of the noise.
        input_shape: As for :class:`Extractor`.
        kwargs: As for :class:`Extractor`.
    """

    needs_scores: ClassVar[bool] = False

    def __init__(
        self,
        model: nn.Module,
        target_layer: Layers = None,
        num_samples: int = 4,
        std: float = 0.3,
        input_shape: tuple[int, ...] = (3, 224, 224),
        **kwargs: Any,
    ) -> None:
        super().__init__(model, target_layer, input_shape, **kwargs)
        self.num_samples = num_samples
        self.std = std
        self._keeps_input = True
        self.hook_handles.append(model.register_forward_pre_hook(self._keep_input))

    def _keep_input(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if self._keeps_input:
            self._input = inputs[0].detach().clone()

    def _weights(self, class_idx: Classes, scores: Any = None, **kwargs: Any) -> Sequence[Tensor]:
        activations = list(self.hook_a)
        squares = [torch.zeros_like(layer) for layer in activations]
        cubes = [torch.zeros_like(layer) for layer in activations]
        gradients: list[Tensor] = []
        noise: Callable[..., Tensor] = torch.distributions.Normal(0, self.std).sample
        self._keeps_input = False
        try:
            for _ in range(self.num_samples):
                noisy = self._input + noise(self._input.shape).to(self._input.device)
                output = self.model(noisy.requires_grad_())
                gradients = self._gradients(output, class_idx, **kwargs)
                for square, cube, part in zip(squares, cubes, gradients, strict=True):
                    square += part.square() / self.num_samples
                    cube += part.pow(3) / self.num_samples
        finally:
            self._keeps_input = True
        weights = []
        for layer, square, cube, part in zip(activations, squares, cubes, gradients, strict=True):
            third = (cube * layer).flatten(2).sum(-1)
            third = third[(...,) + (None,) * (layer.ndim - 2)]
            alpha = square / (2 * square + third + EPSILON)
            weights.append((alpha * part.relu()).flatten(2).sum(-1))
        return weights
