"""Choose Triton for tensors on a GPU, and the reference elsewhere."""

import importlib.util
import os
import subprocess
import warnings
from functools import cache
from typing import Literal

import torch

Backend = Literal["triton", "reference"]

VARIABLE = "CAM_KERNELS"
TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# A missing compiler; one that finds no headers, or does not run; a missing library of the driver.
DRIVER_FAILURES = (RuntimeError, subprocess.SubprocessError, OSError, ImportError, AssertionError)
LEAST_CAPABILITY = 7, 0  # what orders the stores of several programs came with it


def backend(tensor: torch.Tensor) -> Backend:
    """Name the implementation that the kernels use for a tensor.

    A tensor on a GPU takes Triton, any other the reference. The environment variable
    `CAM_KERNELS` overrides this with `triton` or `reference`; on a tensor that is not on a GPU,
    `triton` means Triton's interpreter. What Triton cannot do stays with the reference whatever
    the override: float64 (the kernels sum in float32), and bfloat16 on a GPU of compute
    capability below 8.0, which has no such type. Where Triton cannot work at all on a GPU (a
    capability below 7.0, no C compiler for what it builds at its first launch), a warning says so
    once, and the reference computes there.

    Args:
        tensor: Any tensor; its device and dtype decide, its values are not read.

    Returns:
        `"triton"` or `"reference"`.

    Raises:
        ValueError: `CAM_KERNELS` holds another word.
        RuntimeError: `CAM_KERNELS=triton` where Triton is not installed, where it cannot work on
            the tensor's GPU, or where the tensor is not on a GPU and Triton's interpreter is off.
    """
    override = os.environ.get(VARIABLE, "")
    if override not in ("", "triton", "reference"):
        raise ValueError(
            f"{VARIABLE} is {override!r}, but only 'triton' and 'reference' are known; "
            "leave it unset to choose by the tensor's device."
        )
    if override == "reference" or not _triton_can(tensor):
        return "reference"
    if override == "triton":
        _require_triton(tensor)
        return "triton"
    if not tensor.is_cuda:
        return "reference"
    return _unless(obstacle(tensor.device))


def backend_across_programs(tensor: torch.Tensor) -> Backend:
    """Name the implementation of kernels whose last program reads what the others stored.

    It is `backend`, except on AMD's GPUs. There the barrier before a program counts itself in waits
    for one wave's stores to leave the core, not for those of the others, so the last program might
    read what was there before: these kernels' reference computes, and a warning says so once.

    Args:
        tensor: As for `backend`.
    """
    name = backend(tensor)
    if name == "triton" and torch.version.hip is not None and tensor.is_cuda:
        return _unless(
            "AMD's GPUs do not order the stores of several waves before the count of finished "
            "programs, which maps over many programs rely on"
        )
    return name


def _unless(reason: str | None) -> Backend:
    """Choose Triton, unless there is a reason against it, which a warning states."""
    if reason is None:
        return "triton"
    _warn_once(reason)
    return "reference"


@cache  # one warning for each reason, whatever the filters are
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"Plain torch computes instead of the Triton kernels: {reason}. "
        f"{VARIABLE}=reference asks for that without this warning.",
        stacklevel=2,
    )


@cache
def obstacle(device: torch.device) -> str | None:
    """Say why Triton cannot work on a GPU, or None.

    It is asked once for each GPU. Triton builds a small library with a C compiler and Python's
    headers when its driver starts, which is where machines without them fail.
    """
    if not _has_triton():
        return "Triton is not installed"
    if not torch.cuda.is_available():
        return None  # a compiler traces for a GPU that is absent
    if torch.version.hip is None:
        capability = torch.cuda.get_device_capability(device)
        if capability < LEAST_CAPABILITY:
            has, needs = (".".join(map(str, pair)) for pair in (capability, LEAST_CAPABILITY))
            return f"{device} has compute capability {has}, and they need {needs}"
    import triton

    try:
        triton.runtime.driver.active.get_current_target()
    except DRIVER_FAILURES as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"Triton's driver does not start here ({lines[0].rstrip('.')})"
    return None


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _triton_can(tensor: torch.Tensor) -> bool:
    if tensor.dtype not in TRITON_DTYPES:
        return False
    if tensor.is_cuda and tensor.dtype == torch.bfloat16 and torch.version.hip is None:
        return torch.cuda.get_device_capability(tensor.device) >= (8, 0)
    return True


def _require_triton(tensor: torch.Tensor) -> None:
    if not _has_triton():
        raise RuntimeError(
            f"{VARIABLE}=triton, but Triton is not installed here; "
            f"install it or set {VARIABLE}=reference."
        )
    if tensor.is_cuda and (reason := obstacle(tensor.device)):
        raise RuntimeError(f"{VARIABLE}=triton, but {reason}; set {VARIABLE}=reference.")
    if not tensor.is_cuda and not interpreter_is_on():
        raise RuntimeError(
            f"{VARIABLE}=triton, but the tensor is on {tensor.device.type!r} and Triton's "
            "interpreter is off; set TRITON_INTERPRET=1 before Python starts, "
            f"or set {VARIABLE}=reference."
        )


def interpreter_is_on() -> bool:
    """Check whether Triton interprets its kernels in Python (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on")
