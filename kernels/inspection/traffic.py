"""Count bytes that a layer's maps move, fused and in torch.

Counted from shapes on tensors without memory, so no GPU is needed and nothing is measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..class_activation.operation import check_rules
from ..class_activation.rules import NUMBERS
from ..launch.argument_checks import dtype_names
from ..launch.dispatch import TRITON_DTYPES
from ..launch.normalisation import EPSILON, working_dtype
from .examples import LAYOUTS


@dataclass(frozen=True)
class Step:
    """One launch of one kernel.

    Attributes:
        name: The kernel's, or the operation's.
        reads: Bytes that it takes.
        writes: Bytes that it gives.
        stage: The rule that it belongs to, or what is done before or after all rules.
    """

    name: str
    reads: int
    writes: int
    stage: str = ""

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
        """The least to move: both inputs read, the maps written."""
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
    """Count what :func:`kernels.fused_cam` moves, and plain torch too.

    Plain torch is :func:`plain_maps`, operation by operation: each reads its tensors once and
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
    if dtype not in TRITON_DTYPES:
        raise ValueError(f"dtype must be one of {dtype_names(TRITON_DTYPES)}, but is {dtype}.")
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, but must be one of {', '.join(LAYOUTS)}.")
    names = check_rules(rules)
    activations, gradients = (
        torch.empty(tuple(shape), dtype=dtype, device="meta", memory_format=LAYOUTS[layout])
        for _ in range(2)
    )
    with _Counter() as counter:
        maps = plain_maps(activations, gradients, names, counter.begin)
    fused, scratch = _fused(activations, gradients, names)
    return Traffic(_bytes(activations), _bytes(maps), fused, scratch, tuple(counter.steps))


WIDEN, NORMALISE = "widen to fp32", "normalise"
"""The stages before and after the rules."""


def plain_maps(
    activations: Tensor,
    gradients: Tensor,
    rules: Sequence[str],
    begin: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """Compute maps in plain torch, each rule by its formula.

    Unlike the reference, which takes more operations for it, this does not see to it
    that a NaN or an infinity in the layer is found in the map.

    Args:
        activations: (B, C, h, w); half precision is widened, because sums in it would be coarse.
        gradients: The same shape and dtype.
        rules: K names out of ``kernels.RULES``.
        begin: Told each stage before its first operation.

    Returns:
        (B, K, h, w) in [0, 1].
    """
    begin(WIDEN)
    dtype = working_dtype(activations)
    activations, gradients = activations.to(dtype), gradients.to(dtype)
    signed = []
    for rule in rules:
        begin(rule)
        signed.append(_PLAIN[rule](activations, gradients))
    begin(NORMALISE)
    positive = torch.stack(signed, dim=1).relu().flatten(-2)  # (B, K, h·w)
    low, high = positive.aminmax(dim=-1, keepdim=True)
    scaled = (positive - low) / (high - low + EPSILON)
    return scaled.view(*scaled.shape[:2], *activations.shape[2:])


def _weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """Compute Σ_c w_c A_cs as a product of matrices."""
    signed = torch.bmm(weights.unsqueeze(1), activations.flatten(2))  # (B, 1, h·w)
    return signed.view(len(signed), *activations.shape[2:])


def _xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    total = activations.sum((2, 3)) + EPSILON
    return _weighted((activations * gradients).sum((2, 3)) / total, activations)


def _gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    total = activations.sum((2, 3), keepdim=True)
    terms = gradients.relu() / (2 + gradients * total)
    return _weighted(terms.sum((2, 3)), activations)


_PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": lambda a, g: _weighted(g.mean((2, 3)), a),
    "xgradcam": _xgradcam,
    "gradcam_plus_plus": _gradcam_plus_plus,
    "layercam": lambda a, g: (g.relu() * a).sum(1),
    "hirescam": lambda a, g: (g * a).sum(1),
    "gradcam_elementwise": lambda a, g: (g * a).relu().sum(1),
}


def _fused(activations: Tensor, gradients: Tensor, rules: Sequence[str]) -> tuple[Step | None, int]:
    """Describe the fused launch by its declared traffic, and its scratch bytes."""
    try:
        from ..class_activation import launcher as triton_cam
    except ImportError:
        return None, 0
    numbers = [NUMBERS[rule] for rule in rules]
    launch, _ = triton_cam.plan(
        activations, gradients, numbers, maps=True, signed=False, weights=False
    )
    step = Step("fused_cam", sum(launch.reads.values()), sum(launch.writes.values()))
    scratch = sum(
        declared.get(name, 0)
        for declared in (launch.reads, launch.writes)
        for name in launch.scratch
    )
    return step, scratch


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record what each operation reads and writes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self._stage = ""

    def begin(self, stage: str) -> None:
        """Begin another stage."""
        self._stage = stage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            inputs, outputs = _tensors((args, kwargs)), _tensors(result)
            reads, writes = sum(map(_bytes, inputs)), sum(map(_bytes, outputs))
            # An operation that only allocates launches nothing.
            if reads + writes and not func.__name__.startswith("empty"):
                name = func._schema.name.split("::")[1].strip("_")
                self.steps.append(Step(name, reads, writes, self._stage))
        return result


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _bytes(tensor: Tensor) -> int:
    """Count the bytes of a tensor's memory; expanded dimensions count once."""
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    distinct = torch.Size(size for size, stride in sizes if stride != 0)
    return distinct.numel() * tensor.element_size()
