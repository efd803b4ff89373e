"""Paired tests against SciPy and cases worked out by hand."""

from itertools import product

import numpy as np
import pandas
import pytest
from scipy import stats

from cam._runs.statistics.intervals import estimate_interval
from cam._runs.statistics.paired_differences import compare_pairs, flip_signs


def frame(**columns: list[float]) -> pandas.DataFrame:
    return pandas.DataFrame(columns)


def alone(values: pandas.DataFrame) -> pandas.Series:
    """Each image its own group."""
    return pandas.Series(values.index.astype(str), values.index)


@pytest.mark.parametrize("seed", range(4))
def test_few_differences_have_scipys_exact_permutation_p(seed):
    values = np.random.default_rng(seed).exponential(1, 10) - 0.4
    truth = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert flip_signs(values) == pytest.approx(truth.pvalue)
    # Differences of 0 have no sign to flip.
    assert flip_signs(np.concatenate([values, np.zeros(50)])) == pytest.approx(truth.pvalue)


@pytest.mark.parametrize("count", [15, 17, 19])
@pytest.mark.parametrize("shift", [0, 0.3, 0.6, 1])
def test_more_differences_have_nearly_the_exact_p(count, shift):
    """All 2ⁿ ways once more, without the approximation: within 8 % down to p of 0.00001."""
    values = np.random.default_rng(count).exponential(1, count) - 1 + shift
    ways = np.array(list(product((-1.0, 1.0), repeat=count)))
    truth = (np.abs(ways @ values) >= abs(values.sum()) * (1 - 1e-12)).mean()
    assert flip_signs(values) == pytest.approx(truth, rel=0.08)


def test_many_differences_are_a_t_test():
    """For thousands both are normal; the statistic is the same, as Σ d² does not change."""
    values = np.random.default_rng(0).normal(0.05, 1, 5_000)
    assert flip_signs(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=0.01)


