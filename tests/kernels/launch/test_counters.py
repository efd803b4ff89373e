"""Counters of a supply: zero, never given twice, one supply a stream."""

import pytest
import torch

from cam.kernels.launch import counters
from tests.support.kernel_layers import DEVICE

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_supplies(monkeypatch):
    monkeypatch.setattr(counters, "_supplies", {})


def addresses(supplied):
    return set(range(supplied.data_ptr(), supplied.data_ptr() + 4 * supplied.numel(), 4))


def test_gives_each_launch_its_own_zeros(monkeypatch):
    monkeypatch.setattr(counters, "SUPPLY", 16)
    supplies, taken = [], set()
    for count in (3, 5, 3, 1, 16, 2):  # the fourth begins a new supply, and so do the last two
        supplied = counters.supplied(count, CPU, stream=7)
        assert supplied.shape == (count,)
        assert supplied.dtype == torch.int32
        assert (supplied.data_ptr() - supplied.untyped_storage().data_ptr()) % 16 == 0
        assert not supplied.any()
        assert not addresses(supplied) & taken
        taken |= addresses(supplied)
        supplies.append(supplied.add_(1))  # as the launch does
    assert len(counters._supplies) == 1


def test_fills_once_for_many_launches(monkeypatch):
    fills = []
    real = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: fills.append(a) or real(*a, **k))
    for _ in range(1000):
        counters.supplied(64, CPU, stream=0)
    assert len(fills) == 1


def test_streams_never_share():
    first, second = (counters.supplied(4, CPU, stream=stream) for stream in (1, 2))
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU takes from its supply")
def test_fills_for_the_call_where_there_is_no_stream():
    layer = torch.zeros(1)
    first, second = counters.zeroed(5, layer), counters.zeroed(5, layer)
    assert first.tolist() == [0] * 5
    assert first.data_ptr() != second.data_ptr()
    assert counters._supplies == {}
