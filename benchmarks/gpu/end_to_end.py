"""Compare Grad-CAM with plain inference, in speed and across precisions."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import cam
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.plan import Bench, Plan, Record
from cam import kernels
from cam._engine.capture import capture
from cam._engine.layers import resolve_layers
from cam._engine.method_sources import LayerGradients
from cam._performance.timing import Timing, interleaved
from cam.targets import Targets

EPSILON = 1e-7
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class Precision:
    """How a network computes: tf32 for its matrix products and convolutions, or autocast."""

    name: str
    tf32: bool = False
    autocast: torch.dtype | None = None


FP32 = Precision("fp32")
PRECISIONS = {
    precision.name: precision
    for precision in (
        FP32,
        Precision("tf32", tf32=True),
        Precision("fp16", autocast=torch.float16),
        Precision("bf16", autocast=torch.bfloat16),
    )
}


@contextmanager
def computing_in(precision: Precision, device: str) -> Iterator[None]:
    """Switch torch to a precision, and back, also after an error."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    autocast = (
        # Without its cache of converted weights: a graph must convert them itself, or it would
        # read the memory of a cache that is gone.
        torch.autocast(device, dtype=precision.autocast, cache_enabled=False)
        if precision.autocast is not None
        else nullcontext()
    )
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision.tf32
        with autocast:
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def pieces(module: nn.Module, layer: str, batch: Tensor, targets: Targets) -> Tensor:
    """The heatmaps of ``cam.attribute(…, "gradcam")`` without its wait for the GPU: (B, H, W).

    At its end ``cam.attribute`` looks whether a map is NaN, to warn of it, which a CUDA graph
    cannot hold. Everything before is here: capture, fused kernel, upsampling, normalisation.
    """
    layers = resolve_layers(module, layer)
    captured = capture(module, batch, targets, reads=[LayerGradients], layers=layers)
    (source,) = captured.read(LayerGradients)
    coarse = kernels.fused_cam(source.activations, source.gradients, rules=("gradcam",))
    large = interpolate(coarse, size=batch.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
    return (large - low) / (high - low + EPSILON)


def describe(plan: Plan) -> str:
    """What would be measured."""
    return (
        f"{plan.network} (random weights), B = {plan.network_batch}, {plan.network_side}×"
        f"{plan.network_side}: cam.attribute and plain inference in "
        f"{', '.join(plan.precisions)}, channels-last and contiguous, eager and as "
        f"CUDA graphs, {plan.rounds} rounds each; and Spearman of efficientnet_lite0's maps with "
        f"fp32's on {', '.join(plan.photos)}"
    )


def run(bench: Bench, record: Record) -> None:
    """One precision and memory format after the other: speed, then agreement."""
    record.notes += [
        "Grad-CAM in eager mode is cam.attribute. In a graph it is its pieces, capture, fused_cam, "
        "upsampling and normalisation; the look for NaN at its end waits for the GPU and cannot be "
        "recorded.",
        "Inference is the network under no_grad. Times are the host's, from the call to the "
        "finished result, in rounds that take turns.",
        "Spearman: the heatmaps of efficientnet_lite0 on the sample photos, for fp32's top class, "
        "against those of eager, contiguous fp32.",
    ]
    speed = _Speed(bench.machine, bench.plan)
    agreement: _Agreement | None = None
    with record.attempt("efficientnet_lite0 and the sample photos"):
        agreement = _Agreement(bench.machine, bench.plan)
    slowest = 0.0
    for layout, name in itertools.product(FORMATS, bench.plan.precisions):
        precision, what = PRECISIONS[name], f"{name}, {layout}"
        if bench.budget.left() <= slowest:
            record.unmeasured.append(what)
            continue
        begun = bench.budget.spent()
        rows: list[dict[str, Any]] = []
        with record.attempt(f"speed, {what}"):
            rows = speed.rows(precision, layout, record)
        if agreement is not None and rows:
            with record.attempt(f"agreement, {what}"):
                for row in rows:
                    row |= agreement.row(precision, layout, row["road"])
        record.rows += rows
        bench.machine.release()
        slowest = max(slowest, bench.budget.spent() - begun)


class _Speed:
    """A ResNet-50 at work, with and without an explanation."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self._machine = machine
        self._plan = plan
        torch.manual_seed(0)
        name = f"torchvision/{plan.network}"
        self._model = cam.load_model(name, weights=None, device=machine.device)
        side = plan.network_side
        self._batch = torch.randn(plan.network_batch, 3, side, side).to(machine.device)

    def rows(self, precision: Precision, layout: str, record: Record) -> list[dict[str, Any]]:
        module = self._model.module.to(memory_format=FORMATS[layout])
        batch = self._batch.contiguous(memory_format=FORMATS[layout])

        def inference() -> Tensor:
            with torch.no_grad():
                logits: Tensor = module(batch)
                return logits

        with computing_in(precision, self._machine.device):
            work: dict[str, Callable[[], object]] = {
                "inference, eager": inference,
                "gradcam, eager": lambda: cam.attribute(
                    self._model, batch, "gradcam", layers="layer4"
                ),
            }
            with record.attempt(f"recording a graph, {precision.name}, {layout}"):
                plain = self._machine.capture(inference)
                explained = self._machine.capture(lambda: pieces(module, "layer4", batch, None))
                work |= {"inference, graph": plain.replay, "gradcam, graph": explained.replay}
            times = interleaved(work, rounds=self._plan.rounds, warm_up=self._plan.warm_up)
        return [
            speed_row(precision, layout, road, len(batch), times)
            for road in ("eager", "graph")
            if f"gradcam, {road}" in times
        ]


def speed_row(
    precision: Precision, layout: str, road: str, count: int, times: Mapping[str, Timing]
) -> dict[str, Any]:
    """Images a second of both, and how much of inference's speed an explanation keeps."""
    plain, explained = times[f"inference, {road}"], times[f"gradcam, {road}"]
    return {
        "precision": precision.name,
        "layout": layout,
        "road": road,
        "batch": count,
        "inference_ms": [1000 * t for t in plain.seconds],
        "gradcam_ms": [1000 * t for t in explained.seconds],
        "inference_images_per_s": count / plain.median,
        "gradcam_images_per_s": count / explained.median,
        "share_of_inference": plain.over(explained).median,
    }


class _Agreement:
    """The bundled network, with its real weights, on the sample photos."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self._machine = machine
        self._model = cam.load_model("efficientnet_lite0", device=machine.device)
        (self._layer,) = self._model.layers
        self._batch = self._model.prepare([cam.sample(name) for name in plan.photos])
        with computing_in(FP32, machine.device):
            classes = self._model.predict(self._batch).argmax(1).tolist()
            # Functions, because class numbers would have to be brought to the GPU, which a graph
            # cannot hold.
            self._targets = [lambda logits, c=c: logits[c] for c in classes]
            self._truth = self._maps("contiguous", "eager")

    def _maps(self, layout: str, road: str) -> Tensor:
        module = self._model.module.to(memory_format=FORMATS[layout])
        batch = self._batch.contiguous(memory_format=FORMATS[layout])
        if road == "graph":
            replay = self._machine.capture(
                lambda: pieces(module, self._layer, batch, self._targets)
            )
            replay.result.fill_(torch.nan)  # what is compared is what the replay writes
            replay.replay()
            maps: Tensor = replay.result.clone()
            return maps
        return cam.attribute(self._model, batch, "gradcam", self._targets)["gradcam"].heatmap

    def row(self, precision: Precision, layout: str, road: str) -> dict[str, Any]:
        with computing_in(precision, self._machine.device):
            maps = self._maps(layout, road)
        correlations = spearman(maps.flatten(1), self._truth.flatten(1))
        return {
            "spearman_lowest": min(correlations),
            "spearman_mean": sum(correlations) / len(correlations),
        }


def spearman(first: Tensor, second: Tensor) -> Sequence[float]:
    """Rank correlation row by row, equal values sharing their mean rank; (B, n) each.

    NaN where a row holds one value only.
    """
    return [
        float(torch.corrcoef(torch.stack([_ranks(row), _ranks(other)]))[0, 1])
        for row, other in zip(first, second, strict=True)
    ]


def _ranks(values: Tensor) -> Tensor:
    _, which, counts = torch.unique(values.double(), return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts - 1) / 2)[which]
    return ranks
