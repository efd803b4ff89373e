"""Sentences that more than one kernel says about a wrong argument."""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def check_content(tensor: Tensor, name: str) -> None:
    """Refuse a tensor that is empty or of a dtype the kernels do not compute with.

    Args:
        tensor: Any shape.
        name: What the caller's argument is called.

    Raises:
        ValueError: The tensor has no elements, or its dtype is not one of `DTYPES`.
    """
    if tensor.numel() == 0:
        raise ValueError(
            f"{name} must hold at least one element along each dimension, "
            f"but the shape is {tuple(tensor.shape)}."
        )
    if tensor.dtype not in DTYPES:
        raise ValueError(
            f"{name} must be float32, float16, bfloat16 or float64, but the dtype is "
            f"{tensor.dtype}."
        )


def unknown_name(kind: str, name: object, known: Sequence[str]) -> str:
    """Write the sentence for a name that is not known, with the nearest one if any is near."""
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{name!r} is not a known {kind}.{hint} Known: {', '.join(known)}."
