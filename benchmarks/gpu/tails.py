"""Time the fused kernel and its rivals on the same inputs.

Each rival does all that its users wait for. The rules' formulas are written here once more, in
straightforward eager torch, and not taken from the kernel's reference: they are the yardstick of
the kernel's speed and, input by input, of its result.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.machine import Machine
from benchmarks.gpu.plan import DTYPES, Bench, Cell, Plan, Record
from cam import kernels

Tail = Callable[[Tensor, Tensor], object]

EPSILON = 1e-7


def _weighted(a: Tensor, weights: Tensor) -> Tensor:
    return (weights[:, :, None, None] * a).sum(1)  # (B, h, w)


def _gradcam(a: Tensor, g: Tensor) -> Tensor:
    return _weighted(a, g.mean((2, 3)))


def _xgradcam(a: Tensor, g: Tensor) -> Tensor:
    return _weighted(a, (a * g).sum((2, 3)) / (a.sum((2, 3)) + EPSILON))


def _gradcam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    total = a.sum((2, 3), keepdim=True)  # (B, C, 1, 1)
    alpha = torch.where(g != 0, g**2 / (2 * g**2 + total * g**3), 0)
    return _weighted(a, (alpha * g.clamp(min=0)).sum((2, 3)))


def _layercam(a: Tensor, g: Tensor) -> Tensor:
    return (g.clamp(min=0) * a).sum(1)


def _hirescam(a: Tensor, g: Tensor) -> Tensor:
    return (g * a).sum(1)


def _gradcam_elementwise(a: Tensor, g: Tensor) -> Tensor:
    return (g * a).clamp(min=0).sum(1)


FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": _gradcam,
    "xgradcam": _xgradcam,
    "gradcam_plus_plus": _gradcam_plus_plus,
    "layercam": _layercam,
    "hirescam": _hirescam,
    "gradcam_elementwise": _gradcam_elementwise,
}


def plain(activations: Tensor, gradients: Tensor, rules: Sequence[str]) -> Tensor:
    """Every rule by its formula in float32, then ReLU and min-max, as anybody would write it.

    The inputs are converted once for all rules.

    Args:
        activations: (B, C, h, w), floating point.
        gradients: The same shape and dtype.
        rules: Names out of ``FORMULAS``; K of them.

    Returns:
        (B, K, h, w) float32 in [0, 1].
    """
    a, g = activations.float(), gradients.float()
    maps = torch.stack([FORMULAS[rule](a, g) for rule in rules], dim=1).clamp(min=0)
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (EPSILON + (high - low))


def captum_tail(activations: Tensor, gradients: Tensor) -> Tensor:
    """What captum's ``LayerGradCam.attribute`` does behind its passes: (B, 1, h, w), signed.

    In the dtype of its inputs, without ReLU and normalisation, which captum leaves to its user.
    """
    weights = torch.mean(gradients, dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    return torch.sum(weights * activations, dim=1, keepdim=True)


def grad_cam_tail(rules: Sequence[str]) -> Tail:
    """What grad-cam does behind its passes, one explainer a rule: to the CPU, numpy, scaled there.

    Args:
        rules: Names of this project; each has a class in grad-cam.

    Returns:
        A function from activations and gradients to one array (B, h, w) a rule.

    Raises:
        ImportError: grad-cam is not installed.
    """
    import numpy as np
    import pytorch_grad_cam as peer
    from pytorch_grad_cam.utils.image import scale_cam_image

    classes = {
        "gradcam": peer.GradCAM,
        "xgradcam": peer.XGradCAM,
        "gradcam_plus_plus": peer.GradCAMPlusPlus,
        "layercam": peer.LayerCAM,
        "hirescam": peer.HiResCAM,
        "gradcam_elementwise": peer.GradCAMElementWise,
    }
    # The model is looked at only for its device and its mode.
    explainers = [classes[rule](torch.nn.Conv2d(1, 1, 1), []) for rule in rules]

    def tail(activations: Tensor, gradients: Tensor) -> list[np.ndarray]:
        maps = []
        for explainer in explainers:
            # Once a rule: a user of several makes several explainers, and each fetches its own.
            a, g = activations.cpu().data.numpy(), gradients.cpu().data.numpy()
            signed = explainer.get_cam_image(None, None, None, a, g, False)
            maps.append(scale_cam_image(np.maximum(signed, 0)))
        return maps

    return tail


@dataclass(frozen=True)
class Rival:
    """One way to the maps.

    Attributes:
        name: As the results call it.
        make: From the machine and the rules to the function that is timed.
        takes: Whether it can do the rules on the cell's input.
        checked: Whether its result must equal the formulas'.
        on_host: Whether it works on the CPU, so that the device's own time says nothing.
    """

    name: str
    make: Callable[[Machine, Sequence[str]], Tail]
    takes: Callable[[Cell, Sequence[str]], bool] = lambda _cell, _rules: True
    checked: bool = False
    on_host: bool = False


def _fused(_machine: Machine, rules: Sequence[str]) -> Tail:
    return lambda a, g: kernels.fused_cam(a, g, rules=rules)


def _plain(_machine: Machine, rules: Sequence[str]) -> Tail:
    return lambda a, g: plain(a, g, rules)


def _compiled(machine: Machine, rules: Sequence[str]) -> Tail:
    return machine.compile(lambda a, g: plain(a, g, rules))


FUSED = Rival("fused", _fused, checked=True)
PLAIN = Rival("plain torch", _plain)
COMPILED = Rival("compiled torch", _compiled, checked=True)
CAPTUM = Rival(
    "captum",
    lambda _machine, _rules: captum_tail,
    takes=lambda _cell, rules: tuple(rules) == ("gradcam",),
)
GRAD_CAM = Rival(
    "grad-cam",
    lambda _machine, rules: grad_cam_tail(rules),
    # Numpy has no bfloat16. One layout is enough to see what the way over the CPU costs.
    takes=lambda cell, _rules: cell.dtype != "bf16" and cell.layout != "contiguous",
    on_host=True,
)


# ‖result − formula‖ / ‖formula‖ beyond which a time is not worth taking. The tests ask for 1e-5 of
# float64; here both sides are float32, and sums over 200,000 values lose some of it.
MOST_DISTANCE = 1e-3
# What fails on three inputs running will fail on the next; the others may still work.
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
    with torch.no_grad():
        _stage(bench, record, (FUSED, PLAIN, CAPTUM), source, 1.0)
        _stage(bench, record, (COMPILED,), source, 0.8)
        _count_launches(bench, record, source)
        _stage(bench, record, (GRAD_CAM,), source, 1.0)


def _tasks(plan: Plan, rivals: Sequence[Rival]) -> Iterator[Task]:
    """The most rules first on all layers, then one rule on the same, and so on down the cells."""
    cells = plan.cells()
    for first in range(0, len(cells), len(plan.planes)):
        for rules in reversed(rule_sets()):
            for cell in cells[first : first + len(plan.planes)]:
                yield from ((cell, rules, rival) for rival in rivals if rival.takes(cell, rules))


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
    bench: Bench, record: Record, rivals: Sequence[Rival], source: _Source, share: float
) -> None:
    """Measure the rivals within a share of the time that is left."""
    budget = bench.budget.part(share * bench.budget.left())
    tasks = list(_tasks(bench.plan, rivals))
    late: dict[str, list[Task]] = {}
    # The seconds that a task of a rival took at most, and how large it was.
    slowest: dict[str, tuple[float, int]] = {}
    misses: dict[str, int] = {}  # failures of a rival, one after the other
    for task in tasks:
        cell, rules, rival = task
        name = rival.name
        # On the device a task's time is the compiler's and the repetitions'; on the CPU it grows
        # with the work.
        size = cell.input_bytes * len(rules) if rival.on_host else 1
        seconds, of = slowest.get(name, (0.0, size))
        expected = seconds * max(1.0, size / of)
        if misses.get(name, 0) == MOST_MISSES or budget.left() <= expected:
            late.setdefault(name, []).append(task)
            continue
        begun = budget.spent()
        misses[name] = misses.get(name, 0) + 1
        with record.attempt(f"{name}, {len(rules)} rule(s), {cell}"):
            record.rows.append(_measure(bench, cell, rules, rival, source))
            misses[name] = 0
        slowest[name] = max((seconds, of), (budget.spent() - begun, size))
    for name, left in late.items():
        cell, rules, _ = left[0]
        total = sum(rival.name == name for _, _, rival in tasks)
        why = f"it failed {MOST_MISSES} times running" if misses.get(name) else "out of time"
        record.unmeasured.append(
            f"{name}: {len(left)} of {total} inputs ({why}); the first is {cell}, "
            f"{len(rules)} rule(s)"
        )


def _count_launches(bench: Bench, record: Record, source: _Source) -> None:
    """Of the fused kernel for one image; behind all that a profiler's hooks could slow."""
    for cell, rules, rival in _tasks(bench.plan, (FUSED,)):
        row = find(record.rows, _key(cell, rules, rival))
        if row and cell.batch == 1:
            with record.attempt(f"launches of {rival.name}, {len(rules)} rule(s), {cell}"):
                a, g = source.of(cell)
                tail = rival.make(bench.machine, rules)
                row["launches"] = bench.machine.launches(partial(tail, a, g))


