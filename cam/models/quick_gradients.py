"""Operations whose gradient by the input torch calculates in a roundabout way, done directly.

Values and gradients are torch's own, but for the last bit of a product. Measured on a CPU:

- Batch norm with fixed statistics is a line for each channel, and its gradient by the input a
  product with the slope. Torch also reads the input again and adds up what the parameters'
  gradients would need, whether or not they are wanted: 6 % of explaining a batch with a ResNet-50
  by its pixels, a quarter with EfficientNet-Lite.
- Max pooling is three times as fast forward with its channels last, and three times as fast
  backward with its planes one after another. It does not round, so each may have its own: 4 % of
  the same with a ResNet-18.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Size = int | tuple[int, ...] | list[int]


class QuickGradients(TorchFunctionMode):
    """While it is on, fixed batch norms and max pooling go the short way.

    Gradients then reach the pixels and layers, and not the batch norms' parameters. A mode reaches
    the modules of any library and plain functions, and changes no module.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, the short way where it has one."""
        short = _SHORT.get(func)
        if short is not None and torch.is_grad_enabled():
            found = short(*args, **(kwargs or {}))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def _batch_norm(
    inputs: Tensor,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """The output (N, C, …), or None where torch has to calculate it."""
    if training or mean is None or variance is None or not inputs.requires_grad:
        return None
    # Autocast's shorter numbers meet longer parameters: torch knows how.
    if inputs.dtype != variance.dtype:
        return None
    return _Line.apply(inputs, mean, variance, weight, bias, eps)  # type: ignore[no-any-return]


def _max_pool(
    inputs: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """The output (N, C, h, w), or None where torch has to calculate it."""
    planes = inputs.ndim == 4 and inputs.is_contiguous() and inputs.device.type == "cpu"
    if return_indices or not planes or not inputs.requires_grad:
        return None
    shape = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
    return _Pool.apply(inputs, *shape)  # type: ignore[no-any-return]


class _Line(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        slope = (variance + eps).rsqrt()
        if weight is not None:
            slope = slope * weight
        context.save_for_backward(slope.view(-1, *[1] * (inputs.ndim - 2)))
        return functional.batch_norm(inputs, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = context.saved_tensors
        return gradients[0] * slope, None, None, None, None, None


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, inputs: Tensor, *shape: Any) -> Tensor:
        last = inputs.contiguous(memory_format=torch.channels_last)
        values, places = torch.ops.aten.max_pool2d_with_indices(last, *map(_pair, shape))
        context.save_for_backward(inputs, places.contiguous())
        context.shape = shape
        return values.contiguous()  # type: ignore[no-any-return]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, places = context.saved_tensors
        gradient = torch.ops.aten.max_pool2d_with_indices_backward(
            gradients[0].contiguous(), inputs, *map(_pair, context.shape), places
        )
        return (gradient, *[None] * len(context.shape))


def _pair(size: Any) -> Any:
    """Both sides of a window, where one number stands for them."""
    return [size, size] if isinstance(size, int) and not isinstance(size, bool) else size


_SHORT: dict[Any, Callable[..., Tensor | None]] = {
    functional.batch_norm: _batch_norm,
    functional.max_pool2d: _max_pool,
}
