"""Ways to share relevance among the inputs of an operation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cam._methods.base.gradient_override import override_gradient
from cam._methods.relevance.linear_rules import nonzero


class NormalisedSum(torch.autograd.Function):
    """Adds two branches, and shares the relevance by the size of all that each contributes."""

    @staticmethod
    def forward(context: Any, first: Tensor, second: Tensor, batch: int) -> Tensor:
        context.save_for_backward(first, second)
        # Tokens may come first, and pictures second.
        context.axis = int(first.ndim > 1 and len(first) != batch and first.shape[1] == batch)
        context.batch = batch
        return first + second

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients

        def total(branch: Tensor) -> Tensor:
            relevance = (branch * gradient).movedim(context.axis, 0)
            return relevance.reshape(context.batch, -1).sum(1)  # (B,)

        totals = [total(branch) for branch in context.saved_tensors]
        size = totals[0].abs() + totals[1].abs()
        results = []
        for part in totals:
            factor = part.sign() * (totals[0] + totals[1]) / torch.where(size == 0, 1, size)
            shape = [1] * gradient.ndim
            shape[context.axis] = -1
            repeats = gradient.shape[context.axis] // context.batch
            results.append(gradient * factor.repeat_interleave(repeats).reshape(shape))
        return results[0], results[1], None


def depends(value: object) -> bool:
    """Test whether a value is made of the pixels."""
    return isinstance(value, Tensor) and value.requires_grad


def copying(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function that changes its first argument change a copy."""
    return lambda first, *others, **named: function(first.clone(), *others, **named)


def pass_elementwise(x: Tensor, value: Tensor) -> Tensor:
    """Let each element of the input have the relevance of its output."""
    return override_gradient(value, x * (nonzero(value) / nonzero(x)).detach())


def divide(value: Tensor, count: int) -> Tensor:
    """Share relevance evenly among several operands."""
    return override_gradient(value, value / count)


def by_channel(values: Tensor | None, x: Tensor) -> Tensor | None:
    """Shape (C,) as it fits (B, C, …)."""
    return None if values is None else values.reshape(-1, *[1] * (x.ndim - 2))
