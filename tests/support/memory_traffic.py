"""Watch every memory access of an interpreted kernel: place and bytes."""

from collections import defaultdict

import numpy as np
from torch import Tensor

from cam.kernels.launch.launcher_parts import Launch


class Accesses:
    """The loads, stores and atomics of one launch, as arrays of byte addresses with their size."""

    def __init__(self):
        self.loads: list[tuple[np.ndarray, int]] = []
        self.stores: list[tuple[np.ndarray, int]] = []
        self.atomics: list[tuple[np.ndarray, int]] = []

    def check(self, launch: Launch) -> None:
        """Nothing outside the launch's tensors, and exactly the bytes that the launch declares."""
        ranges = extents(launch)
        assert moved(self.loads, ranges) == declared(launch.reads, launch, ranges), "loads"
        assert moved(self.stores, ranges) == declared(launch.writes, launch, ranges), "stores"
        moved(self.atomics, ranges)


def extents(launch: Launch) -> dict[tuple[int, int], str]:
    """Byte ranges of the launch's tensors, each with the first parameter that has it."""
    ranges: dict[tuple[int, int], str] = {}
    for name, value in launch.arguments.items():
        if isinstance(value, Tensor):
            last = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
            begin = value.data_ptr()
            ranges.setdefault((begin, begin + (last + 1) * value.element_size()), name)
    return ranges


def moved(accesses, ranges) -> dict[str, int]:
    """Bytes by parameter; an access that lies in no tensor fails."""
    total: dict[str, int] = defaultdict(int)
    for addresses, size in accesses:
        left = addresses
        for (begin, end), name in ranges.items():
            inside = (left >= begin) & (left + np.uint64(size) <= end)
            if n := int(inside.sum()):
                total[name] += n * size
                left = left[~inside]
        assert left.size == 0, f"{left.size} accesses of {size} bytes outside every tensor"
    return dict(total)


def declared(promised: dict[str, int], launch: Launch, ranges) -> dict[str, int]:
    """What the launch promises, with parameters that share memory added up."""
    total: dict[str, int] = defaultdict(int)
    for name, count in promised.items():
        if not count:
            continue
        tensor = launch.arguments[name]
        owner = next(n for (begin, _), n in ranges.items() if begin == tensor.data_ptr())
        total[owner] += count
    return dict(total)


def watch(monkeypatch, interpreter) -> None:
    """Check every launch from here on."""
    builder = interpreter.InterpreterBuilder
    current: list[Accesses] = []

    def where(pointers, mask):
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        return pointers.data[np.broadcast_to(mask.data, pointers.data.shape)].ravel(), size

    real_load, real_store = builder.create_masked_load, builder.create_masked_store
    real_atomic, real_run = builder.create_atomic_rmw, Launch.run

    def load(self, pointers, mask, *rest):
        if current:
            current[-1].loads.append(where(pointers, mask))
        return real_load(self, pointers, mask, *rest)

    def store(self, pointers, value, mask, *rest):
        if current:
            current[-1].stores.append(where(pointers, mask))
        return real_store(self, pointers, value, mask, *rest)

    def atomic(self, operation, pointers, value, mask, *rest):
        if current:
            current[-1].atomics.append(where(pointers, mask))
        return real_atomic(self, operation, pointers, value, mask, *rest)

    def run(launch):
        current.append(Accesses())
        try:
            real_run(launch)
            current[-1].check(launch)
        finally:
            current.pop()

    monkeypatch.setattr(builder, "create_masked_load", load)
    monkeypatch.setattr(builder, "create_masked_store", store)
    monkeypatch.setattr(builder, "create_atomic_rmw", atomic)
    monkeypatch.setattr(Launch, "run", run)
