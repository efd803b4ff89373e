"""Format durations and sizes; parse typed values."""

import ast
from typing import Any


def duration(seconds: float) -> str:
    """Format seconds as ``40 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Format bytes in powers of 1000: ``14.9 kB``, ``3.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def value_of(text: str) -> Any:
    """Parse a typed number, tuple or None; return other text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
