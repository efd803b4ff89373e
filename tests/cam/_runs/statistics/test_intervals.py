"""Intervals against SciPy, binomial sums and simulated coverage."""

import warnings

import numpy as np
import pytest
from scipy import stats

from cam._runs.statistics import intervals
from cam._runs.statistics.intervals import (
    correct_skewness,
    describe_sample,
    estimate_hit_rates,
    estimate_interval,
    estimate_intervals,
    name_interval,
)

COUNTS = (8, 16, 64)
SAMPLES = 20_000
# What 95 % may be off by, and three standard errors of a share of 20,000.
LOWEST, HIGHEST = 0.93 - 3 * np.sqrt(0.05 / SAMPLES), 0.97 + 3 * np.sqrt(0.05 / SAMPLES)


def cover(values: np.ndarray, truth: float) -> float:
    """The share of samples (samples, n) whose interval holds the truth."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples whose values are all one
        skewness = stats.skew(values, axis=1, bias=False)
    low, high = estimate_intervals(
        values.shape[1],
        values.mean(1),
        values.std(1, ddof=1),
        np.nan_to_num(skewness),
        np.isin(values, (0, 1)).all(1),
    )
    return float(((low <= truth) & (truth <= high)).mean())


def test_below_eight_groups_there_is_no_interval():
    """Student's t would need normal values: of skewed ones it holds 80 % for n = 4."""
    for count in range(8):
        assert np.isnan(estimate_interval(np.linspace(0, 1, count))).all()
    assert np.isfinite(estimate_interval(np.linspace(0, 1, 8))).all()
    assert name_interval(1, False) == "too few (1 group)"
    assert name_interval(7, True) == "too few (7 groups)"
    assert describe_sample(4, 64) == (
        "No intervals and no tests: 64 images of 4 groups are too few, and 8 independent groups "
        "are needed."
    )


