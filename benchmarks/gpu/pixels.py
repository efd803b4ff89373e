"""Time gradient maps, overlays and masks beside the same in plain torch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.gpu.plan import DTYPES, Bench, Plan, Record
from benchmarks.gpu.tails import agreement
from cam import kernels
from cam.kernels.blending.colormaps import colormap_table
from cam.kernels.masking.operation import masked_batch

GRID = 7  # of heatmaps and masks before they are upsampled


def plain_gradient_map(gradient: Tensor) -> Tensor:
    """max_c |G_c|, then min-max: (B, H, W)."""
    maps = gradient.float().abs().amax(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def plain_overlay(images: Tensor, heatmaps: Tensor, table: Tensor, alpha: float) -> Tensor:
    """Upsample, look up, blend, round: uint8 (B, H, W, 3)."""
    size = (images.shape[1], images.shape[2])
    values = interpolate(heatmaps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    colour = table[(values * 256).clamp(0, 255).long()].float()  # (B, H, W, 3)
    return ((1 - alpha) * images.float() + alpha * colour).round().to(torch.uint8)


def plain_masked_batch(image: Tensor, masks: Tensor) -> Tensor:
    """Upsampled masks, held in memory, times the image (1, 3, H, W): (N, 3, H, W)."""
    size = (image.shape[2], image.shape[3])
    large = interpolate(masks[:, None], size=size, mode="bilinear", align_corners=False)
    return image * large.to(image.dtype)


Case = tuple[str, str, int, Callable[[], Tensor], Callable[[], Tensor]]


def _cases(plan: Plan, device: str) -> Iterator[Case]:
    """Kernel, input in words, the least bytes that have to move, the kernel, plain torch."""
    generator = torch.Generator(device).manual_seed(0)
    options: dict[str, Any] = {"generator": generator, "device": device}
    for batch, side in plan.pictures:
        for name in plan.dtypes:
            gradient = torch.randn(batch, 3, side, side, **options).to(DTYPES[name])
            yield (
                "gradient_map",
                f"{batch}×3×{side}×{side}, {name}",
                gradient.nbytes + batch * side * side * 4,
                partial(kernels.gradient_map, gradient, reduce="max", normalise=True),
                partial(plain_gradient_map, gradient),
            )
        images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8, **options)
        heatmaps = torch.rand(batch, GRID, GRID, **options)
        table = colormap_table("turbo").to(device)
        yield (
            "overlay",
            f"{batch}×{side}×{side}×3, maps {GRID}×{GRID}",
            2 * images.nbytes + heatmaps.nbytes,
            partial(kernels.overlay, images, heatmaps, colormap="turbo", alpha=0.5),
            partial(plain_overlay, images, heatmaps, table, 0.5),
        )
    for count, side in plan.masks:
        for name in plan.dtypes:
            image = torch.randn(1, 3, side, side, **options).to(DTYPES[name])
            masks = torch.rand(count, GRID, GRID, **options)
            yield (
                "masked_batch",
                f"{count}×3×{side}×{side}, masks {GRID}×{GRID}, {name}",
                (1 + count) * image.nbytes + masks.nbytes,
                partial(masked_batch, image, masks),
                partial(plain_masked_batch, image, masks),
            )


def describe(plan: Plan) -> str:
    """What would be measured."""
    return (
        f"gradient_map and overlay on {', '.join(f'{b} of {s}×{s}' for b, s in plan.pictures)}; "
        f"masked_batch with {', '.join(str(n) for n, _ in plan.masks)} masks; each beside plain "
        f"torch, {', '.join(plan.dtypes)} where floats come in"
    )


# 16-bit results round at other places in the two; colours at other pixels, where a value falls on
# the border of two entries of the table.
MOST_DISTANCE = 1e-2


def run(bench: Bench, record: Record) -> None:
    """Compare each result with plain torch's, then time both."""
    machine, seconds = bench.machine, bench.plan.seconds
    with torch.no_grad():
        for name, shape, floor, fused, plain in _cases(bench.plan, machine.device):
            if bench.budget.left() <= 0:
                record.unmeasured.append(f"{name}, {shape}")
                continue
            with record.attempt(f"{name}, {shape}"):
                record.rows.append(
                    {
                        "kernel": name,
                        "shape": shape,
                        "floor_bytes": floor,
                        "distance": agreement(fused(), plain(), MOST_DISTANCE),
                        "fused": machine.device_time(fused, seconds).as_row(),
                        "fused_graph": machine.graph_time(fused, seconds).as_row(),
                        "plain": machine.device_time(plain, seconds).as_row(),
                    }
                )
