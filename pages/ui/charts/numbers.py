"""Write numbers as people read them."""

import math

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def format_value(value: float) -> str:
    """Write a number in three digits, with a true minus and powers of ten."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(float(value))
    size = abs(value)
    text = f"{size:,.0f}" if size >= 1000 else f"{size:#.3g}".rstrip(".")
    if "e" in text:
        digits, power = text.split("e")
        text = f"{digits} × 10{str(int(power)).translate(_RAISED)}"
    return f"−{text}" if value < 0 else text


def format_cell(value: float) -> str:
    """Write a number for a small cell: two digits behind the point, and .12 for 0.12."""
    if abs(value) >= 100:
        return f"{value:.0f}".replace("-", "−")
    text = f"{value:.2f}"
    if float(text) == 0:
        return "0"
    return text.replace("-", "−").replace("0.", ".", 1) if abs(value) < 1 else text


def format_or_dash(value: float, form: str) -> str:
    """Write a measured number; a dash where there is none."""
    return format(value, form).replace("-", "−") if math.isfinite(value) else "–"
