"""Mark a convolution output without another owner, which may be overwritten.

A batch norm behind a convolution allocates as much memory as the convolution did, and on a CPU the
pages of it cost more than the arithmetic: a tenth of a ResNet-50's forward pass. In place of the
convolution's output it has the same bits without them. A network's code does not say whether it
reads that output again, so until the batch norm takes it, nothing gets the values except through
this class.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as tree


class WrittenOverError(Exception):
    """A convolution's output was read after a batch norm had overwritten it."""


class OverwritableTensor(Tensor):
    """Stands for a tensor until an operation reads it.

    Attributes:
        value: The tensor itself.
        shared: Whether other code may hold it.
        spent: Whether its memory was overwritten.
    """

    value: Tensor
    shared: bool
    spent: bool

    @staticmethod
    def of(value: Tensor) -> "OverwritableTensor":
        """Wrap a tensor that no other code holds."""
        wrapper: OverwritableTensor = Tensor._make_wrapper_subclass(
            OverwritableTensor,
            value.shape,
            strides=value.stride(),
            dtype=value.dtype,
            device=value.device,
        )
        wrapper.value, wrapper.shared, wrapper.spent = value, False, False
        return wrapper

    def share(self) -> Tensor:
        """Return the tensor to code that may keep it.

        Raises:
            WrittenOverError: It was overwritten.
        """
        if self.spent:
            raise WrittenOverError
        self.shared = True
        return self.value

    def spend(self) -> Tensor:
        """Return the tensor to be overwritten; only where it is not ``shared``."""
        self.spent = True
        return self.value

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run any operation on the tensors themselves."""
        if func in _SHAPES:
            return func(args[0].value, *args[1:], **(kwargs or {}))
        args, kwargs = tree.tree_map_only(
            OverwritableTensor, OverwritableTensor.share, (args, kwargs or {})
        )
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse; :meth:`__torch_function__` comes before it, and torch asks that it exists."""
        raise WrittenOverError


# They say what a tensor is like, and none of its values.
_SHAPES = {
    Tensor.dim,
    Tensor.size,
    Tensor.is_floating_point,
    torch.is_floating_point,
    *(
        getattr(Tensor, name).__get__
        for name in ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad")
    ),
}
