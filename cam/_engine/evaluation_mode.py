"""Run a caller's model without leaving a trace on it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[bool]:
    """Put every submodule in evaluation mode, and restore each afterwards.

    A model can be partly in training mode (a frozen batch norm, say), and ``module.train()`` would
    not bring that back. Yields whether anything had to be changed.
    """
    training = [child for child in module.modules() if child.training]
    try:
        for child in training:
            child.training = False
        # A wrapper's own flag changes nothing, as DataParallel's around a model in evaluation mode.
        yield any(not list(child.children()) for child in training)
    finally:
        for child in training:
            child.training = True


@contextmanager
def attach(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end, also where registering one of them fails."""
    with ExitStack() as stack:
        for handle in handles:
            stack.enter_context(handle)
        yield


def original_module(module: nn.Module) -> nn.Module:
    """Return the module that ``torch.compile`` wrapped, as that ignores later hooks."""
    return getattr(module, "_orig_mod", module)


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module; the CPU if it is empty."""
    first: Tensor | None = next(chain(module.parameters(), module.buffers()), None)
    return first.device if first is not None else torch.device("cpu")
