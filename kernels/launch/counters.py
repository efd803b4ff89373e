"""Zeroed counters for launches, many from one fill."""

import threading
from dataclasses import dataclass

import torch
from torch import Tensor

from .launcher_parts import is_real

SUPPLY = 65_536  # counters that one fill prepares: 256 KiB
# Each launch's begin at 16 bytes; to other addresses Triton would compile the kernel once more.
ALIGNED = 4


@dataclass
class _Supply:
    """Zeroed memory of one stream, and where the free part begins."""

    counters: Tensor
    next_free: int


_supplies: dict[tuple[torch.device, int], _Supply] = {}
_lock = threading.Lock()


def zeroed(count: int, layer: Tensor) -> Tensor:
    """Give a launch zeroed counters that no other launch gets.

    A fill is a separate launch, which costs as much as a small kernel. So one fill prepares many
    counters, and each call takes the next ones. A supply belongs to a stream: its fill comes before
    every kernel that uses it, and two streams never share one. While a CUDA graph is captured the
    fill must be part of the graph, because a replay needs zeros again; there, on the CPU and while
    a compiler traces, the counters are filled for the call.

    Args:
        count: How many.
        layer: A tensor of the launch: its device is where.

    Returns:
        (count,) int32, zero.
    """
    device = layer.device
    supplies = layer.is_cuda and is_real(layer) and count <= SUPPLY
    if not supplies or torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=device)
    return supplied(count, device, torch.cuda.current_stream(device).cuda_stream)


def supplied(count: int, device: torch.device, stream: int) -> Tensor:
    """Take the next counters of a stream's supply, refilled when short."""
    with _lock:
        supply = _supplies.get((device, stream))
        taken = -(-count // ALIGNED) * ALIGNED
        if supply is None or supply.next_free + taken > SUPPLY:
            filled = torch.zeros(SUPPLY, dtype=torch.int32, device=device)
            supply = _supplies[device, stream] = _Supply(filled, 0)
        start, supply.next_free = supply.next_free, supply.next_free + taken
        return supply.counters[start : start + count]
