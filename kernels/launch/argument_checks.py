"""Check arguments that several operations take, and word their errors."""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def dtype_names(dtypes: Sequence[torch.dtype], last: str = ", ") -> str:
    """List dtypes without their prefix."""
    *first, final = (str(dtype).removeprefix("torch.") for dtype in dtypes)
    return f"{', '.join(first)}{last}{final}"


def check_shape(tensor: Tensor, name: str, shape: str, fits: bool) -> None:
    """Refuse a tensor that does not fit a shape, which is described in words."""
    if not fits:
        verb = "have" if name.endswith("s") else "has"
        raise ValueError(f"{name} must be {shape}, but {verb} shape {tuple(tensor.shape)}.")


def check_content(tensor: Tensor, name: str) -> None:
    """Refuse a tensor that is empty or of an unsupported dtype.

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
            f"{name} must be {dtype_names(DTYPES, ' or ')}, but the dtype is {tensor.dtype}."
        )


def check_device(tensor: Tensor, name: str, model: Tensor, model_name: str) -> None:
    """Refuse a tensor that is not on the device of another."""
    if tensor.device != model.device:
        raise ValueError(
            f"{name} must be on the device of the {model_name}, {model.device}, "
            f"not on {tensor.device}."
        )


def check_alike(tensor: Tensor, name: str, model: Tensor, model_name: str) -> None:
    """Refuse a tensor whose shape, dtype or device differs from another's."""
    for quality in ("shape", "dtype"):
        pair = getattr(model, quality), getattr(tensor, quality)
        if pair[0] != pair[1]:
            right, actual = map(tuple, pair) if quality == "shape" else pair
            raise ValueError(
                f"{name} must have the {quality} of the {model_name}, {right}, not {actual}."
            )
    check_device(tensor, name, model, model_name)


def unknown_name(kind: str, name: object, names: Sequence[str]) -> str:
    """Write the sentence for an unknown name, with the nearest name."""
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{name!r} is not a known {kind}.{hint} Known: {', '.join(names)}."
