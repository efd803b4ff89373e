"""Choose the launches that write a batch of masked images."""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from ..launch.launcher_parts import INT32_LIMIT, Launch
from .label_kernel import label_batch_kernel
from .mask_kernel import masked_batch_kernel
from .reference import Picture, Weights
from .upsampling_kernel import LOADS, mask_arguments, plan_ranges

STORE_BYTES = 16  # the widest store there is
NUM_WARPS = 4
# A program writes 2 KiB of each channel, which is one store of 16 bytes for each thread: 512 pixels
# of float32, 1024 of 16 bits.
PROGRAM_BYTES = 32 * NUM_WARPS * STORE_BYTES
# For images that lie in the other order than a contiguous batch, whose every element is loaded by
# itself, the compiler would take up to 72: fewer programs would share a core, and nothing gained.
MAX_REGISTERS = 64


def plan(
    picture: Picture, weights: Weights, *, channels_last: bool, dtype: torch.dtype
) -> tuple[list[Launch], Tensor]:
    """Choose the launches for checked tensors and allocate what they write.

    Args:
        picture: The images (B, C, H, W) and their baseline.
        weights: What the weight of each pixel is computed from.
        channels_last: The memory layout of what is written.
        dtype: float32, float16 or bfloat16: of what is written.

    Returns:
        The launches, not yet run, in their order, and the batch (N, C, H, W) that the last fills.
    """
    images, channels, height, width = picture.image.shape
    count, pixels = len(weights.values), height * width
    block = PROGRAM_BYTES // dtype.itemsize
    n_blocks = triton.cdiv(pixels, block)
    shape = (count, height, width, channels) if channels_last else (count, channels, height, width)
    out = torch.empty(shape, dtype=dtype, device=picture.image.device)
    out = out.permute(0, 3, 1, 2) if channels_last else out
    run = math.gcd(pixels, STORE_BYTES // dtype.itemsize)
    # With one channel both layouts are the same memory; the simpler half of the kernel fills it.
    last = channels_last and channels > 1

    image, image_order = _lay_out(picture.image)
    baseline, order = None, ""
    if picture.baseline is not None and picture.baseline.stride()[2:] == (0, 0):
        baseline, order = picture.baseline[:, :, 0, 0].contiguous(), "colour"
    elif picture.baseline is not None:
        baseline, order = _lay_out(picture.baseline)
    scattered = not last and "last" in (image_order, order)
    if weights.labels is None and not weights.values[0].is_contiguous():
        weights = weights._replace(values=weights.values.contiguous())
    ranges = [plan_ranges(weights)] if weights.stretch else []
    if weights.labels is None:
        kernel, arguments = masked_batch_kernel, mask_arguments(weights)
        arguments |= {
            "p_shifts": weights.shifts,
            "p_ranges": ranges[0].arguments["p_ranges"] if ranges else None,
            "size_h": weights.size[0],
            "height": height,
            "width": width,
            "ALONG_ROW": width % run == 0,
        }
    else:
        kernel, arguments = label_batch_kernel, _label_arguments(weights, weights.labels)
    arguments |= {
        "p_out": out,
        "p_owner": picture.owner,
        "baseline_value": picture.value,
        "images": images,
        "runs": pixels // run,
        "p_image": image,
        "p_baseline": baseline,
        "LAYOUT": (
            channels,
            last,
            image_order == "last",
            order,
            baseline is None or len(baseline) == 1,
        ),
        "TILE": (run, block, max(channels * pixels, weights.values[0].numel()) >= INT32_LIMIT),
    }
    elements = {
        "p_image": channels * pixels,
        "p_baseline": channels * (n_blocks if order == "colour" and not last else pixels),
        "p_masks": LOADS.get(arguments["KIND"], 0) * pixels,
        "p_values": n_blocks if weights.kind == "ranks" else pixels,
        "p_labels": pixels,
        "p_owner": n_blocks,
        "p_label_owner": n_blocks,
        "p_shifts": n_blocks * 2,
        "p_ranges": n_blocks * 2 * (ranges[0].arguments["p_ranges"].shape[2] if ranges else 0),
    }
    launch = Launch(
        kernel=kernel,
        grid=(count * n_blocks,),
        arguments=arguments,
        num_warps=NUM_WARPS,
        max_registers=MAX_REGISTERS if scattered else None,
        reads={
            name: count * number * arguments[name].element_size()
            for name, number in elements.items()
            if arguments.get(name) is not None
        },
        writes={"p_out": out.numel() * out.element_size()},
        scratch=("p_ranges",),
    )
    return [*ranges, launch], out


def _label_arguments(weights: Weights, labels: Tensor) -> dict[str, Any]:
    """List what `label_batch_kernel` alone takes."""
    order = "insertion" if weights.insert else "deletion"
    return {
        "p_values": weights.values.contiguous(),
        "p_labels": labels.contiguous(),
        "p_label_owner": weights.label_owner,
        "maps": len(labels),
        "regions": weights.values.shape[-1],
        "KIND": order if weights.kind == "ranks" else weights.kind,
    }


def _lay_out(tensor: Tensor) -> tuple[Tensor, str]:
    """Give images one of the layouts that the kernels read, and name it by its channels."""
    last = not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return (tensor, "last") if last else (tensor.contiguous(), "planes")
