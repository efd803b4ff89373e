"""Interleaved timing, on a clock that the test turns."""

import math
import random

import pytest
from scipy import stats

import cam
from cam._performance.timing import Timing, estimate_median, interleaved


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_rounds_take_turns_and_warm_ups_do_not_count():
    clock, order = Clock(), []
    seconds = {"a": iter([100, 1, 5, 3]), "b": iter([100, 2, 2, 9])}

    def run(name):
        def work():
            order.append(name)
            clock.now += next(seconds[name])

        return work

    reports = []
    timings = interleaved(
        {"a": run("a"), "b": run("b")},
        rounds=3,
        warm_up=1,
        report=lambda share, so_far: reports.append(
            (share, {k: len(v.seconds) for k, v in so_far.items()})
        ),
        clock=clock,
    )
    assert order == ["a", "b", "b", "a"] * 2, "nobody always follows the same one"
    assert timings["a"].seconds == (1, 5, 3) and timings["a"].median == 3
    assert timings["b"].median == 2
    assert timings["b"].over(timings["a"]).median == 2  # of 2, 0.4 and 3
    assert [share for share, _ in reports] == [runs / 8 for runs in range(1, 9)]
    assert reports[1][1] == {} and reports[2][1] == {"b": 1} and reports[-1][1] == {"a": 3, "b": 3}


def test_an_answer_of_false_ends_it():
    runs = []
    with pytest.raises(cam.Cancelled):
        interleaved({"a": lambda: runs.append(1)}, 5, 0, report=lambda share, _: share < 0.4)
    assert len(runs) == 2


def test_an_even_number_of_rounds_has_the_middle_of_two():
    assert Timing((1, 4, 2, 8)).median == 3


@pytest.mark.parametrize("count", range(6, 40))
def test_the_interval_of_a_median_is_scipys(count):
    values = [random.Random(count).lognormvariate(0, 1) for _ in range(count)]
    estimate = estimate_median(values)
    truth = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == (truth.low, truth.high)


def test_the_interval_holds_the_true_median_as_often_as_it_says():
    draw = random.Random(0)
    estimates = [
        estimate_median([draw.lognormvariate(0, 1) for _ in range(9)]) for _ in range(4000)
    ]
    held = sum(estimate.low <= 1 <= estimate.high for estimate in estimates) / 4000
    # 96.1 %, whatever the distribution; four standard errors.
    assert held == pytest.approx(1 - 20 / 512, abs=4 * math.sqrt(0.039 * 0.961 / 4000))


def test_few_rounds_have_no_interval():
    # The range of five holds the median in 93.75 % only.
    assert not estimate_median([1, 2, 3, 4, 5]).bounded
    assert estimate_median([6, 1, 2, 3, 4, 5]) == (3.5, 1, 6)


def test_a_ratio_is_taken_within_a_round_and_is_not_that_of_the_medians():
    # The machine gets slower by the round, alike for both: each ratio is 2.
    slow, fast = Timing((2, 4, 8, 16, 32, 64)), Timing((1, 2, 4, 8, 16, 32))
    assert slow.over(fast) == (2, 2, 2) and fast.over(slow) == (0.5, 0.5, 0.5)
    # Where rounds differ it is not the quotient of the medians, which is 3 here.
    assert Timing((3, 1, 10)).over(Timing((1, 1, 5))).median == 2
    assert Timing((4, 9)).over(Timing((2,))).median == 2, "the round that goes on does not count"
