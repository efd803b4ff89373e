"""Send back only what is not zero: a box's gradient mostly is.

The score of one candidate reads one cell of one level, or one region of a thousand. Behind it, the
gradients of convolutions, linear layers and regions are zero outside of a window or of a few rows,
and only that part is computed. What they return is the same to rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torchvision  # noqa: F401 - registers roi_align
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Of a gradient whose window is larger than this share nothing would be saved.
_LARGEST_SHARE = 0.7
# Rows from which a linear layer is looked at: fewer are those of a classifier.
_FEWEST_ROWS = 64


class SparseBackward(TorchFunctionMode):
    """Replaces operations whose backward passes can leave zeros out, while the forward runs."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call an operation, or what replaces it where it applies."""
        sparse = _SPARSE.get(func)
        if sparse is not None and not torch.is_autocast_enabled(args[0].device.type):
            output = sparse(*args, **(kwargs or {}))
            if output is not None:
                return output
        return func(*args, **(kwargs or {}))


def _follows(inputs: Tensor) -> bool:
    return torch.is_grad_enabled() and inputs.requires_grad


def _convolve(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the output, or None to leave it to torch."""
    if inputs.ndim != 4 or isinstance(padding, str) or not _follows(inputs):
        return None
    shape = [list(_pair(each)) for each in (stride, padding, dilation)]
    return _Convolution.apply(inputs, weight.detach(), bias, *shape, groups)  # type: ignore[no-any-return]


def _multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return the output, or None to leave it to torch."""
    if inputs.ndim != 2 or len(inputs) < _FEWEST_ROWS or not _follows(inputs):
        return None
    return _Linear.apply(inputs, weight.detach(), bias)  # type: ignore[no-any-return]


def _pool_regions(inputs: Tensor, regions: Tensor, *shape: Any) -> Tensor | None:
    """Return the output, or None to leave it to torch."""
    if not _follows(inputs) or regions.requires_grad:
        return None
    return _Regions.apply(inputs, regions, shape)  # type: ignore[no-any-return]


def _pair(size: Any) -> tuple[int, int]:
    """Return both sides of what one number may stand for."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    return sides if len(sides) == 2 else sides * 2


def _window(gradient: Tensor) -> tuple[int, int, int, int] | None:
    """Find the rows and columns of (B, C, h, w) outside of which all is zero; None: all is."""
    height, width = gradient.shape[2:]
    edges = (gradient[:, :, 0], gradient[:, :, -1], gradient[..., 0], gradient[..., -1])
    if all(bool(edge.any()) for edge in edges):
        return 0, height, 0, width  # without a look at what is between
    there = gradient.ne(0).flatten(0, 1).any(0)  # (h, w)
    rows, columns = there.any(1).nonzero()[:, 0], there.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


class _Convolution(torch.autograd.Function):
    """A convolution whose backward pass computes the window that is not zero."""

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> Tensor:
        context.save_for_backward(weight)
        context.shape, context.settings = inputs.shape, (stride, padding, dilation, groups)
        return torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (weight,) = gradients, context.saved_tensors
        stride, padding, dilation, groups = context.settings
        full, window = gradient.new_zeros, _window(gradient)
        if window is None:
            return full(context.shape), *[None] * 6
        top, bottom, left, right = window
        share = (bottom - top) * (right - left) / gradient[0, 0].numel()
        if share > _LARGEST_SHARE:
            return _transpose(gradient, weight, context.shape, context.settings), *[None] * 6
        part = gradient[:, :, top:bottom, left:right]
        # The window of the padded inputs that these cells read.
        sides = [
            (cells - 1) * step + apart * (kernel - 1) + 1
            for cells, step, apart, kernel in zip(
                part.shape[2:], stride, dilation, weight.shape[2:], strict=True
            )
        ]
        inside = (*context.shape[:2], *sides)
        values = _transpose(part, weight, inside, (stride, [0, 0], dilation, groups))
        starts = [top * stride[0] - padding[0], left * stride[1] - padding[1]]
        # What lies in the padding goes nowhere.
        cuts = [
            (max(start, 0), min(start + side, length))
            for start, side, length in zip(starts, sides, context.shape[2:], strict=True)
        ]
        result = full(context.shape)
        (above, below), (before, behind) = cuts
        if below > above and behind > before:
            result[:, :, above:below, before:behind] = values[
                :, :, above - starts[0] : below - starts[0], before - starts[1] : behind - starts[1]
            ]
        return result, *[None] * 6


def _transpose(gradient: Tensor, weight: Tensor, shape: Any, settings: Any) -> Tensor:
    """Compute a convolution's gradient by inputs of a shape."""
    stride, padding, dilation, groups = settings
    inputs = gradient.new_empty(shape)
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, stride, padding, dilation, False, [0, 0], groups,
        [True, False, False],
    )[0]  # fmt: skip
    return result


class _Linear(torch.autograd.Function):
    """A linear layer whose backward pass multiplies the rows that are not zero."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        return functional.linear(inputs, weight, bias)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (weight,) = gradients, context.saved_tensors
        rows = gradient.ne(0).any(1).nonzero()[:, 0]
        if len(rows) > _LARGEST_SHARE * len(gradient):
            return gradient @ weight, None, None
        result = gradient.new_zeros(len(gradient), weight.shape[1])
        result[rows] = gradient[rows] @ weight
        return result, None, None


class _Regions(torch.autograd.Function):
    """torchvision's roi_align, whose backward pass follows the regions that are not zero."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, regions: Tensor, shape: Any) -> Tensor:
        context.save_for_backward(regions)
        context.shape, context.settings = inputs.shape, shape
        result: Tensor = torch.ops.torchvision.roi_align(inputs, regions, *shape)
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (regions,) = gradients, context.saved_tensors
        scale, height, width, samples, aligned = context.settings
        rows = gradient.flatten(1).ne(0).any(1).nonzero()[:, 0]
        result = torch.ops.torchvision._roi_align_backward(
            gradient[rows], regions[rows], scale, height, width, *context.shape, samples, aligned
        )
        return result, None, None


_SPARSE: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _convolve,
    functional.linear: _multiply,
    torch.ops.torchvision.roi_align: _pool_regions,
}
