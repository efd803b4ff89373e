"""Write measured figures with as many digits as they deserve."""

import math

from cam._performance.timing import Estimate

# Ratios of the interval's width to the median, above which a third digit would say nothing.
_WIDE = 0.1


def write_figure(value: float, digits: int) -> str:
    """Write a positive number rounded to significant digits."""
    if not value > 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    rounded = float(f"{value:.{digits}g}")
    behind = max(0, digits - 1 - math.floor(math.log10(rounded)))
    return f"{rounded:,.{behind}f}"


def count_digits(estimate: Estimate) -> int:
    """Count the digits that a figure deserves: three, or two where its interval is wide."""
    if not estimate.bounded:
        return 2
    return 2 if estimate.high - estimate.low > _WIDE * estimate.median else 3


def write_estimate(estimate: Estimate, unit: str = "") -> str:
    """Write a median with its interval, such as "24.1 images/s (22.8–25.0)"."""
    return f"{write_median(estimate)}{unit}{write_interval(estimate)}"


def write_median(estimate: Estimate) -> str:
    """Write a median without its interval."""
    return write_figure(estimate.median, count_digits(estimate))


def write_interval(estimate: Estimate, scale: float = 1) -> str:
    """Write an interval in brackets behind its median; nothing where there is none."""
    if not estimate.bounded:
        return ""
    digits = count_digits(estimate)
    low, high = (write_figure(scale * end, digits) for end in (estimate.low, estimate.high))
    return f" ({low}–{high})"


def write_percent(estimate: Estimate) -> str:
    """Write a ratio's median in percent."""
    return f"{write_figure(100 * estimate.median, count_digits(estimate))} %"


def describe_interval(estimate: Estimate, scale: float = 1, unit: str = "") -> str:
    """Describe an interval in words; that there are too few rounds where there is none."""
    if not estimate.bounded:
        return "too few rounds for an interval"
    digits = count_digits(estimate)
    low, high = (write_figure(scale * end, digits) for end in (estimate.low, estimate.high))
    return f"95 % interval {low} to {high}{unit}"


def get_interval(estimate: Estimate) -> tuple[float, float] | None:
    """Return an interval for a bar; None where there is none."""
    return (estimate.low, estimate.high) if estimate.bounded else None
