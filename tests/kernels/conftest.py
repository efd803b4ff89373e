import pytest
import torch

from tests.support import memory_traffic
from tests.support.kernel_layers import DEVICE, MARGIN

CANARY = 12345.0


@pytest.fixture(params=["triton", "reference"])
def road(request, monkeypatch):
    """Both implementations, one after the other."""
    monkeypatch.setenv("CAM_KERNELS", request.param)
    return request.param


@pytest.fixture
def on_triton(monkeypatch):
    monkeypatch.setenv("CAM_KERNELS", "triton")


@pytest.fixture
def guarded(monkeypatch):
    """Fill all that `torch.empty` gives with NaN, and watch the memory around it."""
    real = torch.empty
    storages = []

    def empty(*size, **options):
        allocated = real(*size, **options)
        if allocated.is_meta or not allocated.is_contiguous():
            return allocated
        storage = torch.full(
            (allocated.numel() + 2 * MARGIN,),
            CANARY,
            dtype=allocated.dtype,
            device=allocated.device,
        )
        storages.append(storage)
        inner = storage[MARGIN : MARGIN + allocated.numel()].view(allocated.shape)
        return inner.fill_(torch.nan if allocated.is_floating_point() else -1_000_000)

    monkeypatch.setattr(torch, "empty", empty)
    yield storages
    for storage in storages:
        assert (storage[:MARGIN] == CANARY).all(), "written before the start"
        assert (storage[-MARGIN:] == CANARY).all(), "written past the end"


@pytest.fixture
def counted(monkeypatch):
    """Fail a launch that touches memory outside its tensors or moves other bytes than it says."""
    if DEVICE == "cpu":
        from triton.runtime import interpreter

        memory_traffic.watch(monkeypatch, interpreter)
