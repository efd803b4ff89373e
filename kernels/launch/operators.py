"""Register functions as PyTorch operators, for `torch.compile` and CUDA graphs."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .dispatch import backend, interpreter_is_on
from .launcher_parts import is_real

NAMESPACE = "cam_kernels"


def operator(name: str, mutates_args: Iterable[str] = ()) -> Callable[[Callable[..., Any]], Any]:
    """Register a function as `torch.ops.cam_kernels.<name>`.

    The function allocates what it returns and then either launches (`Launch.run`) or computes with
    plain torch. `torch.library.triton_op` lets the compiler look inside and see both; the fake
    kernel, which knows shapes only, is the same function, whose launches do nothing on fake
    tensors. Interpreted kernels cannot be looked into, so under `TRITON_INTERPRET=1` the operator
    is opaque to the compiler, and equally right.

    Args:
        name: The operator's name.
        mutates_args: Names of the arguments that the function writes to.

    Returns:
        A decorator; its result is called like the function.
    """

    def register(function: Callable[..., Any]) -> Any:
        full_name = f"{NAMESPACE}::{name}"
        changed = tuple(mutates_args)
        if not interpreter_is_on():
            return torch.library.triton_op(full_name, function, mutates_args=changed)
        opaque = torch.library.custom_op(full_name, function, mutates_args=changed)
        opaque.register_fake(function)
        return opaque

    return register


def skips_operator(tensor: Tensor) -> bool:
    """Check whether plain torch may compute at once.

    No compiler traces then, and no kernel is requested.
    """
    tracing = torch.compiler.is_compiling() or not is_real(tensor)
    return not tracing and backend(tensor) == "reference"
