"""Find whether a network takes a clip's frames or its channels first.

torchvision's video models and networks of volumes take (B, C, D, H, W), those of transformers
(B, T, C, H, W). The library computes with the channels first, and hands the network what it takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cam._engine.evaluation_mode import evaluation_mode
from cam.errors import InputError

_PLANES, _VOLUMES = (torch.conv2d,), (torch.conv3d,)
_MATRICES = (nn.functional.linear,)

_orders: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
# The network that takes frames first, while it is explained.
_frames_first: ContextVar[nn.Module | None] = ContextVar("cam_frames_first", default=None)


def in_model_order(module: nn.Module, pixels: Tensor) -> Tensor:
    """Return a batch as a network takes it, from (B, C, D, H, W); images stay as they are."""
    if pixels.ndim == 5 and _frames_first.get() is module:
        return pixels.transpose(1, 2)
    return pixels


@contextmanager
def channels_first(module: nn.Module, batch: Tensor, frames_first: bool | None) -> Iterator[Tensor]:
    """Yield a batch with its channels first; the network gets it in its order meanwhile.

    Args:
        module: The network.
        batch: (B, C, H, W), which is not changed, or of five axes, in the network's order.
        frames_first: Whether that order is (B, T, C, H, W); None: as the network shows.

    Raises:
        InputError: Nothing shows in which order the network takes them.
    """
    if batch.ndim != 5:
        yield batch
        return
    first = takes_frames_first(module, batch) if frames_first is None else frames_first
    token = _frames_first.set(module if first else None)
    try:
        yield batch.transpose(1, 2) if first else batch
    finally:
        _frames_first.reset(token)


def takes_frames_first(module: nn.Module, batch: Tensor) -> bool:
    """Find the order from the first convolution or matrix that runs.

    The axis of the channels is the one whose length that convolution takes as its channels. Where
    both axes are as long, or a matrix takes the pixels of patches, a change tells: that of a
    channel reaches every patch, that of a frame only some.

    Args:
        module: The network; no more of it runs.
        batch: (B, C, D, H, W) or (B, T, C, H, W).

    Raises:
        InputError: It is in doubt.
    """
    if module in _orders:
        return _orders[module]
    first, second = batch.shape[1:3]
    if first == second == 1:
        return False
    try:
        order = _watch_first_layer(module, batch[:1])
    except _FailedError:
        # The pass that follows says what is wrong.
        return False
    if order is None:
        raise InputError(
            f"nothing shows whether axis 1 or 2 of the batch {tuple(batch.shape)} holds the "
            f"channels that {type(module).__name__} takes; say so with cam.Model(network, "
            "frames_first=False) for (B, C, D, H, W), or True for (B, T, C, H, W)"
        )
    _orders[module] = order
    return order


class _FailedError(Exception):
    """The network fails before its first layer has run."""


class _Stop(BaseException):
    """The first layer has run. No network catches it by accident."""

    def __init__(self, kind: str, taken: Tensor, returned: Tensor) -> None:
        super().__init__()
        self.kind, self.taken, self.returned = kind, taken, returned


class _FirstLayer(TorchFunctionMode):
    """Ends a pass when the first convolution or matrix has run."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and end at the first that is looked for."""
        returned = func(*args, **(kwargs or {}))
        for kind, functions in (("2d", _PLANES), ("3d", _VOLUMES), ("matrix", _MATRICES)):
            if func in functions:
                taken = args[0] if args else (kwargs or {})["input"]
                raise _Stop(kind, taken, returned)
        return returned


def _watch_first_layer(module: nn.Module, example: Tensor) -> bool | None:
    """Return whether frames come first; None where the first layer leaves it in doubt."""
    first, second = example.shape[1:3]
    noise = torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    changed = noise.repeat(3, 1, 1, 1, 1)
    changed[1, 0] += 1
    changed[2, :, 0] += 1
    try:
        with evaluation_mode(module), torch.no_grad(), _FirstLayer():
            module(changed)
    except _Stop as stop:
        layer = stop
    except Exception as error:
        raise _FailedError from error
    else:
        return None
    if layer.kind != "matrix":
        channels = layer.taken.shape[1]
        if (first == channels) != (second == channels):
            order = second == channels
            # One plane whose depth is taken as channels looks like a clip of one frame.
            in_doubt = layer.kind == "2d" and order and first == 1
            return None if in_doubt else order
    return _compare_reach(layer)


def _compare_reach(layer: _Stop) -> bool | None:
    """Return whether frames come first, by how far a change of either axis reaches."""
    values = layer.returned
    if len(values) % 3:
        return None
    positions = values.movedim(1, -1) if layer.kind != "matrix" else values
    rows = positions.reshape(3, -1, positions.shape[-1])
    along_first, along_second = (float((row != rows[0]).any(-1).float().mean()) for row in rows[1:])
    if along_first == 1 and 0 < along_second < 1:
        return False
    return True if along_second == 1 and 0 < along_first < 1 else None
