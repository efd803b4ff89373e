"""Draw from torch's own generators and leave them as they were."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The generators are the process's: a second thread that seeded them would change what is drawn.
_lock = threading.RLock()


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed what initialises layers, which takes no generator; states return.

    Args:
        seed: Of the CPU's generator and the GPU's.
        device: Where is drawn too, if that is a GPU.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with _lock, torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
