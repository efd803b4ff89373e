"""Figures have as many digits as their intervals allow."""

import math

import pytest

from cam._performance.timing import Estimate
from cam.pages.ui.performance.estimates import (
    count_digits,
    describe_interval,
    write_estimate,
    write_figure,
    write_percent,
)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (24.06, 3, "24.1"), (24.06, 2, "24"), (0.01234, 2, "0.012"), (99.96, 3, "100"),
        (9.996, 3, "10.0"), (1234.5, 3, "1,230"), (0, 3, "0"), (math.nan, 3, "nan"),
    ],
)  # fmt: skip
def test_digits(value, digits, text):
    assert write_figure(value, digits) == text


def test_a_wide_interval_takes_a_digit():
    narrow, wide = Estimate(24.06, 23.9, 24.3), Estimate(24.06, 20, 29.3)
    assert (count_digits(narrow), count_digits(wide)) == (3, 2)
    assert write_estimate(narrow, " ms") == "24.1 ms (23.9–24.3)"
    assert write_estimate(wide) == "24 (20–29)"
    assert describe_interval(wide, unit=" s") == "95 % interval 20 to 29 s"


def test_a_ratio_in_percent():
    assert write_percent(Estimate(1.2149, 1.2, 1.23)) == "121 %"
    assert write_percent(Estimate(1.2149, 0.9, 1.6)) == "120 %"


def test_too_few_rounds_have_two_digits_and_no_interval():
    few = Estimate(24.06, math.nan, math.nan)
    assert write_estimate(few) == "24"
    assert describe_interval(few) == "too few rounds for an interval"
