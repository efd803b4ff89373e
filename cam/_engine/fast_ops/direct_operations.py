"""Run batch norm and max pooling faster where parameters need no gradient.

Values and gradients are torch's, but for the last bit of a gradient's product. Measured on a CPU:

- Batch norm with fixed statistics is linear in each channel, and its gradient by the input a
  product with the slope. Torch also reads the input again and adds up what the parameters'
  gradients would need, whether or not they are requested: 6 % of explaining a batch with a
  ResNet-50 by its pixels, a quarter with EfficientNet-Lite.
- A batch norm that no gradient passes overwrites the convolution's output that it reads
  (:mod:`cam._engine.fast_ops.overwritable_tensor`).
- Max pooling is three times as fast forward with its channels last, and three times as fast
  backward with its planes one after another. It does not round, so each may have its own: 4 % of
  the same with a ResNet-18.
"""

from collections.abc import Callable
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from cam._engine.fast_ops.overwritable_tensor import OverwritableTensor

Size = int | tuple[int, ...] | list[int]


class DirectOperations(TorchFunctionMode):
    """Run convolutions, fixed batch norms and max pooling faster while it is on.

    Gradients then reach the pixels and layers, and not the batch norms' parameters. A mode reaches
    the modules of any library and plain functions, and changes no module.

    Args:
        overwrite: Whether a batch norm may overwrite a convolution's output.
    """

    def __init__(self, overwrite: bool = True) -> None:
        super().__init__()
        self._overwrite = overwrite
        self._spent: list[ReferenceType[OverwritableTensor]] = []

    @property
    def leaked(self) -> bool:
        """Whether an overwritten output of a convolution is still referenced."""
        return any(output() is not None for output in self._spent)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, by its faster form where it has one."""
        # A part of the network that torch.compile traces saves memory by other means.
        if func is torch.conv2d and self._overwrite and not torch.compiler.is_compiling():
            convolved = func(*args, **(kwargs or {}))
            # A custom autograd function would tie a graph to the wrapper of a tensor.
            unowned = type(convolved) is Tensor and not convolved.requires_grad
            on_cpu = convolved.device.type == "cpu"
            return OverwritableTensor.of(convolved) if unowned and on_cpu else convolved
        if faster := _FASTER.get(func):
            output = faster(*args, **(kwargs or {}))
            if output is not None:
                if args and isinstance(args[0], OverwritableTensor) and args[0].spent:
                    self._spent.append(ref(args[0]))
                return output
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
    """Return the output, or None to leave it to torch."""
    # Under autocast inputs and parameters differ in precision, which torch handles.
    if training or mean is None or variance is None or inputs.dtype != variance.dtype:
        return None
    if not isinstance(inputs, OverwritableTensor):
        follows = torch.is_grad_enabled() and inputs.requires_grad
        return _FixedNorm.apply(inputs, mean, variance, weight, bias, eps) if follows else None
    if inputs.shared or inputs.spent:
        return None
    values = inputs.spend()
    unused = values.new_empty(0)
    torch.ops.aten.native_batch_norm.out(
        values, weight, bias, mean, variance, False, 0.0, eps,
        out=values, save_mean=unused, save_invstd=unused,
    )  # fmt: skip
    return values


def _max_pool(
    inputs: Tensor,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    """Return the output, or None to leave it to torch."""
    if return_indices or not torch.is_grad_enabled() or not inputs.requires_grad:
        return None
    if inputs.ndim != 4 or not inputs.is_contiguous() or inputs.device.type != "cpu":
        return None
    shape = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
    return _MaxPool.apply(inputs, *shape)  # type: ignore[no-any-return]


class _FixedNorm(torch.autograd.Function):
    """Batch norm with fixed statistics, linear in each channel."""

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


class _MaxPool(torch.autograd.Function):
    """Max pooling: forward with channels last, backward with contiguous planes."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, *shape: Any) -> Tensor:
        last = inputs.contiguous(memory_format=torch.channels_last)
        values, indices = torch.ops.aten.max_pool2d_with_indices(last, *map(_pair, shape))
        context.save_for_backward(inputs, indices.contiguous())
        context.shape = shape
        return values.contiguous()  # type: ignore[no-any-return]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        inputs, indices = context.saved_tensors
        gradient = torch.ops.aten.max_pool2d_with_indices_backward(
            gradients[0].contiguous(), inputs, *map(_pair, context.shape), indices
        )
        return (gradient, *[None] * len(context.shape))


def _pair(size: Any) -> Any:
    """Return both sides of a window that one number may stand for."""
    return [size, size] if isinstance(size, int) and not isinstance(size, bool) else size


_FASTER: dict[Any, Callable[..., Tensor | None]] = {
    functional.batch_norm: _batch_norm,
    functional.max_pool2d: _max_pool,
}
