"""Running moments in plain torch: the kernel's truth, and the CPU's way."""

from torch import Tensor


def update_moments(samples: Tensor, mean: Tensor, deviations: Tensor, count: int) -> None:
    """Update a running mean and sum of squared deviations, in place.

    Welford's recurrence (1962, "Note on a Method for Calculating Corrected Sums of Squares and
    Products"), one sample after another: with n the count up to this sample, d = x - mean;
    mean += d / n; deviations += d (x - mean). A mean that is not finite stays so.

    Args:
        samples: (N, M), floating point.
        mean: (M,), float32, or float64 for float64; not read if `count` is zero.
        deviations: The same.
        count: Samples taken so far.
    """
    if count == 0:
        mean.zero_()
        deviations.zero_()
    for sample in samples:
        count += 1
        value = sample.to(mean.dtype)
        step = value - mean
        mean.addcdiv_(step, step.new_full((), count))
        deviations.addcmul_(step, value - mean)
