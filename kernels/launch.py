"""What every Triton launcher shares: how a tensor is laid out, and what a launch consists of."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

INT32_LIMIT = 2**31


@dataclass(frozen=True)
class Planes:
    """A tensor (B, C, h, w) whose h and w are walked with a single stride."""

    tensor: Tensor
    stride_b: int
    stride_c: int
    stride_s: int  # from one pixel to the next, rows following each other

    @property
    def needs_int64(self) -> bool:
        """Whether an offset inside one image passes what 32 bits hold."""
        _, channels, height, width = self.tensor.shape
        last = (channels - 1) * self.stride_c + (height * width - 1) * self.stride_s
        return last >= INT32_LIMIT


def planes(tensor: Tensor) -> Planes:
    """Describe a tensor (B, C, h, w) by three strides, copying it only where that is impossible.

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
    """One kernel launch, ready to run, or to be compiled for a GPU that is not there."""

    kernel: Any
    grid: tuple[int]
    arguments: dict[str, Any]  # by the kernel's parameter names
    num_warps: int

    def run(self, device: torch.device) -> None:
        """Launch on the device of the tensors, which need not be the current one."""
        with torch.cuda.device(device if device.type == "cuda" else -1):
            self.kernel[self.grid](**self.arguments, num_warps=self.num_warps)


class Results(NamedTuple):
    """What the class activation maps' launch writes; None is what was not asked for."""

    maps: Tensor | None  # (B, K, h, w) in [0, 1]
    signed: Tensor | None  # (B, K, h, w)
    weights: Tensor | None  # (B, K, C)
