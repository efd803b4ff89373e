"""Say in words where a map's evidence lies."""

import numpy as np

_ROWS = ("upper", "middle", "lower")
_COLUMNS = ("left", "centre", "right")


def count_half(values: np.ndarray) -> int:
    """Count the largest values that together are half of the sum."""
    sizes = np.sort(values, axis=None)[::-1]
    return int((np.cumsum(sizes) < sizes.sum() / 2).sum()) + 1


def describe_map(heatmap: np.ndarray, signed: np.ndarray | None = None) -> str:
    """Describe where the evidence lies, in one sentence for each sign.

    Args:
        heatmap: (H, W) floats of at least 0; NaN counts as 0.
        signed: (H, W) floats whose negative values speak against the target; None: there are none.

    Returns:
        Such as "Strongest at the upper left; 50% of the evidence on 12% of the image.".
    """
    sentences = [_describe_evidence(heatmap, "Strongest", "evidence")]
    if signed is not None and (signed < 0).any():
        against = -np.minimum(np.nan_to_num(signed), 0)
        sentences.append(_describe_evidence(against, "Against it: strongest", "evidence against"))
    return " ".join(sentences)


def _describe_evidence(values: np.ndarray, start: str, name: str) -> str:
    values = np.nan_to_num(values, posinf=0).clip(min=0).astype(np.float64)
    if not values.any():
        return f"No {name} anywhere."
    if values.min() == values.max():
        return f"The {name} is the same everywhere."
    share = count_half(values) / values.size
    words = "less than 1%" if share < 0.01 else f"{share:.0%}"
    return f"{start} at the {_name_part(values)}; 50% of the {name} on {words} of the image."


def _name_part(values: np.ndarray) -> str:
    """Name the ninth of the image that holds most."""
    sums = np.array(
        [
            [part.mean() if part.size else 0 for part in np.array_split(band, 3, axis=1)]
            for band in np.array_split(values, 3, axis=0)
        ]
    )
    row, column = divmod(int(sums.argmax()), 3)
    if row == 1:
        return "centre" if column == 1 else _COLUMNS[column]
    return f"{_ROWS[row]} {_COLUMNS[column]}"
