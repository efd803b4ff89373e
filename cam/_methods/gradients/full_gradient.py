"""FullGrad: contributions of the pixels and of every bias to the score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cam._engine.method_sources import Pixels
from cam._engine.passes import Passes
from cam._methods.base.maps import axes_of_places, normalise_maps, promote
from cam._methods.base.method_registry import register_method
from cam.errors import NoGradientError
from cam.types import Maps, resize

_EPSILON = 1e-7  # as pytorch-grad-cam's scale_cam_image


@register_method(
    "fullgrad",
    title="FullGrad",
    family="gradient",
    kind="evidence",
    reads=Pixels,
    volumes=True,
    cost="2 forwards and 1 backward",
)
def fullgrad(pixels: Pixels, passes: Passes) -> Maps:
    """Where pixels and biases give the score, which they make up together in a ReLU network.

    y(x) = Σ x ⊙ ∂y/∂x + Σ_l Σ b_l ∂y/∂b_l, and map = Σ_c ψ(x ⊙ ∂y/∂x)_c + Σ_l Σ_c ψ(b_l ⊙ G_l)_c
    over the convolutions and batch norms l that have a bias and return (B, C, h, w), with G_l the
    gradient by their output. A batch norm's bias is what it adds once mean and variance are
    fixed, β - μ γ / √(σ² + ε). ψ takes absolute values, brings each channel to [0, 1] by
    (v - min) / (1e-7 + max - min), and then to the image's size by bilinear interpolation.

    Layers are found where they compute, so functions and layers of any class count, and the
    gradient is taken before an activation that changes the output in place or belongs to the layer;
    pytorch-grad-cam takes ``nn.Conv2d`` and ``nn.BatchNorm2d`` modules alone.

    Args:
        pixels: Its inputs (B, C, H, W), floats of any dtype.
        passes: Where the images go once more.

    Returns:
        Maps (B, H, W) float32, float64 for float64; nothing is negative.

    Raises:
        ModelError: The score does not depend on the pixels.

    References:
        Srinivas and Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS
        2019, equations 2 and 4; ψ as in pytorch-grad-cam 1.5.7
    """
    inputs = pixels.inputs
    passes.expect(len(inputs))
    biases = Biases(inputs.ndim)

    def total(leaf: Tensor, scores: Tensor) -> Tensor:
        size = tuple(leaf.shape[2:])
        first, *others = bias_shares(leaf, scores, biases)
        summed = _upsample(first, size)
        for part in others:
            summed = summed + _upsample(part, size)
        passes.backwards += 1
        biases.clear()
        return summed

    # Also a pass that ran out of memory may have left something.
    with passes.module.register_forward_pre_hook(lambda *_: biases.clear()), biases:
        raw = torch.cat(passes.graphs(inputs, total))
    return Maps(raw=raw, normalised=normalise_maps(raw))


class Biases(TorchFunctionMode):
    """Records the output and the bias of each convolution and batch norm while it is on.

    Args:
        axes: How many the outputs have that count: 4, or 5 of volumes.

    Attributes:
        outputs: (B, C, h, w) each, part of the graph.
        biases: (C,) each.
    """

    def __init__(self, axes: int = 4) -> None:
        super().__init__()
        self._axes = axes
        self.outputs: list[Tensor] = []
        self.biases: list[Tensor] = []

    def clear(self) -> None:
        """Forget everything, so that the graph can be freed."""
        self.outputs.clear()
        self.biases.clear()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function; record its output and bias."""
        output = function(*args, **(kwargs or {}))
        if function not in _BIASES:
            return output
        bias = _BIASES[function](*args, **(kwargs or {}))
        if bias is None or output.ndim != self._axes or not output.requires_grad:
            return output
        self.outputs.append(output)
        self.biases.append(bias.detach())
        # A copy goes on, so that an in-place activation leaves this one as it is.
        return output.clone()


def _bias_of_convolution(
    _input: Tensor, _weight: Tensor, bias: Tensor | None = None, *_rest: object, **_named: object
) -> Tensor | None:
    return bias


def _bias_of_norm(
    _input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    training: bool,
    eps: float,
    **_named: object,
) -> Tensor | None:
    if running_mean is None or running_var is None or training:
        return bias  # it takes mean and variance from the batch
    scale = (running_var + eps).rsqrt() if weight is None else weight * (running_var + eps).rsqrt()
    return -running_mean * scale if bias is None else bias - running_mean * scale


_BIASES: dict[Any, Callable[..., Tensor | None]] = {
    functional.conv2d: _bias_of_convolution,
    functional.conv3d: _bias_of_convolution,
    functional.batch_norm: _bias_of_norm,
}


def bias_shares(pixels: Tensor, scores: Tensor, biases: Biases) -> list[Tensor]:
    """Compute contributions of pixels and biases (B, C, h, w) to scores."""
    gradients: tuple[Tensor | None, ...] = (None,)
    if scores.requires_grad:
        gradients = torch.autograd.grad(scores.sum(), [pixels, *biases.outputs], allow_unused=True)
    if gradients[0] is None:
        raise NoGradientError("the target's score does not depend on the pixels")
    sides = [1] * (pixels.ndim - 2)
    factors = [pixels.detach(), *(bias.view(-1, *sides) for bias in biases.biases)]
    return [
        gradient * factor
        for gradient, factor in zip(gradients, factors, strict=True)
        if gradient is not None
    ]


def _upsample(share: Tensor, size: tuple[int, ...]) -> Tensor:
    """Compute Σ_c ψ(share_c) of (B, C, h, w), (B, H, W).

    The sum comes first, as interpolation is linear.
    """
    values = promote(share.abs())
    low = values.amin(axes_of_places(values), keepdim=True)
    high = values.amax(axes_of_places(values), keepdim=True)
    return resize(((values - low) / (_EPSILON + (high - low))).sum(1), size)
