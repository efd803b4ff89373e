"""Describe the layouts and launches that all Triton launchers share."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch._subclasses.functional_tensor import FunctionalTensor

from .dispatch import interpreter_is_on

INT32_LIMIT = 2**31


def is_real(tensor: Tensor) -> bool:
    """Check whether a tensor has memory; traced ones have only shapes.

    A subclass such as torchvision's `tv_tensors.Image` has memory like any other.
    """
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return not tensor.is_meta
    traced = isinstance(tensor, FunctionalTensor) or torch._is_functional_tensor(tensor)
    return not (traced or tensor.is_meta or is_fake(tensor))


@dataclass(frozen=True)
class Planes:
    """A tensor (B, C, h, w) whose pixels have a single stride."""

    tensor: Tensor
    stride_b: int
    stride_c: int
    stride_s: int  # from one pixel to the next, rows following each other

    def arguments(self, name: str) -> dict[str, Any]:
        """List tensor and strides as a kernel's arguments."""
        return {
            f"p_{name}": self.tensor,
            f"{name}_stride_b": self.stride_b,
            f"{name}_stride_c": self.stride_c,
            f"{name}_stride_s": self.stride_s,
        }

    @property
    def needs_int64(self) -> bool:
        """Whether an offset inside one image passes what 32 bits hold."""
        _, channels, height, width = self.tensor.shape
        last = (channels - 1) * self.stride_c + (height * width - 1) * self.stride_s
        return last >= INT32_LIMIT


def planes(tensor: Tensor) -> Planes:
    """Describe a tensor (B, C, h, w) by three strides.

    It is copied only where that is impossible.

    Contiguous, channels-last, expanded (stride 0) and channel-sliced tensors keep their memory.
    """
    stride_s = _pixel_stride(tensor)
    if stride_s is None:
        tensor = tensor.contiguous()
        stride_s = 1
    return Planes(tensor, tensor.stride(0), tensor.stride(1), stride_s)


def _pixel_stride(tensor: Tensor) -> int | None:
    height, width = tensor.shape[2:]
    stride_h, stride_w = tensor.stride()[2:]
    if height == 1 and width == 1:
        return 0  # of no effect; 1 would claim that pixels are the fast axis
    if width == 1:
        return stride_h
    if height == 1 or stride_h == width * stride_w:
        return stride_w
    return None


@dataclass(frozen=True)
class Launch:
    """A kernel launch, ready to run, or to compile for another GPU."""

    kernel: Any
    grid: tuple[int]
    arguments: dict[str, Any]  # by the kernel's parameter names
    num_warps: int
    # Bytes that the programs load and store, by the parameter whose memory it is. The tests count
    # them in the interpreter, access by access.
    reads: dict[str, int]
    writes: dict[str, int]
    scratch: tuple[str, ...] = ()  # parameters that are neither arguments nor results of the call
    max_registers: int | None = None  # a thread may have no more, so that programs share a core

    @property
    def least_bytes(self) -> int:
        """Every argument loaded once, and every result stored once."""
        return sum(
            value.numel() * value.element_size()
            for name, value in self.arguments.items()
            if isinstance(value, Tensor) and name not in self.scratch
        )

    def threads(self, warp: int = 32) -> int:
        """Count a program's threads, the same on warps of 64."""
        return max(warp, 32 * self.num_warps)

    def options(self, backend: str, warp: int) -> dict[str, int]:
        """List the compiler's options, for a launch or for an absent GPU.

        Args:
            backend: "cuda" or "hip", as Triton names the makers of GPUs.
            warp: Threads of a warp there.
        """
        options = {"num_warps": self.threads(warp) // warp}
        # AMD's compiler has no such option, and Triton refuses what the compiler does not know.
        if backend == "cuda" and self.max_registers is not None:
            options["maxnreg"] = self.max_registers
        return options

    def run(self) -> None:
        """Launch on the tensors' device, which need not be current."""
        tensors = (value for value in self.arguments.values() if isinstance(value, Tensor))
        first = next(tensors)
        real = is_real(first)
        if not real and interpreter_is_on():
            return  # shapes only: there is no memory to interpret
        options = self.options(*_maker(first))
        if not real:
            options.pop("maxnreg", None)  # the tracer does not know this option
        with torch.cuda.device(first.device if first.is_cuda and real else -1):
            torch.library.wrap_triton(self.kernel)[self.grid](**self.arguments, **options)


def _maker(tensor: Tensor) -> tuple[str, int]:
    """Name the backend of a tensor's GPU, and count the threads of a warp."""
    if torch.version.hip is None:
        return "cuda", 32
    return "hip", torch.cuda.get_device_properties(tensor.device).warp_size
