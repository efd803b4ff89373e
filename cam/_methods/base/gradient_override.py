"""Operations that keep their value and get another gradient, in whatever way a network calls them.

Torch has a function, a method, an operator and an in-place form of most operations; a mode that
sees all of them reaches what hooks on modules do not.
"""

from typing import Any

import torch
from torch import Tensor

# By the names that torch gives to an operation as a function, as a method and in place.
ACTIVATIONS = frozenset(
    (
        *("abs", "erf", "exp", "sqrt", "square", "clamp", "clamp_max", "clamp_min", "clip"),
        *("relu", "relu6", "threshold", "hardtanh", "leaky_relu", "prelu", "elu", "celu", "selu"),
        *("gelu", "silu", "mish", "hardswish", "sigmoid", "hardsigmoid", "logsigmoid"),
        *("tanh", "softplus", "softsign"),
    )
)
PRODUCTS = frozenset(("mul", "multiply", "__mul__", "__rmul__", "__imul__"))
SUMS = frozenset(("add", "__add__", "__radd__", "__iadd__"))


def operation(func: object) -> str:
    """The name of an operation, without what marks its in-place form."""
    name = str(getattr(func, "__name__", ""))
    return name if name.startswith("__") else name.removesuffix("_")


def in_place(
    func: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> bool:
    """Whether a call changes its first argument."""
    name = str(getattr(func, "__name__", ""))
    if name.endswith("_") and not name.endswith("__"):
        return True
    if name.startswith("__i"):
        return True
    # Of activations written in Python a flag is the last argument of those that have one.
    return bool((kwargs or {}).get("inplace", bool(args) and args[-1] is True))


def is_of_batch(batch: int, *tensors: object) -> bool:
    """Whether all of them came from a batch that requires gradients: no leaf, as parameters are."""
    return bool(tensors) and all(
        isinstance(tensor, Tensor)
        and tensor.requires_grad
        and not tensor.is_leaf
        and tensor.ndim > 0
        and len(tensor) % batch == 0
        for tensor in tensors
    )


def with_gradient(value: Tensor, sloped: Tensor) -> Tensor:
    """The first one's value with the second one's gradient; both of one shape."""
    return _GradientOverride.apply(value.detach(), sloped)  # type: ignore[no-any-return]


class _GradientOverride(torch.autograd.Function):
    """Passes the first on and sends the gradient to the second."""

    @staticmethod
    def forward(_context: Any, value: Tensor, sloped: Tensor) -> Tensor:
        """A copy, because a result that is an input would be taken for changed in place."""
        return value.clone()

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """All of it to the second."""
        return None, gradients[0]
