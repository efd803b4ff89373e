"""How a network computes while it is explained; the caller's model and settings stay as they are.

Explanations suffer from short numbers more than predictions do: in bfloat16 a saliency map may have
little to do with that of the same network in float32. So nothing is shortened that was not asked
for, and ``auto`` shortens only what was measured to hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from cam.errors import InputError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "auto")
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}

# Whether the engine may choose how the pixels lie in memory.
_free: ContextVar[bool] = ContextVar("cam_free_layout", default=False)
# What autocast shortens a forward pass to; None where it is off.
_short: ContextVar[torch.dtype | None] = ContextVar("cam_autocast", default=None)


def check_precision(precision: str | None, device: torch.device) -> None:
    """Refuse what there is not, or what the device cannot do.

    Raises:
        InputError: No such precision, or not on this device.
    """
    if precision is not None and precision not in PRECISIONS:
        raise InputError(
            f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}, or None for "
            "what torch and the model are set to"
        )
    if precision == "tf32":
        if device.type != "cuda":
            raise InputError(
                f"precision 'tf32' is a way in which NVIDIA's GPUs multiply, and the model is on "
                f"{device}; use 'fp32', 'bf16' or 'auto'"
            )
        if torch.cuda.get_device_capability(device) < (8, 0):
            raise InputError(
                f"{torch.cuda.get_device_name(device)} has no tf32, which came with compute "
                "capability 8.0; use 'fp32', 'fp16' or 'auto'"
            )


def available_precisions(device: torch.device) -> tuple[str, ...]:
    """What a device can compute in, fp32 first; a CPU has fp16, and takes long for it."""
    if device.type != "cuda":
        return ("fp32", "bf16", "fp16")
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    return ("fp32", "tf32", "bf16", "fp16") if modern else ("fp32", "fp16")


@contextmanager
def computing(precision: str | None, device: torch.device) -> Iterator[None]:
    """Let :func:`cam._engine.forward.run_model` compute so, and the backward passes after it.

    What the engine itself calculates is not shortened, also where the caller's autocast is on.

    Args:
        precision: One of :data:`PRECISIONS` but ``auto``; None: as torch is set.
        device: Where the network is.
    """
    ambient = torch.get_autocast_dtype(device.type)
    short = _HALF.get(precision or "")
    if precision is None and torch.is_autocast_enabled(device.type):
        short = ambient
    tokens = _short.set(short), _free.set(precision is not None)
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, convolution.fp32_precision
    try:
        if precision in ("fp32", "tf32"):
            inner = "tf32" if precision == "tf32" else "ieee"
            matmul.fp32_precision = convolution.fp32_precision = inner
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        matmul.fp32_precision, convolution.fp32_precision = before
        _short.reset(tokens[0])
        _free.reset(tokens[1])


@contextmanager
def casting(device: torch.device) -> Iterator[None]:
    """The forward pass of a network in the precision that is set."""
    short = _short.get()
    with nullcontext() if short is None else torch.autocast(device.type, short):
        yield


@contextmanager
def any_layout(chosen: bool = True) -> Iterator[None]:
    """Let pixels lie with their channels last, in which convolutions are faster.

    That rounds differently, and where a ReLU near zero opens or closes for it, the gradient behind
    it changes by more than rounding. So, without the caller's wish for a precision, it is only done
    where no gradient passes one.
    """
    token = _free.set(chosen or _free.get())
    try:
        yield
    finally:
        _free.reset(token)


def arranged(pixels: Tensor) -> Tensor:
    """A batch (N, C, H, W) in the layout that is fastest, if that may be chosen."""
    if pixels.ndim != 4 or not _free.get():
        return pixels
    return pixels.contiguous(memory_format=torch.channels_last)


def widened(logits: Tensor) -> Tensor:
    """What autocast shortened, as float32: targets calculate with it."""
    return logits if _short.get() is None else logits.float()


def used(module: nn.Module, precision: str | None, device: torch.device) -> str:
    """In which precision a network computes: what was asked for, or what it is set to."""
    if precision is not None:
        return precision
    first = next((one for one in module.parameters() if one.is_floating_point()), None)
    dtype = _short.get() or (torch.float32 if first is None else first.dtype)
    convolutions = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    if dtype == torch.float32 and device.type == "cuda" and convolutions == "tf32":
        return "tf32"
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def tolerance(module: nn.Module, device: torch.device) -> float:
    """How far two ways to the same logits may be apart, as a share of the largest.

    Rounding alone does not reach it, and anything that is not rounding does.
    """
    return {"bf16": 3e-2, "fp16": 1e-2, "tf32": 1e-2}.get(used(module, None, device), 1e-3)
