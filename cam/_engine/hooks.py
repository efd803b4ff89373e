"""Attach hooks for a while; read or replace a module's output."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor
from torch.utils.hooks import RemovableHandle


@contextmanager
def attach(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end, also where registering one of them fails."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield


def main_output(output: object) -> object:
    """Return the first of a tuple, beside which attention may be."""
    return output[0] if isinstance(output, tuple) and output else output


def replace_main_output(output: object, tensor: Tensor) -> object:
    """Return an output with another tensor in place of the main one."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor
