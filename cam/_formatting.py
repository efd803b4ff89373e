"""How the command line and the pages say a quantity, and read one that was typed."""

import ast
from typing import Any


def duration(seconds: float) -> str:
    """As a person says it: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float) -> str:
    """Bytes as a person says them, in powers of 1000: ``14.9 kB``, ``3.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def value_of(text: str) -> Any:
    """What was typed: what Python would read as a number, a tuple or None is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text