@pytest.mark.parametrize("count", COUNTS)
def test_without_skewness_it_is_students(count):
    values = np.random.default_rng(count).normal(3, 2, count // 2)
    values = np.concatenate([values, 6 - values])  # even about 3
    truth = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert estimate_interval(values) == pytest.approx(truth, rel=1e-9)


def test_the_ends_are_where_halls_statistic_is_students_quantile():
    """The cubic written again from the paper, and its root found by NumPy."""
    values = np.random.default_rng(0).exponential(1, 12)
    lean = stats.skew(values, bias=False) / np.sqrt(12)
    quantile = stats.t.ppf(0.975, 11)
    ends = []
    for corrected in (quantile, -quantile):
        roots = np.roots([lean**2 / 27, lean / 3, 1, lean / 6 - corrected])
        [student] = roots[np.abs(roots.imag) < 1e-9].real
        assert correct_skewness(student, lean) == pytest.approx(corrected)
        ends.append(values.mean() - student * stats.sem(values))
    assert estimate_interval(values) == pytest.approx(ends, rel=1e-9)
    # Values that are skewed to the right: the mean may lie further up than down.
    assert ends[1] - values.mean() > 1.5 * (values.mean() - ends[0])


@pytest.mark.parametrize("count", [8, 20, 1_000])
def test_values_that_are_all_one_have_no_width(count):
    assert estimate_interval(np.full(count, 0.3)) == pytest.approx((0.3, 0.3), abs=1e-15)


def test_twenty_of_twenty_hits_are_no_certainty():
    """0.5 · 0.861²⁰ = 2.5 %: what is seen counts half."""
    low, high = estimate_interval(np.ones(20))
    assert (low, high) == pytest.approx((0.05 ** (1 / 20), 1))
    assert estimate_interval(np.zeros(20)) == pytest.approx((0, 1 - 0.05 ** (1 / 20)))


@pytest.mark.parametrize(("hits", "count"), [(0, 8), (3, 8), (8, 8), (31, 64), (999, 1_000)])
def test_hit_rates_have_the_mid_p_of_a_binomial(hits, count):
    """At each end the tail's probability, what is seen counting half, is 2.5 %."""
    low, high = estimate_hit_rates(hits, count)
    if hits:
        tail = stats.binom.sf(hits, count, low) + stats.binom.pmf(hits, count, low) / 2
        assert tail == pytest.approx(0.025, rel=1e-9)
    if hits < count:
        tail = stats.binom.cdf(hits - 1, count, high) + stats.binom.pmf(hits, count, high) / 2
        assert tail == pytest.approx(0.025, rel=1e-9)
    exact = stats.binomtest(hits, count).proportion_ci(method="exact")
    assert exact.low <= low <= hits / count <= high <= exact.high


def compute_binary_coverage(rates: np.ndarray, count: int) -> np.ndarray:
    """The coverage of each rate by a sum over all counts of hits: no sample is drawn."""
    hits = np.arange(count + 1)
    low, high = estimate_hit_rates(hits, np.full(count + 1, count))
    inside = (low <= rates[:, None]) & (rates[:, None] <= high)
    return (stats.binom.pmf(hits, count, rates[:, None]) * inside).sum(1)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_hit_rates_are_covered_as_often_as_said(count, rate):
    """Counts are discrete, so the coverage jumps with the rate and 95 % can only be its average.

    Over a tenth of rates around .5 and .9 it is 93 % at least; above 97 % it may be, since of eight
    groups at .9 four in ten samples are all hits, and each of these must hold the rate. At no rate
    at all is it below 92 %.
    """
    around = np.linspace(rate - 0.05, rate + 0.05, 201)
    assert 0.93 <= compute_binary_coverage(around, count).mean() <= (0.985 if rate == 0.9 else 0.97)
    assert compute_binary_coverage(np.linspace(0.001, 0.999, 999), count).min() > 0.92


def test_at_one_half_no_interval_of_few_hits_can_have_95_percent():
    """Even about one half, it holds it for k to n - k hits: what there is to choose from."""
    for count, nearest in ((8, (0.9297, 0.9922)), (16, (0.9232, 0.9787))):
        hits = np.arange(count // 2)
        possible = 1 - 2 * stats.binom.cdf(hits, count, 0.5)
        below, above = possible[possible < 0.95].max(), possible[possible > 0.95].min()
        assert (below, above) == pytest.approx(nearest, abs=1e-4)
        actual = compute_binary_coverage(np.array([0.5]), count)
        assert actual == pytest.approx(min((below, above), key=lambda share: abs(share - 0.95)))


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda random, shape: random.normal(3, 2, shape), 3),
        (lambda random, shape: random.beta(0.3, 2, shape), 0.3 / 2.3),
        (lambda random, shape: -random.beta(0.3, 2, shape), -0.3 / 2.3),
        (lambda random, shape: random.exponential(1, shape), 1),
    ],
    ids=["normal", "beta", "minus-beta", "exponential"],
)
def test_the_interval_holds_the_mean_as_often_as_it_says(draw, truth, count):
    """20,000 samples each. The bootstrap (BCa) before it held beta's mean in 86 % for n = 8."""
    values = draw(np.random.default_rng(count), (SAMPLES, count))
    assert LOWEST <= cover(values, truth) <= HIGHEST


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["normal", "beta"])
def test_items_of_a_group_that_are_alike_count_once(shape):
    """Six items in each of 16 groups, intra-class correlation 0.8; taken as 96 items it fails."""
    random, items = np.random.default_rng(0), 6
    if shape == "normal":
        truth = 0.0
        values = random.normal(0, np.sqrt(0.8), (SAMPLES, 16, 1))
        values = values + random.normal(0, np.sqrt(0.2), (SAMPLES, 16, items))
    else:
        truth = 0.3 / 2.3
        shared = random.beta(0.3, 2, (SAMPLES, 16, 1))
        # Two items of a group share their value with probability 0.8, and so their correlation.
        alone = random.random((SAMPLES, 16, items)) > np.sqrt(0.8)
        values = np.where(alone, random.beta(0.3, 2, alone.shape), shared)
    assert LOWEST <= cover(values.mean(2), truth) <= HIGHEST
    assert cover(values.reshape(SAMPLES, -1), truth) < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_hits_that_come_in_groups_are_covered_at_least_so_often(rate):
    """Ten hits or misses in each of 16 groups, correlation 0.8: never below 93 %.

    The groups' means lie near 0 and 1 with few between, so that the skewness of 16 of them varies
    much and the interval is too wide rather than too narrow: of rate .5 it holds 99 %.
    """
    random, alike = np.random.default_rng(0), 1 / 0.8 - 1
    rates = random.beta(rate * alike, (1 - rate) * alike, (SAMPLES, 16))
    assert cover(random.binomial(10, rates) / 10, rate) >= LOWEST


def test_many_intervals_at_once_are_those_one_by_one():
    random = np.random.default_rng(1)
    samples = [
        random.exponential(1, 9),
        random.integers(0, 2, 30).astype(float),
        np.full(12, 0.5),
        random.normal(0, 1, 5),
    ]
    low, high = estimate_intervals(
        [len(sample) for sample in samples],
        [sample.mean() for sample in samples],
        [sample.std(ddof=1) for sample in samples],
        [stats.skew(sample, bias=False) if np.ptp(sample) else 0 for sample in samples],
        [set(sample) <= {0, 1} for sample in samples],
    )  # fmt: skip
    for sample, *ends in zip(samples, low, high, strict=True):
        assert ends == pytest.approx(estimate_interval(sample), nan_ok=True)
    assert intervals.FEWEST == 8
