"""From activations and gradients to maps: the fused kernel and its rivals on the same inputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import kernels
from benchmarks.gpu_machine import Machine, Sample
from benchmarks.gpu_plan import DTYPES, Cell, Plan
from benchmarks.gpu_record import Bench, Budget, Record
from benchmarks.gpu_rivals import CAPTUM, COMPILED, FUSED, GRAD_CAM, PLAIN, Rival, Tail, plain

# ‖found − formula‖ / ‖formula‖ beyond which a time is not worth taking. The tests ask for 1e-5 of
# float64; here both sides are float32, and sums over 200,000 values lose some of it.
MOST_DISTANCE = 1e-3
# What fails on so many inputs running will fail on the next; the others may still work.
MOST_MISSES = 3

Task = tuple[Cell, tuple[str, ...], Rival]


def rule_sets() -> list[tuple[str, ...]]:
    """One rule, and all that the kernel knows."""
    everything = tuple(kernels.RULES)
    return [("gradcam",)] + [everything] * (len(everything) > 1)


def inputs(cell: Cell, device: str) -> tuple[Tensor, Tensor]:
    """Activations as behind a ReLU and small gradients of both signs; the same ones every time."""
    generator = torch.Generator(device).manual_seed(0)
    a = _noise(cell, device, generator)
    g = _noise(cell, device, generator)
    return a.relu_(), g.mul_(0.01)


def _noise(cell: Cell, device: str, generator: torch.Generator) -> Tensor:
    batch, channels, height, width = cell.shape
    options: dict[str, Any] = {"generator": generator, "device": device}
    if cell.layout == "tokens":
        # A transformer's own memory: a class token first, then the grid, channels last.
        tokens = torch.randn(batch, 1 + height * width, channels, **options)
        tokens = tokens.to(DTYPES[cell.dtype])
        return tokens[:, 1:].view(batch, height, width, channels).permute(0, 3, 1, 2)
    values = torch.randn(cell.shape, **options).to(DTYPES[cell.dtype])
    if cell.layout == "channels-last":
        return values.contiguous(memory_format=torch.channels_last)
    return values


def describe(plan: Plan) -> str:
    """What would be measured."""
    cells, sets = plan.cells(), rule_sets()
    counts = {
        rival.name: sum(rival.takes(cell, rules) for cell in cells for rules in sets)
        for rival in (FUSED, PLAIN, CAPTUM, COMPILED, GRAD_CAM)
    }
    return (
        f"{len(cells)} inputs ({', '.join(map(str, plan.planes))}; B = "
        f"{', '.join(map(str, plan.batches))}; {', '.join(plan.dtypes)}; channels-last and "
        f"contiguous), {' and '.join(f'{len(rules)} rule(s)' for rules in sets)}: "
        + ", ".join(f"{name} {count} times" for name, count in counts.items())
    )


def run(bench: Bench, record: Record) -> None:
    """The quick ones on every input first; then torch.compile and grad-cam, as the time allows."""
    record.notes += [
        "plain torch: each rule's formula in float32 eager torch, the inputs converted once.",
        "compiled torch: the same under torch.compile in its default mode, static shapes.",
        "captum: the signed map alone, in the inputs' dtype, without ReLU and normalisation.",
        "grad-cam: copies to the CPU and works there; its time is the caller's (call). It has no "
        "bfloat16.",
        "Results are compared with the formulas before they are timed.",
    ]
    source = _Source(bench.machine.device)
    stages = (((FUSED, PLAIN, CAPTUM), 1.0), ((COMPILED,), 0.8), ((GRAD_CAM,), 1.0))
    with torch.no_grad():
        for rivals, share in stages:
            budget = bench.budget.part(share * bench.budget.left())
            _stage(bench, record, list(_tasks(bench.plan, rivals)), source, budget)


def _tasks(plan: Plan, rivals: Sequence[Rival]) -> Iterator[Task]:
    """The most rules first on all layers, then one rule on the same, and so on down the cells."""
    cells = plan.cells()
    for first in range(0, len(cells), len(plan.planes)):
        for rules in reversed(rule_sets()):
            for cell in cells[first : first + len(plan.planes)]:
                yield from ((cell, rules, one) for one in rivals if one.takes(cell, rules))


class _Source:
    """The inputs of the cell at hand; those of the one before are let go."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._cell: Cell | None = None
        self._tensors: tuple[Tensor, Tensor] | None = None

    def of(self, cell: Cell) -> tuple[Tensor, Tensor]:
        if self._tensors is None or cell != self._cell:
            self._tensors = None
            self._cell, self._tensors = cell, inputs(cell, self._device)
        return self._tensors


