"""Advice on runs whose scores were drawn with a known answer."""

import numpy as np
import pytest

from tests.cam._runs.results.test_leaderboard import stored


def scores(shifts: list[list[float]], groups: int, noise: float, seed: int = 0) -> np.ndarray:
    """Scores (images, methods, metrics) with these means."""
    means = np.array(shifts)
    return means + noise * np.random.default_rng(seed).normal(size=(groups, *means.shape))


def test_a_clear_winner_is_recommended_with_its_share(tmp_path):
    run = stored(tmp_path / "r", scores([[0.8, 0.2], [0.5, 0.5], [0.4, 0.6]], 40, 0.1), (1, -1))
    advice = run.advice()
    assert advice.method == "m0" and advice.confidence == 1 and advice.equals == ()
    assert "Use m0" in advice.reasons[0] and "40 independent groups" in advice.reasons[0]
    assert "better than another method by more than noise in 4 of 4 tests" in str(advice)
    assert advice.changes == (
        "No family of metrics and no variant of a metric puts another method first.",
    )


def test_methods_that_are_alike_are_named_and_nothing_is_settled(tmp_path):
    run = stored(tmp_path / "r", scores([[0.5], [0.5], [0.1]], 30, 0.2))
    advice = run.advice()
    (equal,) = advice.equals
    assert {advice.method, equal} == {"m0", "m1"}
    assert advice.confidence < 0.9 and "not settled by this run" in str(advice)
    assert any("of the resamples; four times as many groups" in text for text in advice.changes)


def test_the_share_of_resamples_is_what_the_normal_distribution_says(tmp_path):
    """Of two methods, P(mean of resampled differences > 0) = Φ(√n · mean / deviation)."""
    from scipy import stats

    values = scores([[0.5], [0.47]], 50, 0.1, seed=3)
    difference = (values[:, 0] - values[:, 1])[:, 0]
    expected = stats.norm.cdf(difference.mean() / (difference.std() / np.sqrt(50)))
    run = stored(tmp_path / "r", values)
    advice = run.advice()
    share = advice.confidence if advice.method == "m0" else 1 - advice.confidence
    assert share == pytest.approx(expected, abs=0.04)


def test_what_one_family_would_choose_is_said(tmp_path):
    run = stored(tmp_path / "r", scores([[0.8, 0.8, 0.2], [0.5, 0.5, 0.9]], 30, 0.05), (1, 1, 1))
    advice = run.advice()
    assert advice.method == "m0"
    assert "If k2 alone counted, m1 would be first." in advice.changes
    assert any(text.startswith("By k2 m1 is better (0.7") for text in advice.changes)


def test_too_few_groups_and_a_single_method_get_no_name(tmp_path):
    few = stored(tmp_path / "few", scores([[0.9], [0.1]], 7, 0.01)).advice()
    assert few.method is None and "7 independent groups, and 8 are needed" in few.reasons[0]
    # 40 images of one group are one.
    values = scores([[0.9], [0.1]], 40, 0.01)
    alike = stored(tmp_path / "alike", values, groups=["photos"] * 40).advice()
    assert alike.method is None and "1 independent group," in alike.reasons[0]
    single = stored(tmp_path / "single", scores([[0.9]], 20, 0.01)).advice()
    assert single.method is None and "fewer than two methods" in single.reasons[0]
    undefined = stored(tmp_path / "nan", np.full((20, 2, 1), np.nan)).advice()
    assert undefined.method is None and "0 independent groups" in undefined.reasons[0]


def test_a_method_must_beat_a_map_that_knows_nothing(tmp_path):
    run = stored(tmp_path / "r", scores([[0.5], [0.45], [0.5]], 30, 0.2))
    run.config["methods"][2]["name"] = "randomcam"
    advice = run.advice()
    assert advice.method is None and "knows nothing of the model" in advice.reasons[0]
    better = stored(tmp_path / "b", scores([[0.9], [0.45], [0.5]], 30, 0.2))
    better.config["methods"][2]["name"] = "randomcam"
    assert better.advice().method == "m0"


def test_a_method_that_a_metric_leaves_out_is_named(tmp_path):
    values = scores([[0.8, 0.8], [0.5, 0.5], [0.9, 0.9]], 20, 0.05)
    values[:, 2, 1] = np.nan
    advice = stored(tmp_path / "r", values, (1, 1)).advice()
    assert advice.method == "m0"
    assert "m2 did not count: some metric has no value of it." in advice.changes


def test_sparse_maps_alone_recommend_no_method(tmp_path):
    """A map of one pixel at a wrong place is as sparse as can be."""
    run = stored(tmp_path / "r", scores([[0.9, 0.9], [0.1, 0.1]], 40, 0.01), (1, 1))
    assert run.advice().method == "m0"
    for facts in run.config["metrics"]:
        facts["family"] = "complexity"
    advice = run.advice()
    assert advice.method is None and "how sparse a map is" in advice.reasons[0]
    run.config["metrics"][0]["family"] = "faithfulness"
    assert run.advice().method == "m0"
