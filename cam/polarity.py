"""Read signed maps: by sign, by positive parts, or by absolute values."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cam.parameters import one_of

KINDS: Mapping[str, str] = {
    "contribution": (
        "signed, in units of the score: what a pixel or its region adds to the score, or to its "
        "difference from that of a baseline"
    ),
    "sensitivity": "without a sign: how much the score would move if the pixel did",
    "evidence": "for the target, the more the higher; it has no unit and, unless signed, no zero",
}
"""What the numbers of a method's maps are."""

POLARITIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "signed": lambda signed: signed,
    "positive": lambda signed: signed.clamp(min=0),
    "absolute": torch.abs,
}
"""From signed maps to the importance of their pixels."""

DIVERGING = "RdBu_r"
"""The colour map of values for and against: red for, white at 0, blue against."""

POLARITY = one_of(POLARITIES)
"""What a parameter ``polarity`` must be."""

POLARITY_WORDS: Mapping[str, str] = {
    "signed": "pixels in the order of their signed values: what speaks against the target is last",
    "positive": "only values for the target count; what speaks against it counts as 0",
    "absolute": "values for and against the target count alike",
}


def polarise(signed: Tensor, polarity: str, kind: str | None = None) -> Tensor:
    """Turn signed maps into the importance of their pixels.

    Args:
        signed: (B, H, W) floats.
        polarity: One of :data:`POLARITIES`.
        kind: One of :data:`KINDS`, where it is known: a sensitivity has no sign, so its absolute
            value is taken whatever the polarity is.

    Returns:
        (B, H, W).
    """
    return signed.abs() if kind == "sensitivity" else POLARITIES[polarity](signed)


def as_heatmap(importance: Tensor, kind: str | None = None) -> Tensor:
    """Scale the positive part of each map to [0, 1].

    Args:
        importance: (B, H, W) floats.
        kind: One of :data:`KINDS`, where it is known: evidence has no zero unless it is signed,
            so its lowest value counts as none.

    Returns:
        (B, H, W); zeros where nothing is above 0, or evidence is the same everywhere.
    """
    positive = importance.clamp(min=0)
    axes = tuple(range(1, positive.ndim))
    if kind == "evidence":
        positive = positive - positive.amin(axes, keepdim=True)
    highest = positive.amax(axes, keepdim=True)
    return positive / torch.where(highest == 0, 1, highest)