def _stage(
    bench: Bench, record: Record, tasks: list[Task], source: _Source, budget: Budget
) -> None:
    late: dict[str, list[Task]] = {}
    slowest: dict[str, float] = {}  # seconds that a task of a rival took at most
    misses: dict[str, int] = {}  # failures of a rival, one after the other
    for task in tasks:
        cell, rules, rival = task
        name = rival.name
        if misses.get(name, 0) == MOST_MISSES or budget.left() <= slowest.get(name, 0):
            late.setdefault(name, []).append(task)
            continue
        begun = budget.spent()
        misses[name] = misses.get(name, 0) + 1
        with record.attempt(f"{name}, {len(rules)} rule(s), {cell}"):
            record.rows.append(_measure(bench, cell, rules, rival, source))
            misses[name] = 0
        slowest[name] = max(slowest.get(name, 0), budget.spent() - begun)
    for name, left in late.items():
        cell, rules, _ = left[0]
        total = sum(rival.name == name for _, _, rival in tasks)
        why = f"it failed {MOST_MISSES} times running" if misses.get(name) else "out of time"
        record.unmeasured.append(
            f"{name}: {len(left)} of {total} inputs ({why}); the first is {cell}, "
            f"{len(rules)} rule(s)"
        )


def _measure(
    bench: Bench, cell: Cell, rules: tuple[str, ...], rival: Rival, source: _Source
) -> dict[str, Any]:
    machine, seconds = bench.machine, bench.plan.seconds
    a, g = source.of(cell)
    tail = rival.make(machine, rules)
    row: dict[str, Any] = {
        "layer": cell.plane.name,
        "shape": list(cell.shape),
        "dtype": cell.dtype,
        "layout": cell.layout,
        "rules": len(rules),
        "rival": rival.name,
        "input_bytes": cell.input_bytes,
        "floor_bytes": cell.floor_bytes(len(rules)),
    }
    if rival.checked:
        row["distance"] = agreement(tail(a, g), plain(a, g, rules))
    if rival is FUSED:
        row["backend"] = kernels.backend(a)
    row |= _times(machine, cell, rival, tail, a, g, seconds)
    return row


def _times(
    machine: Machine, cell: Cell, rival: Rival, tail: Tail, a: Tensor, g: Tensor, seconds: float
) -> dict[str, Any]:
    def work() -> object:
        return tail(a, g)

    if rival.on_host:
        return {"call": as_row(machine.call_time(work, seconds))}
    found: dict[str, Any] = {"device": as_row(machine.device_time(work, seconds))}
    # One image is where Python and the launches weigh most, so there they are told apart.
    if cell.batch == 1:
        found["call"] = as_row(machine.call_time(work, seconds))
    if cell.batch == 1 or rival is FUSED:
        found["graph"] = as_row(machine.graph_time(work, seconds))
    if cell.batch == 1 and rival is FUSED:
        found["launches"] = machine.launches(work)
    return found


def agreement(found: object, truth: Tensor, most: float = MOST_DISTANCE) -> float:
    """‖found − truth‖ / ‖truth‖.

    Args:
        found: What a rival gave.
        truth: What the formulas give.
        most: How much is allowed.

    Raises:
        ValueError: It is too large, or not a number: the time of a wrong result means nothing.
    """
    if not isinstance(found, Tensor) or found.shape != truth.shape:
        raise ValueError("the result has another shape than the formulas'")
    distance = float((found.double() - truth.double()).norm() / truth.double().norm())
    if not distance <= most:
        raise ValueError(f"the result differs from the formulas' by {distance:.2g}")
    return distance


def as_row(sample: Sample) -> dict[str, float]:
    """Microseconds for the file of results."""
    return {
        "median_us": sample.median,
        "low_us": sample.low,
        "high_us": sample.high,
        "runs": sample.runs,
    }


def gb_per_s(count: int, microseconds: float) -> float:
    """Bytes in a time, in 10⁹ bytes a second."""
    return count / microseconds / 1000


def find(rows: Sequence[dict[str, Any]], like: dict[str, Any], **other: Any) -> dict[str, Any]:
    """The row of the same input and rules as ``like``, but for what ``other`` names; or empty."""
    keys = ("layer", "shape", "dtype", "layout", "rules", "rival")
    wanted = {key: other.get(key, like[key]) for key in keys}
    return next((row for row in rows if all(row[k] == wanted[k] for k in keys)), {})
