"""Choose the precision of a network's passes; the caller's settings stay.

Reduced precision changes explanations more than predictions: in bfloat16 a saliency map may have
little to do with that of the same network in float32. So nothing is reduced unless requested, and
``auto`` reduces only what was measured to hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from cam._engine.shared_state.product_precision import hold_product_precision
from cam.errors import InputError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "auto")
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
_NAMES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}

# Whether the engine may choose the pixels' memory format.
_free: ContextVar[bool] = ContextVar("cam_free_layout", default=False)
# The dtype of autocast in a forward pass; None where it is off.
_autocast: ContextVar[torch.dtype | None] = ContextVar("cam_autocast", default=None)


def autocast_dtype() -> torch.dtype | None:
    """Return the dtype in which forward passes compute; None: their own."""
    return _autocast.get()


def check_precision(precision: str | None, device: torch.device) -> None:
    """Refuse an unknown precision, or one that the device lacks.

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
    """List a device's precisions, fp32 first; a CPU is slow in fp16."""
    if device.type != "cuda":
        return ("fp32", "bf16", "fp16")
    modern = torch.cuda.get_device_capability(device) >= (8, 0)
    return ("fp32", "tf32", "bf16", "fp16") if modern else ("fp32", "fp16")


@contextmanager
def use_precision(precision: str | None, device: torch.device) -> Iterator[None]:
    """Run forward and backward passes in a precision.

    What the engine itself calculates is not reduced, even where the caller's autocast is on.

    Args:
        precision: One of :data:`PRECISIONS` but ``auto``; None: as torch is set.
        device: Where the network is.
    """
    ambient = torch.get_autocast_dtype(device.type)
    reduced = _HALF.get(precision or "")
    if precision is None and torch.is_autocast_enabled(device.type):
        reduced = ambient
    tokens = _autocast.set(reduced), _free.set(precision is not None)
    products = {"fp32": "ieee", "tf32": "tf32"}.get(precision or "")
    # Of a CPU's products it says nothing.
    hold = hold_product_precision(products) if device.type == "cuda" else nullcontext()
    try:
        with hold, torch.autocast(device.type, enabled=False):
            yield
    finally:
        _autocast.reset(tokens[0])
        _free.reset(tokens[1])


@contextmanager
def autocast_forward(device: torch.device) -> Iterator[None]:
    """Run a network's forward pass under the autocast that is set."""
    reduced = _autocast.get()
    with nullcontext() if reduced is None else torch.autocast(device.type, reduced):
        yield


@contextmanager
def allow_any_layout(allowed: bool = True) -> Iterator[None]:
    """Allow pixels in channels-last memory format, in which convolutions are faster.

    That rounds differently, and where a ReLU near zero opens or closes for it, the gradient behind
    it changes by more than rounding. So, unless the caller chose a precision, it is only allowed
    where no gradient passes one.
    """
    token = _free.set(allowed or _free.get())
    try:
        yield
    finally:
        _free.reset(token)


def arrange(pixels: Tensor) -> Tensor:
    """Convert a batch to the fastest memory format, if allowed."""
    if pixels.ndim != 4 or not _free.get():
        return pixels
    return pixels.contiguous(memory_format=torch.channels_last)


def widen(logits: Tensor) -> Tensor:
    """Return logits that autocast reduced as float32, for the targets."""
    return logits if _autocast.get() is None else logits.float()


def name_precision(module: nn.Module, precision: str | None, device: torch.device) -> str:
    """Name the precision of a network: the requested one, or its own."""
    if precision is not None:
        return precision
    first = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    dtype = _autocast.get() or (torch.float32 if first is None else first.dtype)
    convolutions = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    if dtype == torch.float32 and device.type == "cuda" and convolutions == "tf32":
        return "tf32"
    return _NAMES.get(dtype, str(dtype).removeprefix("torch."))


def tolerance(module: nn.Module, device: torch.device) -> float:
    """Return how far equal logits may differ, relative to the largest.

    Rounding alone does not reach it, and anything that is not rounding does.
    """
    return {"bf16": 3e-2, "fp16": 1e-2, "tf32": 1e-2}.get(
        name_precision(module, None, device), 1e-3
    )
