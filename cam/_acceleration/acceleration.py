"""Choose what computes a model's passes without gradients fastest."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor, nn

from cam._acceleration.kept_copies import identify, keep_choice, keep_copy, read_choice, read_copy
from cam._acceleration.onnx_copy import OnnxCopy, convert
from cam._engine.capture import check_batch
from cam._engine.evaluation_mode import evaluation_mode
from cam._engine.fast_ops.fast_forward import ENABLED
from cam._engine.fast_ops.replacement import TORCH, Replacement, get_replacement, replace_passes
from cam._engine.forward import run_model
from cam._engine.precision import allow_any_layout
from cam._extras import require
from cam._media.images import SAMPLES, sample
from cam._models.model import Model
from cam._performance.timing import Estimate, interleaved, machine
from cam.errors import InputError, MissingExtraError, ModelError

AUTO, ONNX = "auto", "onnxruntime"
ENGINES = (AUTO, TORCH, ONNX)
# Of the largest logit: what a copy's logits may differ by. Rounding is a hundred times below.
TOLERANCE = 1e-4
# Images of the batch that is compared and timed.
IMAGES = 4
# The fewest rounds whose median has an interval.
ROUNDS = 6


@dataclass(frozen=True)
class Acceleration:
    """What computes a model's passes without gradients.

    Attributes:
        engine: "torch", or "onnxruntime" and its version.
        speedup: How many times as fast as torch it was here, the median of interleaved rounds with
            its 95 % interval; None where it was not measured.
        deviation: The largest difference between its logits and torch's, relative to the largest
            logit; 0 for torch.
        reason: Why it is torch; "" if that was asked for, or if it is not.
    """

    engine: str
    speedup: Estimate | None = None
    deviation: float = 0.0
    reason: str = ""


def accelerate(model: Model, engine: str = AUTO, batch: Tensor | None = None) -> Acceleration:
    """Compute a model's passes without gradients in the fastest engine.

    Methods that hide or change parts of the image, metrics, runs and predictions consist of such
    passes; those with gradients and those that read layers stay torch's. Scores differ from
    torch's by rounding, and a run names the engine. Weights that change, hooks, training mode,
    another precision or another size of images bring torch back.

    Args:
        model: On a CPU, in float32. What it computes is compared on photos and on noise.
        engine: "onnxruntime" (extra "fast"), "torch", or "auto": what is measured to be the
            fastest here. A network is converted once, in seconds, and kept with the measurement
            in the folder CAM_CACHE or in the user's cache.
        batch: (B, C, H, W), images that it is compared and timed on; by default the bundled photos.

    Returns:
        What computes the passes from now on.

    Raises:
        InputError: There is no such engine, or the batch does not fit.
        ModelError: The engine was asked for by name and cannot compute this model.
        MissingExtraError: The engine was asked for by name and is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, but is {engine!r}")
    pixels = _prepare(model, batch)
    with model.lock:
        previous = get_replacement(model.module)
        replace_passes(model.module, None)
        if engine == TORCH:
            return Acceleration(TORCH)
        try:
            return _accelerate(model, engine, pixels)
        except (MissingExtraError, ModelError) as error:
            if engine == AUTO:
                return Acceleration(TORCH, reason=str(error))
            if previous is not None:
                replace_passes(model.module, previous)
            raise


def _prepare(model: Model, batch: Tensor | None) -> Tensor:
    if batch is None:
        batch = model.prepare([sample(name) for name in SAMPLES])
    check_batch(model.module, batch)
    rows = torch.arange(IMAGES, device=batch.device) % len(batch)
    return batch.detach()[rows]


