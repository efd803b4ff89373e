"""Choose where a model computes."""

import torch

from cam.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def choose_device(name: str = "auto") -> str:
    """Return a device that is there: by default a CUDA or ROCm GPU, else the CPU.

    Args:
        name: One of :data:`DEVICES`; "mps" is Apple's, "xpu" Intel's.

    Raises:
        InputError: This machine has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "xpu": torch.xpu.is_available(),
    }
    if name not in available:
        raise InputError(f"the device {name!r} must be one of {', '.join(DEVICES)}")
    if not available[name]:
        here = ", ".join(device for device, there in available.items() if there)
        raise InputError(f"there is no device {name!r} here; use one of {here}")
    return name