def _key(cell: Cell, rules: Sequence[str], rival: Rival) -> dict[str, Any]:
    """What tells one row from every other."""
    return {
        "layer": cell.plane.name,
        "shape": list(cell.shape),
        "dtype": cell.dtype,
        "layout": cell.layout,
        "rules": len(rules),
        "rival": rival.name,
    }


def _measure(
    bench: Bench, cell: Cell, rules: tuple[str, ...], rival: Rival, source: _Source
) -> dict[str, Any]:
    machine, seconds = bench.machine, bench.plan.seconds
    a, g = source.of(cell)
    tail = rival.make(machine, rules)
    row = _key(cell, rules, rival) | {
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
        return {"call": machine.call_time(work, seconds).as_row()}
    times: dict[str, Any] = {"device": machine.device_time(work, seconds).as_row()}
    # One image is where Python and the launches weigh most, so there they are timed apart.
    if cell.batch == 1:
        times["call"] = machine.call_time(work, seconds).as_row()
    if cell.batch == 1 or rival is FUSED:
        times["graph"] = machine.graph_time(work, seconds).as_row()
    return times


def agreement(result: object, truth: Tensor, most: float = MOST_DISTANCE) -> float:
    """Return ‖result − truth‖ / ‖truth‖.

    Args:
        result: A rival's.
        truth: What the formulas give.
        most: How much is allowed.

    Raises:
        ValueError: It is too large, or not a number: the time of a wrong result means nothing.
    """
    if not isinstance(result, Tensor) or result.shape != truth.shape:
        raise ValueError("the result has another shape than the formulas'")
    distance = float((result.double() - truth.double()).norm() / truth.double().norm())
    if not distance <= most:
        raise ValueError(f"the result differs from the formulas' by {distance:.2g}")
    return distance


def find(rows: Sequence[dict[str, Any]], like: dict[str, Any], **other: Any) -> dict[str, Any]:
    """The row of the same input and rules as ``like``, but for what ``other`` names; or empty."""
    keys = ("layer", "shape", "dtype", "layout", "rules", "rival")
    values = {key: other.get(key, like[key]) for key in keys}
    return next((row for row in rows if all(row[k] == values[k] for k in keys)), {})
