"""The launches that `kernels.inspect` compiles: every kernel in each of its launch shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.launch import Launch
from kernels.reference import RULES

IMAGES = 64  # a batch that fills a GPU
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# One (C, h, w) for each row of the table of launch shapes.
CAM_PLANES = ((2048, 1, 1), (2048, 7, 7), (1024, 14, 14), (512, 28, 28), (64, 112, 112))
SALIENCY_PLANES = ((3, 224, 224), (64, 56, 56))


@dataclass(frozen=True)
class Example:
    """One launch by name and plain values, so that it can be sent to another process."""

    kernel: str
    case: str
    dtype: torch.dtype
    layout: str
    shape: tuple[int, ...]
    options: tuple[Any, ...] = ()

    def launch(self) -> Launch:
        """Plan it, on tensors without memory."""
        try:
            return PLANS[self.kernel](self)
        except ImportError as error:
            raise RuntimeError("Triton is not installed, so nothing can be compiled.") from error

    def tensor(self) -> Tensor:
        """An argument of the launch."""
        return torch.empty(
            (IMAGES, *self.shape),
            dtype=self.dtype,
            device="meta",
            memory_format=LAYOUTS[self.layout],
        )


def examples() -> Iterator[Example]:
    """Every example, kernel by kernel."""
    for dtype in DTYPES:
        for layout in LAYOUTS:
            for plane in CAM_PLANES:
                kernel = "plane_cam_kernel" if plane[1] * plane[2] <= 1024 else "walk_cam_kernel"
                for rules in (RULES[:1], RULES):
                    case = f"{_size(plane)}, {len(rules)} rule{'s' * (len(rules) > 1)}"
                    yield Example(kernel, case, dtype, layout, plane, rules)
            for plane in SALIENCY_PLANES:
                yield Example("gradient_map_kernel", _size(plane), dtype, layout, plane)


def _size(plane: tuple[int, ...]) -> str:
    return "×".join(map(str, plane))


def _cam(example: Example) -> Launch:
    from kernels import triton_cam

    layer = example.tensor()
    launch, _ = triton_cam.plan(layer, layer, example.options, maps=True, signed=True, weights=True)
    return launch


def _gradient_map(example: Example) -> Launch:
    from kernels import triton_saliency

    gradient = example.tensor()
    launch, *_ = triton_saliency.plan(gradient, gradient, "max", maps=True)
    return launch


PLANS = {
    "plane_cam_kernel": _cam,
    "walk_cam_kernel": _cam,
    "gradient_map_kernel": _gradient_map,
}
