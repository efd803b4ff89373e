"""How many bytes a layer's maps take from memory and give back: fused, and in plain torch.

Counted from shapes on tensors without memory, so no GPU is needed and nothing is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernels import reference
from kernels.fused_cam import check_rules

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Step:
    """One launch of one kernel.

    Attributes:
        name: The kernel's, or the operation's.
        reads: Bytes that it takes.
        writes: Bytes that it gives.
    """

    name: str
    reads: int
    writes: int

    @property
    def bytes(self) -> int:
        """Both."""
        return self.reads + self.writes


@dataclass(frozen=True)
class Traffic:
    """What :func:`cam_traffic` counted.

    Attributes:
        layer: Bytes of the activations and of the gradients, each.
        maps: Bytes of the finished maps.
        fused: The fused kernel's one launch; None where Triton is not installed.
        scratch: Bytes of it that go through partial results, which stay in the GPU's cache.
        plain: The operations of plain torch, in their order.
    """

    layer: int
    maps: int
    fused: Step | None
    scratch: int
    plain: tuple[Step, ...]

    @property
    def floor(self) -> int:
        """The least that has to move: both inputs read once, the maps written."""
        return 2 * self.layer + self.maps

    @property
    def plain_bytes(self) -> int:
        """All that plain torch reads and writes."""
        return sum(step.bytes for step in self.plain)


def cam_traffic(
    shape: Sequence[int],
    rules: Sequence[str] = ("gradcam",),
    dtype: torch.dtype = torch.float32,
    layout: str = "channels-last",
) -> Traffic:
    """Count what :func:`kernels.fused_cam` moves on a GPU, and the same maps in plain torch.

    Plain torch is :mod:`kernels.reference`, operation by operation: each reads its tensors once and
    writes its result once, and what is only looked at in another shape costs nothing. Whether a
    cache spares some of that depends on the device and is not counted, on either side.

    Args:
        shape: (B, C, h, w) of the layer's activations.
        rules: Names out of ``kernels.RULES``, each once.
        dtype: float32, float16 or bfloat16.
        layout: "contiguous" or "channels-last".

    Raises:
        ValueError: A shape, rule, dtype or layout that there is not.
    """
    if len(shape) != 4 or min(shape) < 1:
        raise ValueError(f"shape must be (B, C, h, w), each at least 1, but is {tuple(shape)}.")
    if dtype not in DTYPES:
        known = ", ".join(str(one).removeprefix("torch.") for one in DTYPES)
        raise ValueError(f"dtype must be one of {known}, but is {dtype}.")
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, but must be one of {', '.join(LAYOUTS)}.")
    names = check_rules(rules)
    activations, gradients = (
        torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=LAYOUTS[layout])
        for _ in range(2)
    )
    with _Counter() as counter:
        signed, _ = reference.fused_cam(activations, gradients, names)
        maps = reference.normalise(signed)
    fused, scratch = _fused(activations, gradients, names)
    return Traffic(_bytes(activations), _bytes(maps), fused, scratch, tuple(counter.steps))


def _fused(activations: Tensor, gradients: Tensor, rules: Sequence[str]) -> tuple[Step | None, int]:
    """The launch as it declares itself, and what of it is scratch."""
    try:
        from kernels import triton_cam
    except ImportError:
        return None, 0
    launch, _ = triton_cam.plan(
        activations, gradients, rules, maps=True, signed=False, weights=False
    )
    step = Step("fused_cam", sum(launch.reads.values()), sum(launch.writes.values()))
    scratch = sum(
        declared.get(name, 0)
        for declared in (launch.reads, launch.writes)
        for name in launch.scratch
    )
    return step, scratch


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what each operation reads and writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            taken, given = _tensors((args, kwargs)), _tensors(found)
            reads, writes = sum(map(_bytes, taken)), sum(map(_bytes, given))
            # An operation that only allocates launches nothing.
            if reads + writes and not func.__name__.startswith("empty"):
                self.steps.append(Step(func._schema.name.split("::")[1].strip("_"), reads, writes))
        return found


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return (
        [tensor for part in parts for tensor in _tensors(part)]
        if isinstance(value, dict | list | tuple)
        else []
    )


def _bytes(tensor: Tensor) -> int:
    """Of its memory: what is expanded is there once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    distinct = torch.Size(size for size, stride in sizes if stride != 0)
    return distinct.numel() * tensor.element_size()
