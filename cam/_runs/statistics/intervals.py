"""Estimate what a mean may be, from the means of independent groups.

A group is what is independent of the rest: a picture, a scene, a patient. Its images have one mean,
and these means are the sample. Below eight of them nothing is estimated.
"""

from typing import Any

import numpy as np

LEVEL = 0.95
# Of fewer groups no interval holds what it promises: t needs normal values, and nobody can see in
# seven of them whether they are.
FEWEST = 8
# Halvings that bring an end within 1e-15 of where it is.
_HALVINGS = 50


def describe_lack(groups: int) -> str:
    """Say that so few groups have no interval, and how many there are."""
    return f"too few ({groups} group{'' if groups == 1 else 's'})"


def name_interval(groups: int, binary: bool) -> str:
    """Name how an interval was found, or say that there are too few groups for it."""
    if groups < FEWEST:
        return describe_lack(groups)
    return "exact, mid-P" if binary else "t, skewness corrected"


def describe_sample(groups: int, images: int) -> str:
    """Say in a sentence what intervals and tests stand on, or that there are none."""
    many = f"{groups:,} group{'' if groups == 1 else 's'}"
    if groups < FEWEST:
        return (
            f"No intervals and no tests: {images:,} images of {many} are too few, and "
            f"{FEWEST} independent groups are needed."
        )
    return (
        f"Intervals hold the mean with {LEVEL:.0%} confidence, and the sample is what is "
        f"independent: {many} of at most {images:,} images."
    )


def estimate_interval(values: np.ndarray) -> tuple[float, float]:
    """Estimate the 95 % interval of a mean.

    Args:
        values: (n,) means of groups, without NaN.

    Returns:
        (low, high); NaN for fewer than 8 groups.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    count = len(values)
    if count < FEWEST:
        return (np.nan, np.nan)
    deviation = float(values.std(ddof=1))
    flat = not deviation > 1e-12 * max(abs(float(values.mean())), 1e-300)
    skewness = 0.0 if flat else float(stats.skew(values, bias=False))
    binary = bool(np.isin(values, (0, 1)).all())
    low, high = estimate_intervals(count, values.mean(), deviation, skewness, binary)
    return (float(low), float(high))


def estimate_intervals(
    counts: Any, means: Any, deviations: Any, skewnesses: Any, binary: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate 95 % intervals of many means from moments of the groups' means.

    The Student statistic T = √n (m - μ) / s of skewed values is skewed the other way. Hall's cubic
    g(T) = T + a T² / 3 + a² T³ / 27 + a / 6 with a = γ / √n takes that out up to order 1/n and can
    be inverted: μ lies between m - s g⁻¹(±q) / √n. q is Student's quantile and not the normal one,
    so that of normal values the interval is Student's. Where all values are 0 or 1 it is the
    exact one of a binomial count, :func:`estimate_hit_rates`.

    Args:
        counts: n, how many groups, any shape.
        means: m.
        deviations: s, of the sample.
        skewnesses: γ of the sample, corrected for its bias (G1); of fewer than 3 values any number.
        binary: Whether all values are 0 or 1.

    Returns:
        Lower and upper ends; NaN for fewer than 8 groups, the mean itself where all values are one.

    References:
        Hall, On the removal of skewness by transformation, JRSS B 54, 1992; Johnson, Modified t
        tests and confidence intervals for asymmetrical populations, JASA 73, 1978
    """
    # Not scipy.stats, whose import takes longer than ten million scores.
    from scipy import special

    counts, means, deviations, skewnesses, binary = np.broadcast_arrays(
        counts, means, deviations, skewnesses, binary
    )
    counts = counts.astype(np.float64)
    means, deviations = means.astype(np.float64), deviations.astype(np.float64)
    enough = counts >= FEWEST
    counts = np.where(enough, counts, FEWEST)
    flat = ~(deviations > 1e-12 * np.maximum(np.abs(means), 1e-300))
    lean = np.where(flat, 0.0, skewnesses.astype(np.float64)) / np.sqrt(counts)
    error = np.where(flat, 0.0, deviations) / np.sqrt(counts)
    quantile = special.stdtrit(counts - 1, (1 + LEVEL) / 2)
    low = means - error * _undo_correction(quantile, lean)
    high = means - error * _undo_correction(-quantile, lean)
    if binary.any():
        exact = estimate_hit_rates(np.where(binary, np.rint(means * counts), 0), counts)
        low, high = (
            np.where(binary, end, other) for end, other in zip(exact, (low, high), strict=True)
        )
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def correct_skewness(student: np.ndarray, lean: np.ndarray) -> np.ndarray:
    """Compute Hall's g(T) for T and a = γ / √n."""
    cubic = student + lean * student**2 / 3 + lean**2 * student**3 / 27 + lean / 6
    return np.asarray(cubic)


def _undo_correction(corrected: np.ndarray, lean: np.ndarray) -> np.ndarray:
    # Without skewness g is T itself; the quotient would be 0 / 0.
    steep = np.where(np.abs(lean) < 1e-6, 1.0, lean)
    root = 3 / steep * (np.cbrt(1 + steep * (corrected - steep / 6)) - 1)
    return np.where(np.abs(lean) < 1e-6, corrected, root)


def estimate_hit_rates(hits: Any, counts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Estimate 95 % intervals of a rate of hits, which are binomial.

    The mid-P version of Clopper and Pearson's: at the lower end as many hits or more, what is seen
    counting half, have the probability 2.5 %, and as many or fewer have it at the upper end.
    Whatever the rate, it is covered in at least 92 % of the samples, by Wilson's interval in 84 %;
    Clopper and Pearson's own covers the rates of eight groups in 98.6 %, and is that much too wide.

    Args:
        hits: k, any shape.
        counts: n of the same shape, at least 1.

    Returns:
        Lower and upper ends; of no hit the lower is 0, of n hits the upper is 1.

    References:
        Berry and Armitage, Mid-P confidence intervals: a brief review, The Statistician 44, 1995
    """
    hits, counts = np.asarray(hits, np.float64), np.asarray(counts, np.float64)
    return _find_lowest_rate(hits, counts), 1 - _find_lowest_rate(counts - hits, counts)


def _find_lowest_rate(hits: np.ndarray, counts: np.ndarray) -> np.ndarray:
    from scipy import special

    low, high = np.zeros(hits.shape), np.ones(hits.shape)
    some, rest = np.maximum(hits, 1), np.maximum(counts - hits, 1)
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        # P(X ≥ k) and P(X > k) of a binomial X.
        at_least = special.betainc(some, counts - some + 1, rate)
        more = np.where(hits < counts, special.betainc(hits + 1, rest, rate), 0)
        above = (at_least + more) / 2 > (1 - LEVEL) / 2
        low, high = np.where(above, low, rate), np.where(above, rate, high)
    return np.where(hits > 0, low, 0.0)
