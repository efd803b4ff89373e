"""Whether metrics agree, against SciPy's Kendall."""

import numpy as np
import pandas
import pytest
from scipy import stats

from cam._runs.statistics.metric_agreement import measure_agreement


def frame(**columns: list[float]) -> pandas.DataFrame:
    return pandas.DataFrame(columns)


def alone(values: pandas.DataFrame) -> pandas.Series:
    """Each image its own group."""
    return pandas.Series(values.index.astype(str), values.index)


def test_agreement_is_kendalls_tau_image_by_image():
    random = np.random.default_rng(0)
    scores = {
        name: pandas.DataFrame(random.normal(0, 1, (20, 5)).round(1), columns=list("abcde"))
        for name in ("one", "two")
    }
    scores["one"].iloc[4, 2] = np.nan
    answer = measure_agreement(scores, alone(scores["one"]), {"one": 1, "two": -1})
    taus = [
        stats.kendalltau(scores["one"].loc[row], -scores["two"].loc[row]).statistic
        for row in range(20)
        if row != 4
    ]
    assert answer.loc["one", "two"] == pytest.approx(np.mean(taus))
    assert answer.loc["two", "one"] == answer.loc["one", "two"]
    assert answer.loc["one", "one"] == pytest.approx(1)
    assert answer.attrs["n"].loc["one", "two"] == 19


def test_metrics_that_say_the_opposite_disagree():
    up = frame(a=[1.0, 2], b=[2.0, 3], c=[3.0, 4])
    answer = measure_agreement(
        {"up": up, "down": -up, "same": up * 9}, alone(up), dict.fromkeys(("up", "down", "same"), 1)
    )
    assert answer.loc["up", "down"] == pytest.approx(-1)
    assert answer.loc["up", "same"] == pytest.approx(1)
    flat = frame(a=[1.0], b=[1.0])
    assert np.isnan(measure_agreement({"flat": flat}, alone(flat), {"flat": 1}).loc["flat", "flat"])


def test_images_of_a_group_are_averaged_first():
    """τ of 1 on the three images of one group, of -1 on the image of another: 0, not 1/2."""
    up = frame(a=[1.0, 2, 3, 4], b=[2.0, 3, 4, 5])
    other = up.copy()
    other.loc[3] = [5.0, 4]
    groups = pandas.Series(["x", "x", "x", "y"])
    answer = measure_agreement({"up": up, "other": other}, groups, {"up": 1, "other": 1})
    assert answer.loc["up", "other"] == pytest.approx(0)
    assert answer.attrs["n"].loc["up", "other"] == 4
