"""Store maps as bytes, whether they are signed or not."""

import numpy as np

# The level of 0 of a signed map; -1 is 0 and +1 is 254.
MIDDLE = 127


def encode_maps(maps: np.ndarray, signed: bool) -> np.ndarray:
    """Round maps to 255 levels of [0, 1] or, of signed ones, of [-1, 1]; NaN is 0.

    Args:
        maps: Any shape, float.
        signed: Whether they have two signs.

    Returns:
        uint8 of the same shape.
    """
    values = np.nan_to_num(maps, nan=0.0)
    scaled = (values.clip(-1, 1) + 1) * MIDDLE if signed else values.clip(0, 1) * 255
    levels: np.ndarray = scaled.round().astype(np.uint8)
    return levels


def decode_map(levels: bytes, side: int, signed: bool) -> np.ndarray:
    """Return a map (side, side) float32 of its bytes."""
    flat = np.frombuffer(levels, np.uint8).astype(np.float32)
    values = flat / MIDDLE - 1 if signed else flat / 255
    return np.asarray(values.reshape(side, side))


def decode_evidence(levels: bytes, signed: bool) -> np.ndarray:
    """Return what speaks for the class, in levels of [0, 1] from 0 to 255, uint8."""
    flat = np.frombuffer(levels, np.uint8)
    if not signed:
        return flat
    above = np.maximum(flat, MIDDLE) - MIDDLE  # 0 … 127
    return (above.astype(np.uint16) * 255 // MIDDLE).astype(np.uint8)
