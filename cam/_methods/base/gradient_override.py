"""Override the gradients of operations, in whichever form a network calls them.

Torch has a function, a method, an operator and an in-place form of most operations; a mode that
sees all of them reaches what hooks on modules do not.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# By the names that torch gives to an operation as a function, as a method and in place.
ACTIVATIONS = frozenset(
    (
        *("abs", "erf", "exp", "sqrt", "square", "clamp", "clamp_max", "clamp_min", "clip"),
        *("relu", "relu6", "threshold", "hardtanh", "leaky_relu", "prelu", "elu", "celu", "selu"),
        *("gelu", "silu", "mish", "hardswish", "sigmoid", "hardsigmoid", "logsigmoid"),
        *("tanh", "softplus", "softsign"),
    )
)
ELEMENTWISE = ACTIVATIONS | frozenset(
    (
        *("pow", "__pow__", "float_power", "exp2", "expm1", "log", "log1p", "log2", "log10"),
        *("rsqrt", "reciprocal", "__rtruediv__", "__rdiv__", "sin", "cos", "atan", "logit"),
        *("tanhshrink", "softshrink", "hardshrink", "rrelu"),
    )
)
PRODUCTS = frozenset(("mul", "multiply", "__mul__", "__rmul__", "__imul__"))
SUMS = frozenset(("add", "__add__", "__radd__", "__iadd__"))
QUOTIENTS = frozenset(("div", "divide", "true_divide", "__truediv__", "__itruediv__"))
MATRIX_PRODUCTS = frozenset(("matmul", "__matmul__", "bmm", "mm", "einsum", "tensordot", "inner"))
# Functions of torch.nn that are made of these.
COMPOSED = frozenset(("multi_head_attention_forward", "normalize", "local_response_norm"))
_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


class GradientOverrides(TorchFunctionMode, ABC):
    """Gives operations on a batch other gradients while it is on.

    Args:
        batch: The number of pictures; tensors of the batch have a multiple of it as first axis.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation by its override, if it has one."""
        name = str(getattr(function, "__name__", ""))
        # Without the suffix of its in-place form.
        name = name if name.startswith("__") else name.removesuffix("_")
        return self.run(function, name, args, kwargs or {})

    @abstractmethod
    def run(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation, by an override or plainly.

        Args:
            function: The operation.
            name: Its name, the same for all of its forms.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """

    def takes_batch(self, args: tuple[Any, ...], count: int = 1) -> bool:
        """Test whether the first arguments came from a batch that requires gradients.

        Leaves, as parameters are, did not.
        """
        return (
            len(args) >= count
            and all(
                isinstance(tensor, Tensor)
                and tensor.requires_grad
                and not tensor.is_leaf
                and tensor.ndim > 0
                and len(tensor) % self._batch == 0
                # Not tokens that come before the pictures, a multiple of these by chance.
                and (
                    len(tensor) == self._batch or tensor.ndim != 3 or tensor.shape[1] != self._batch
                )
                for tensor in args[:count]
            )
        )


@contextmanager
def freeze_parameters(network: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient, so that what does is made of the input."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def is_in_place(
    func: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> bool:
    """Test whether a call changes its first argument."""
    name = str(getattr(func, "__name__", ""))
    if name.endswith("_") and not name.endswith("__"):
        return True
    if name.startswith("__i"):
        return True
    # Of activations written in Python a flag is the last argument of those that have one.
    return bool((kwargs or {}).get("inplace", bool(args) and args[-1] is True))


def run_body(function: Any, *args: Any, **named: Any) -> Any:
    """Run a function of torch.nn as the operations that it is made of, which a mode sees.

    It would else ask first whether a mode wants to see the function itself, without an end.
    """
    unseen = {name: lambda *_: False for name in _CHECKS}
    body = FunctionType(
        function.__code__,
        {**function.__globals__, **unseen},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    return body(*args, **named)


def override_gradient(value: Tensor, sloped: Tensor) -> Tensor:
    """Return the first tensor's value with the second one's gradient."""
    return _GradientOverride.apply(value.detach(), sloped)  # type: ignore[no-any-return]


class _GradientOverride(torch.autograd.Function):
    """Returns the first and sends the gradient to the second."""

    @staticmethod
    def forward(_context: Any, value: Tensor, sloped: Tensor) -> Tensor:
        # A copy, because a result that is an input would be taken for changed in place.
        return value.clone()

    @staticmethod
    def backward(_context: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]
