"""Make tensors of every layout, surrounded by NaN, for the kernels' tests."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

DEVICE = "cuda" if os.environ.get("CAM_TEST_ON_GPU") else "cpu"
MARGIN = 64  # elements
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def _inside(storage_shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A contiguous tensor of NaN with more NaN before and after it."""
    size = torch.Size(storage_shape).numel()
    return torch.full((size + 2 * MARGIN,), torch.nan, dtype=dtype, device=DEVICE)[
        MARGIN : MARGIN + size
    ].view(*storage_shape)


def _contiguous(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, c, h, w), dtype)


def _channels_last(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, h, w, c), dtype).permute(0, 3, 1, 2)


def _every_other_channel(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, 2 * c + 1, h, w), dtype)[:, 1::2]


def _every_other_image(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((2 * b, h, w, c), dtype)[::2].permute(0, 3, 1, 2)


def _every_other_column(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, c, h, 2 * w), dtype)[..., 1::2]


def _cropped(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, c, h + 2, w + 3), dtype)[:, :, 1:-1, 1:-2]


def _transposed(b: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return _inside((b, c, w, h), dtype).transpose(2, 3)


LAYOUTS: dict[str, Callable[..., Tensor]] = {
    "contiguous": _contiguous,
    "channels-last": _channels_last,
    "every-other-channel": _every_other_channel,
    "every-other-image": _every_other_image,
    "every-other-column": _every_other_column,
    "cropped": _cropped,  # rows do not follow one another: has to be copied
    "transposed": _transposed,  # has to be copied too
}


def lay_out(values: Tensor, layout: str, dtype: torch.dtype | None = None) -> Tensor:
    """Put values into a tensor of the layout; what lies around them in memory is NaN."""
    tensor = LAYOUTS[layout](*values.shape, values.dtype if dtype is None else dtype)
    assert tensor.shape == values.shape
    return tensor.copy_(values)


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def distance(result: Tensor, truth: Tensor) -> float:
    """‖result − truth‖ / ‖truth‖; plain distance where the truth is zero."""
    result, truth = result.double().cpu(), truth.double().cpu()
    assert result.shape == truth.shape
    return float((result - truth).norm() / (truth.norm() or 1))
