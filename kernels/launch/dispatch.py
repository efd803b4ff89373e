"""Choose Triton for tensors on a GPU, and the reference elsewhere."""

import importlib.util
import os
from typing import Literal

import torch

Backend = Literal["triton", "reference"]

VARIABLE = "CAM_KERNELS"
TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def backend(tensor: torch.Tensor) -> Backend:
    """Name the implementation that the kernels use for a tensor.

    A tensor on a GPU takes Triton, any other the reference. The environment variable
    `CAM_KERNELS` overrides this with `triton` or `reference`; on a tensor that is not on a GPU,
    `triton` means Triton's interpreter. What Triton cannot do stays with the reference whatever
    the override: float64 (the kernels sum in float32), and bfloat16 on a GPU of compute
    capability below 8.0, which has no such type.

    Args:
        tensor: Any tensor; its device and dtype decide, its values are not read.

    Returns:
        `"triton"` or `"reference"`.

    Raises:
        ValueError: `CAM_KERNELS` holds another word.
        RuntimeError: `CAM_KERNELS=triton` where Triton is not installed, or where the tensor is
            not on a GPU and Triton's interpreter is off.
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
    return "triton" if tensor.is_cuda and _has_triton() else "reference"


def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _triton_can(tensor: torch.Tensor) -> bool:
    if tensor.dtype not in TRITON_DTYPES:
        return False
    if tensor.is_cuda and tensor.dtype == torch.bfloat16:
        return torch.cuda.get_device_capability(tensor.device) >= (8, 0)
    return True


def _require_triton(tensor: torch.Tensor) -> None:
    if not _has_triton():
        raise RuntimeError(
            f"{VARIABLE}=triton, but Triton is not installed here; "
            f"install it or set {VARIABLE}=reference."
        )
    if not tensor.is_cuda and not interpreter_is_on():
        raise RuntimeError(
            f"{VARIABLE}=triton, but the tensor is on {tensor.device.type!r} and Triton's "
            "interpreter is off; set TRITON_INTERPRET=1 before Python starts, "
            f"or set {VARIABLE}=reference."
        )


def interpreter_is_on() -> bool:
    """Check whether Triton interprets its kernels in Python (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on")