@pytest.mark.parametrize("count", [9, 40])
def test_hits_that_are_gained_and_lost_have_the_sign_tests_p(count):
    """All of one size, as 0/1 metrics have them: McNemar's exact test."""
    values = np.concatenate([np.ones(count), -np.ones(count // 3), np.zeros(100)])
    truth = stats.binomtest(count, count + count // 3).pvalue
    assert flip_signs(values) == pytest.approx(truth)


def test_all_to_one_side_is_the_least_p_there_is():
    for count in (8, 16, 30):
        values = np.random.default_rng(count).uniform(1, 2, count)
        assert flip_signs(values) == pytest.approx(2 ** (1 - count))
    assert flip_signs(np.zeros(9)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 12, 24, 64])
def test_of_two_equal_methods_five_percent_differ(count):
    random = np.random.default_rng(count)
    values = random.standard_t(3, (4_000, count))  # even about 0, with long tails
    share = np.mean([flip_signs(row) < 0.05 for row in values])
    assert share < 0.05 + 3 * np.sqrt(0.05 / 4_000)
    assert share > 0.05 - 3 * np.sqrt(0.05 / 4_000) - 2 ** (1 - count)


def test_pairs_with_holms_correction_by_hand():
    random = np.random.default_rng(0)
    base = random.normal(0, 1, 50)
    values = frame(
        a=base, b=base + random.normal(0.3, 0.5, 50), c=base + random.normal(0.05, 0.5, 50)
    )
    values.loc[3, "a"] = np.nan
    table = compare_pairs(values, alone(values)).set_index(["better", "worse"])
    pairs = [("b", "a"), ("c", "a"), ("b", "c")]
    assert set(table.index) == set(pairs)
    raw = []
    for better, worse in pairs:
        both = values[[better, worse]].dropna()
        difference = (both[better] - both[worse]).to_numpy()
        truth = stats.permutation_test(
            (difference,), np.mean, permutation_type="samples", n_resamples=99_999, rng=0,
            vectorized=True, batch=10_000,
        ).pvalue  # fmt: skip
        row = table.loc[(better, worse)]
        raw.append(row["p"])
        assert row["p"] == pytest.approx(truth, rel=0.05, abs=1e-4)
        assert row["n"] == row["groups"] == (50 if "a" not in (better, worse) else 49)
        assert row["difference"] == pytest.approx(difference.mean())
        assert (row["low"], row["high"]) == pytest.approx(estimate_interval(difference))
        assert (row["wins"], row["losses"]) == ((difference > 0).sum(), (difference < 0).sum())
    # The smallest p times 3, the next times 2, the largest as it is, never falling.
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.array(raw)[order] * np.array([3, 2, 1])).clip(max=1)
    for pair, corrected in zip(order, holm, strict=True):
        row = table.loc[pairs[pair]]
        assert row["holm"] == pytest.approx(corrected)
        assert row["verdict"] == ("better" if corrected < 0.05 else "noise")


@pytest.mark.parametrize("direction", [1, -1])
def test_ninety_small_losses_and_ten_large_gains_are_told_as_what_they_are(direction):
    """The mean says better, the count says worse; Wilcoxon's p would be evidence for worse."""
    random = np.random.default_rng(0)
    change = np.concatenate([np.full(90, -0.01), np.full(10, 0.5)]) + random.normal(0, 0.001, 100)
    before = random.uniform(0, 1, 100)
    values = frame(before=before, after=before + direction * change)
    (row,) = compare_pairs(values, alone(values), direction).to_dict("records")
    assert (row["better"], row["wins"], row["losses"]) == ("after", 10, 90)
    assert row["remark"] == "better by the mean, but worse on 90 of 100 images"
    truth = stats.permutation_test(
        (change,), np.mean, permutation_type="samples", n_resamples=99_999, rng=0,
        vectorized=True, batch=10_000,
    ).pvalue  # fmt: skip
    assert row["p"] == pytest.approx(truth, rel=0.1) and truth < 0.01
    assert row["verdict"] == "better" and min(row["low"] * direction, row["high"] * direction) > 0
    # With smaller gains the mean is not more than noise, and the count is reported still.
    values = frame(before=before, after=before + direction * np.where(change > 0, 0.11, change))
    (row,) = compare_pairs(values, alone(values), direction).to_dict("records")
    assert row["verdict"] == "noise"
    assert row["remark"] == "better by the mean, but worse on 90 of 100 images"


def test_a_pictures_copies_prove_nothing():
    """Ten pictures, each twenty times: the p is that of the ten."""
    random = np.random.default_rng(2)
    few = random.normal(0.5, 1, 10)
    copies = frame(a=np.repeat(few, 20), b=np.zeros(200))
    groups = pandas.Series(np.repeat(list("abcdefghij"), 20))
    (row,) = compare_pairs(copies, groups).to_dict("records")
    (truth,) = compare_pairs(frame(a=few, b=np.zeros(10)), alone(frame(a=few))).to_dict("records")
    for name in ("difference", "low", "high", "p", "wins", "losses"):
        assert row[name] == pytest.approx(truth[name])
    assert (row["n"], row["groups"], row["verdict"]) == (200, 10, "noise")
    assert stats.ttest_1samp(copies["a"], 0).pvalue < 1e-3  # what the images would say
    # Each group counts once, whatever its size.
    groups = pandas.Series(["x"] * 3 + list("abcdefg"))
    values = frame(a=[3.0, 3, 3, 1, 1, 1, 1, 1, 1, 1], b=[0.0] * 10)
    (row,) = compare_pairs(values, groups).to_dict("records")
    assert row["difference"] == pytest.approx((3 + 7) / 8)


def test_too_few_groups_have_no_verdict():
    values = frame(a=np.arange(1.0, 65), b=np.zeros(64))
    groups = pandas.Series(np.arange(64) % 4).astype(str)
    (row,) = compare_pairs(values, groups).to_dict("records")
    assert row["verdict"] == row["interval"] == "too few (4 groups)"
    assert np.isnan([row["p"], row["holm"], row["low"], row["high"]]).all()
    assert (row["n"], row["groups"], row["wins"], row["losses"]) == (64, 4, 4, 0)


def test_where_lower_is_better_the_lower_one_is():
    values = frame(a=[1.0, 2, 3, 4], b=[2.0, 3, 4, 5])
    (row,) = compare_pairs(values, alone(values), -1).to_dict("records")
    assert (row["better"], row["worse"], row["difference"]) == ("a", "b", -1)
    assert (row["wins"], row["losses"]) == (4, 0)


def test_no_difference_at_all():
    values = frame(a=np.arange(9.0), b=np.arange(9.0))
    (row,) = compare_pairs(values, alone(values)).to_dict("records")
    assert (row["difference"], row["p"], row["holm"], row["verdict"]) == (0, 1, 1, "noise")
    values = frame(a=[np.nan, 1], b=[1, np.nan])
    (row,) = compare_pairs(values, alone(values)).to_dict("records")
    assert (row["n"], row["groups"], np.isnan(row["holm"])) == (0, 0, True)
    assert row["verdict"] == "too few (0 groups)"