def _accelerate(model: Model, engine: str, batch: Tensor) -> Acceleration:
    require("fast", "the engine 'onnxruntime'")
    _refuse_unfit(model)
    with evaluation_mode(model.module), torch.no_grad(), allow_any_layout():
        key = identify(model.module, batch)
        copy, deviation = _make_copy(model.module, batch, key)
        speedup = None
        if engine == AUTO:
            speedup = _measure(model.module, copy, batch, key)
            if not speedup.low > 1:
                return Acceleration(TORCH, reason="torch is as fast here as ONNX Runtime")
        name = f"{ONNX} {version('onnxruntime')}"
        replacement = Replacement(copy, tuple(batch.shape[1:]), name, deviation)
        replace_passes(model.module, replacement)
        return Acceleration(name, speedup, deviation)


def _refuse_unfit(model: Model) -> None:
    """Refuse what ONNX Runtime does not compute here.

    Raises:
        ModelError: The model is elsewhere, in another precision, or a detector.
    """
    if not ENABLED:
        raise ModelError("CAM_FAST_OPS=0 in the environment runs every pass plainly")
    tensors = [*model.module.parameters(), *model.module.buffers()]
    if model.device.type != "cpu":
        raise ModelError(
            f"{model.name} is on {model.device}; the engine 'onnxruntime' is for models on a CPU"
        )
    others = {value.dtype for value in tensors if value.is_floating_point()} - {torch.float32}
    if others or any(value.is_inference() for value in tensors):
        kind = str(next(iter(others), "an inference tensor")).removeprefix("torch.")
        raise ModelError(
            f"{model.name} has weights in {kind}; the engine 'onnxruntime' takes float32"
        )
    if model.detects:
        raise ModelError(
            f"{model.name} is a detector, whose candidates the engine 'onnxruntime' does not read"
        )


def _make_copy(module: nn.Module, batch: Tensor, key: str) -> tuple[OnnxCopy, float]:
    """Take the copy that is kept, or convert the network; with its deviation.

    Raises:
        ModelError: The network cannot be converted, or computes something else.
    """
    content = read_copy(key)
    if content is not None:
        try:
            copy = OnnxCopy(content)
            return copy, _compare(module, copy, batch)
        except ModelError:
            # Damaged, or of a network with these weights whose code has changed since.
            pass
    content = convert(module, batch)
    copy = OnnxCopy(content)
    deviation = _compare(module, copy, batch)
    keep_copy(key, content)
    return copy, deviation


def _compare(module: nn.Module, copy: Callable[[Tensor], Tensor], batch: Tensor) -> float:
    """Return how far a copy's logits are from the network's, relative to the largest.

    Raises:
        ModelError: They differ by more than rounding.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *batch.shape[1:], generator=generator)
    worst = 0.0
    for pixels in (batch, noise):
        expected = run_model(module, pixels.clone())
        try:
            actual = copy(pixels)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"ONNX Runtime fails on it: {reason}") from error
        if actual.shape != expected.shape:
            raise ModelError(
                f"ONNX Runtime returns shape {tuple(actual.shape)} and torch "
                f"{tuple(expected.shape)}"
            )
        largest = expected.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        worst = max(worst, ((actual - expected).abs().max() / largest).item())
        if not worst <= TOLERANCE:
            raise ModelError(
                f"ONNX Runtime's logits differ from torch's by {worst:.1e} of the largest, and "
                f"rounding by less than {TOLERANCE:.0e}"
            )
    return worst


def _measure(
    module: nn.Module, copy: Callable[[Tensor], Tensor], batch: Tensor, key: str
) -> Estimate:
    """Measure how many times as fast as torch a copy is here, or read it."""
    here = f"{machine()}, onnxruntime {version('onnxruntime')}"
    choice = read_choice(key, here)
    if choice is not None and _are_numbers(choice.get("speedup")):
        return Estimate(*choice["speedup"])
    timings = interleaved(
        {TORCH: lambda: run_model(module, batch), ONNX: lambda: copy(batch)}, ROUNDS, 1
    )
    speedup = timings[TORCH].over(timings[ONNX])
    keep_choice(key, here, {"speedup": list(speedup)})
    return speedup


def _are_numbers(values: object) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == 3
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
    )
