"""The sum of many ranks, and their stability over variants."""

import numpy as np
import pandas
import pytest
from scipy import stats

from cam._runs.statistics.rank_votes import (
    describe_votes,
    measure_concordance,
    sum_up_ranks,
    trace_ranks,
)


def metric(key: str, family: str, **parameters: object) -> dict:
    return {
        "key": key, "name": key.split("(")[0], "family": family, "parameters": parameters
    }  # fmt: skip


METRICS = [
    metric("deletion(baseline=0)", "faithfulness", baseline=0, steps=28),
    metric("deletion(baseline=blur)", "faithfulness", baseline="blur", steps=28),
    metric("deletion(baseline=1)", "faithfulness", baseline=1, steps=28),
    metric("road", "faithfulness"),
    metric("pointing_game", "localisation"),
    metric("sparseness", "complexity"),
]
RANKS = pandas.DataFrame(
    [[1, 1, 1, 1, 3, 3], [2, 3, 2, 2, 1, 1], [3, 2, 3, 3, 2, 2]],
    index=["removal", "both", "third"],
    columns=[facts["key"] for facts in METRICS],
    dtype=float,
)


def test_a_family_is_one_vote():
    """By hand: removal has faithfulness 1, localisation 3, complexity 3; of six votes it had 1."""
    assert RANKS.median(axis=1).idxmin() == "removal"
    table = sum_up_ranks(RANKS, METRICS)
    assert table.index[0] == "both" and table.columns[0] == "median rank"
    # Three deletions are averaged to 7/3, with road's 2 to 13/6.
    assert table["median rank"].to_dict() == {"both": 1, "third": 2, "removal": 3}
    road_alone = sum_up_ranks(RANKS.iloc[:, :4], METRICS[:4])
    assert road_alone.loc["both", "median rank"] == pytest.approx(13 / 6)
    assert "faithfulness (deletion(baseline=0), " in describe_votes(METRICS)
    assert "averaged first" not in describe_votes(METRICS[3:])


def test_a_missing_rank_is_no_vote():
    ranks = RANKS.copy()
    ranks.loc["third", "pointing_game"] = np.nan
    assert sum_up_ranks(ranks, METRICS).loc["third", "median rank"] == pytest.approx(
        np.median([np.mean([8 / 3, 3]), 2])
    )


def test_a_method_that_wins_under_one_baseline_only_is_told():
    ranks = RANKS.copy()
    ranks["deletion(baseline=1)"] = [3.0, 2, 1]
    table = trace_ranks(ranks, METRICS)
    assert table["metric"].tolist() == ["deletion"] * 3
    # Only what differs is named.
    assert table["variant"].tolist() == ["baseline=0", "baseline=blur", "baseline=1"]
    assert table["removal"].tolist() == [1, 1, 3]
    truth = stats.friedmanchisquare(*ranks.iloc[:, :3].to_numpy()).statistic / (3 * 2)
    assert table["concordance"].tolist() == pytest.approx([truth] * 3)
    assert table.attrs["remarks"] == [
        "third is the best by deletion under baseline=1 only; under the other 2 it ranks 2 to 3."
    ]
    assert trace_ranks(RANKS, METRICS).attrs["remarks"] == []
    assert trace_ranks(RANKS.iloc[:, 3:], METRICS[3:]).empty


@pytest.mark.parametrize("seed", range(3))
def test_concordance_is_friedmans_statistic_over_its_most(seed):
    """W = χ² / (m (k - 1)), with ties as SciPy's Friedman test has them."""
    ranks = np.random.default_rng(seed).integers(1, 6, (4, 7)).astype(float)
    truth = stats.friedmanchisquare(*ranks.T).statistic / (4 * 6)
    assert measure_concordance(ranks) == pytest.approx(truth)


def test_the_ends_of_concordance():
    assert measure_concordance(np.array([[1.0, 2, 3]] * 5)) == 1
    assert measure_concordance(np.array([[1.0, 2], [2, 1]])) == 0
    assert np.isnan(measure_concordance(np.ones((3, 3))))
    assert np.isnan(measure_concordance(np.array([[1.0, 2, 3]])))
