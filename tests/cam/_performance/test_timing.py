"""Interleaved timing, on a clock that the test turns."""

import pytest

import cam
from cam._performance.timing import Timing, interleaved


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
    assert order == ["a", "b"] * 4
    assert timings["a"].seconds == (1, 5, 3) and timings["a"].median == 3
    assert timings["b"].median == 2
    assert timings["b"].over(timings["a"]) == 2  # of 2, 0.4 and 3
    assert [share for share, _ in reports] == [runs / 8 for runs in range(1, 9)]
    assert reports[1][1] == {} and reports[2][1] == {"a": 1} and reports[-1][1] == {"a": 3, "b": 3}


def test_an_answer_of_false_ends_it():
    runs = []
    with pytest.raises(cam.Cancelled):
        interleaved({"a": lambda: runs.append(1)}, 5, 0, report=lambda share, _: share < 0.4)
    assert len(runs) == 2


def test_an_even_number_of_rounds_has_the_middle_of_two():
    assert Timing((1, 4, 2, 8)).median == 3
