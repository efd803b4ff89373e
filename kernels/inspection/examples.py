"""List the launches to compile: each kernel in each launch shape."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..class_activation.rules import NUMBERS, RULES
from ..launch.launcher_parts import Launch
from ..masking.reference import Weights

IMAGES = 64  # a batch that fills a GPU
DTYPES = (torch.float32, torch.bfloat16)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
# One (C, h, w) for each row of the table of launch shapes.
CAM_PLANES = ((2048, 1, 1), (2048, 7, 7), (1024, 14, 14), (512, 28, 28), (64, 112, 112))
SALIENCY_PLANES = ((3, 224, 224), (64, 56, 56))
PICTURE = (3, 224, 224)
WRITERS = {"masks": "masked_batch_kernel"} | dict.fromkeys(
    ("regions", "ranks"), "label_batch_kernel"
)
PERCENTILES = (100.0, 99.0)


@dataclass(frozen=True)
class Example:
    """A launch by name and plain values, for another process."""

    kernel: str
    case: str
    dtype: torch.dtype
    layout: str
    shape: tuple[int, ...]
    options: tuple[Any, ...] = ()

    def launch(self) -> Launch:
        """Plan the launch, on tensors without memory."""
        try:
            return PLANS[self.kernel](self)
        except ImportError as error:
            raise RuntimeError("Triton is not installed, so nothing can be compiled.") from error

    def tensor(self) -> Tensor:
        """Make an argument of the launch."""
        return torch.empty(
            (IMAGES, *self.shape),
            dtype=self.dtype,
            device="meta",
            memory_format=LAYOUTS[self.layout],
        )


def examples() -> Iterator[Example]:
    """Yield every example, kernel by kernel."""
    for dtype in DTYPES:
        for layout in LAYOUTS:
            for plane in CAM_PLANES:
                kernel = "plane_cam_kernel" if plane[1] * plane[2] <= 1024 else "walk_cam_kernel"
                for rules in (RULES[:1], RULES):
                    case = f"{_size(plane)}, {len(rules)} rule{'s' * (len(rules) > 1)}"
                    yield Example(kernel, case, dtype, layout, plane, rules)
            for plane in SALIENCY_PLANES:
                for percentile in PERCENTILES:
                    case = f"{_size(plane)}, percentile {percentile:g}"
                    options = (percentile,)
                    yield Example("gradient_map_kernel", case, dtype, layout, plane, options)
            for kind, kernel in WRITERS.items():
                case = f"{_size(PICTURE)}, {kind}"
                yield Example(kernel, case, dtype, layout, PICTURE, (kind,))
        case = f"8 samples of {_size(PICTURE)}"
        yield Example("moments_kernel", case, dtype, "contiguous", PICTURE)
    yield Example("mask_range_kernel", "7×7 to 224×224", torch.float32, "contiguous", PICTURE)
    for signed in (False, True):
        case = f"7×7 to 224×224{', signed' * signed}"
        yield Example("overlay_kernel", case, torch.uint8, "channels-last", PICTURE, (signed,))


def _size(plane: tuple[int, ...]) -> str:
    return "×".join(map(str, plane))


def _cam(example: Example) -> Launch:
    from ..class_activation import launcher as triton_cam

    layer = example.tensor()
    launch, _ = triton_cam.plan(
        layer,
        layer,
        [NUMBERS[name] for name in example.options],
        maps=True,
        signed=True,
        weights=True,
    )
    return launch


def _gradient_map(example: Example) -> Launch:
    from ..input_gradient import launcher as triton_saliency

    gradient = example.tensor()
    (percentile,) = example.options
    launch, *_ = triton_saliency.plan(gradient, gradient, "max", maps=True, percentile=percentile)
    return launch


def _moments(example: Example) -> Launch:
    from ..moments import launcher as triton_moments

    size = IMAGES * torch.Size(example.shape).numel()
    samples = torch.empty((8, size), dtype=example.dtype, device="meta")
    mean, deviations = (torch.empty(size, device="meta") for _ in range(2))
    return triton_moments.plan(samples, mean, deviations, count=8)


def _overlay(example: Example) -> Launch:
    from ..blending import launcher as triton_overlay

    images = torch.empty((IMAGES, *PICTURE[1:], 3), dtype=torch.uint8, device="meta")
    table = torch.empty(256, dtype=torch.int32, device="meta")
    (signed,) = example.options
    heatmaps = torch.empty((IMAGES, 7, 7), device="meta")
    launch, _ = triton_overlay.plan(images, heatmaps, table, 0.5, 0.25, signed)
    return launch


def _masked_batch(example: Example) -> Launch:
    from ..masking import launcher as triton_masks
    from ..masking.reference import Picture

    picture = Picture(example.tensor()[:1], owner=None, baseline=None, value=0.0)
    launches, _ = triton_masks.plan(
        picture,
        _weights(*example.options),
        channels_last=example.layout == "channels-last",
        dtype=example.dtype,
    )
    return launches[-1]


def _mask_range(_: Example) -> Launch:
    from ..masking import upsampling_kernel

    return upsampling_kernel.plan_ranges(_weights("masks"))


def _weights(kind: str) -> Weights:
    """Describe Score-CAM's masks, LIME's regions, or a deletion curve's steps."""
    size = (PICTURE[1], PICTURE[2])
    if kind == "masks":
        masks = torch.empty((IMAGES, 7, 7), device="meta")
        return Weights(kind, masks, size=size, align_corners=True, stretch=True)
    labels = torch.empty((1, *size), dtype=torch.int32, device="meta")
    shape = (IMAGES,) if kind == "ranks" else (IMAGES, 50)
    values = torch.empty(shape, dtype=torch.int32 if kind == "ranks" else None, device="meta")
    return Weights(kind, values, labels)


PLANS = {
    "plane_cam_kernel": _cam,
    "walk_cam_kernel": _cam,
    "gradient_map_kernel": _gradient_map,
    **dict.fromkeys(WRITERS.values(), _masked_batch),
    "moments_kernel": _moments,
    "overlay_kernel": _overlay,
    "mask_range_kernel": _mask_range,
}
