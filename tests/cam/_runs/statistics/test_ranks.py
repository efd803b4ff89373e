"""Ranks against the paper's table and SciPy."""

import numpy as np
import pandas
import pytest
from scipy import stats

from cam._runs.statistics.ranks import compare_ranks


def frame(**columns: list[float]) -> pandas.DataFrame:
    return pandas.DataFrame(columns)


def alone(values: pandas.DataFrame) -> pandas.Series:
    """Each image its own group."""
    return pandas.Series(values.index.astype(str), values.index)


def test_ranks_and_critical_difference_as_in_demsars_paper():
    """Demšar 2006, table 6: four classifiers on 14 data sets, χ² = 9.28, average ranks, CD 1.25."""
    values = frame(
        C45=[0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1, 0.94, 0.619, 0.972,
             0.957],
        C45m=[0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1, 0.962, 0.666, 0.981,
              0.978],
        C45cf=[0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1, 0.965, 0.614,
               0.9751, 0.946],
        C45mcf=[0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1, 0.962, 0.669,
                0.975, 0.970],
    )  # fmt: skip
    answer = compare_ranks(values, alone(values))
    truth = {"C45": 3.143, "C45m": 2.000, "C45cf": 2.893, "C45mcf": 1.964}
    assert answer["ranks"] == pytest.approx(truth, abs=5e-4)
    assert answer["n"] == 14
    # 2.569 · √(4 · 5 / (6 · 14)): the paper's table 5a has q = 2.569 for four at 0.05.
    assert answer["critical_difference"] == pytest.approx(2.569 * np.sqrt(20 / 84), abs=2e-3)
    assert answer["p"] == pytest.approx(stats.friedmanchisquare(*values.to_numpy().T).pvalue)
    # 3.143 - 1.964 = 1.179 is less than 1.25.
    assert answer["nemenyi"].loc["C45", "C45mcf"] > 0.05


def test_ranks_turn_round_where_lower_is_better():
    values = frame(a=[1.0] * 8, b=[2.0] * 8, c=[3.0] * 8)
    assert compare_ranks(values, alone(values), -1)["ranks"] == {"a": 1, "b": 2, "c": 3}
    assert compare_ranks(values, alone(values), 1)["ranks"] == {"a": 3, "b": 2, "c": 1}


def test_ranks_of_what_cannot_be_ranked():
    values = frame(a=[np.nan], b=[1.0])
    answer = compare_ranks(values, alone(values))
    assert np.isnan(answer["critical_difference"]) and answer["absent"] == ["a"]
    assert "fewer than two methods have values" in answer["note"]
    values = frame(a=[1.0] * 9, b=[1.0] * 9, c=[1.0] * 9)
    same = compare_ranks(values, alone(values))
    assert same["ranks"] == {"a": 2, "b": 2, "c": 2}
    assert np.isnan(same["p"])
    nothing = compare_ranks(frame(a=[np.nan] * 3, b=[np.nan] * 3), pandas.Series(list("xyz")))
    assert (nothing["n"], nothing["groups"], nothing["nemenyi"]) == (0, 0, None)


def test_groups_are_ranked_and_not_their_copies():
    """Friedman's statistic of ten groups of seven images is that of the groups' means."""
    random = np.random.default_rng(0)
    means = random.normal(0, 1, (10, 3)) + np.array([0, 0.3, 0.6])
    noise = random.normal(0, 0.5, (10, 7, 3))
    noise -= noise.mean(1, keepdims=True)
    values = pandas.DataFrame((means[:, None] + noise).reshape(70, 3), columns=list("abc"))
    groups = pandas.Series(np.repeat(list("qwertzuiop"), 7))
    answer = compare_ranks(values, groups)
    truth = stats.friedmanchisquare(*means.T)
    assert (answer["n"], answer["groups"]) == (70, 10)
    assert (answer["statistic"], answer["p"]) == pytest.approx(tuple(truth))
    ranks = stats.rankdata(-means, axis=1).mean(0)
    assert list(answer["ranks"].values()) == pytest.approx(ranks.tolist())
    few = compare_ranks(values, groups.map(lambda name: name in "qwert").astype(str))
    assert few["nemenyi"] is None and np.isnan(few["p"])
    assert few["note"] == "Ranks are not tested: too few (2 groups), and 8 are needed."


def test_dropped_images_are_told_and_many_of_them_refuse_the_test():
    """Where a method has no value the image is no random one: easy or hard for it."""
    random = np.random.default_rng(0)
    values = pandas.DataFrame(random.normal(0, 1, (40, 3)), columns=list("abc"))
    values.loc[[3, 5], "a"] = np.nan
    values.loc[5, "b"] = np.nan
    answer = compare_ranks(values, alone(values))
    truth = stats.friedmanchisquare(*values.dropna().to_numpy().T)
    assert answer["p"] == pytest.approx(truth.pvalue)
    assert (answer["n"], answer["dropped"], answer["undefined"]) == (38, 2, {"a": 2, "b": 1})
    assert answer["note"] == (
        "2 of 40 images were left out, as some method has no value there (a on 2, b on 1)."
    )
    values.loc[10:14, "c"] = np.nan
    answer = compare_ranks(values, alone(values))
    assert answer["dropped"] == 7 and answer["nemenyi"] is None and np.isnan(answer["p"])
    assert "more than a tenth" in answer["note"] and "c on 5" in answer["note"]
    # A picture that no method has a value of says nothing of any, and one without all is left out.
    values = values.assign(d=np.nan).drop(index=range(10, 15))
    values.loc[20:29] = np.nan
    answer = compare_ranks(values, alone(values))
    assert (answer["dropped"], answer["absent"]) == (2, ["d"])
    assert answer["note"].startswith("Without d, of which no image has a value. 2 of 25 images")
    assert np.isfinite(answer["p"])
