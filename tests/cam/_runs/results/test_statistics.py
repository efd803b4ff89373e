"""Statistics against SciPy, and against cases that were worked out by hand."""

import inspect
import subprocess
import sys

import numpy as np
import pandas
import pytest
from scipy import stats

import cam
from cam._runs.results import statistics
from cam._runs.results.run import Run
from cam._runs.storage.store import Store
from cam._runs.storage.tables import Rows, make_tables

METHODS = ("a", "b", "c")
REQUIRED = inspect.Parameter.empty


def frame(**columns: list[float]) -> pandas.DataFrame:
    return pandas.DataFrame(columns)


# Intervals


@pytest.mark.parametrize(
    "draw",
    [
        lambda random, n: random.normal(3, 2, n),
        lambda random, n: random.exponential(1, n),
        lambda random, n: random.beta(0.5, 3, n),
    ],
    ids=["normal", "exponential", "beta"],
)
def test_moments_give_what_the_bootstrap_tends_to(draw):
    """100,000 resamples of 257 values: both ends within 1 % of the interval's width."""
    values = draw(np.random.default_rng(0), statistics.EXACT + 1)
    low, high = statistics.estimate_interval(values)
    truth = stats.bootstrap(
        (values,), np.mean, n_resamples=100_000, method="BCa", batch=2_000, rng=1
    ).confidence_interval
    width = truth.high - truth.low
    assert abs(low - truth.low) < 0.01 * width
    assert abs(high - truth.high) < 0.01 * width


def test_few_values_are_drawn_again_by_scipy():
    values = np.random.default_rng(0).exponential(1, 40)
    low, high = statistics.estimate_interval(values)
    truth = stats.bootstrap((values,), np.mean, n_resamples=20_000, rng=1).confidence_interval
    assert (low, high) == pytest.approx((truth.low, truth.high), abs=0.03)
    assert statistics.estimate_interval(values) == (low, high)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """2,000 samples of 300 from an exponential: 95 %, give or take three standard errors."""
    random = np.random.default_rng(0)
    samples = random.exponential(1, (2_000, 300))
    low, high = statistics.estimate_interval_from_moments(
        300, samples.mean(1), samples.std(1, ddof=1), stats.skew(samples, axis=1)
    )
    covered = ((low <= 1) & (high >= 1)).mean()
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 2_000) + 0.003


@pytest.mark.parametrize("count", [2, 20, 1_000])
def test_values_that_are_all_one_have_no_width(count):
    assert statistics.estimate_interval(np.full(count, 0.3)) == pytest.approx((0.3, 0.3), abs=1e-15)


def test_one_value_has_no_interval():
    assert np.isnan(statistics.estimate_interval(np.array([1.0]))).all()
    assert np.isnan(statistics.estimate_interval(np.array([]))).all()


# Paired tests and ranks


def test_pairs_against_scipy_with_holms_correction_by_hand():
    random = np.random.default_rng(0)
    base = random.normal(0, 1, 50)
    values = frame(
        a=base, b=base + random.normal(0.3, 0.5, 50), c=base + random.normal(0.05, 0.5, 50)
    )
    values.loc[3, "a"] = np.nan
    table = statistics.compare_pairs(values).set_index(["better", "worse"])
    pairs = [("b", "a"), ("c", "a"), ("b", "c")]
    assert set(table.index) == set(pairs)
    raw = []
    for better, worse in pairs:
        both = values[[better, worse]].dropna()
        raw.append(stats.wilcoxon(both[better], both[worse]).pvalue)
        row = table.loc[(better, worse)]
        assert row["n"] == len(both) == (50 if "a" not in (better, worse) else 49)
        assert row["p"] == pytest.approx(raw[-1])
        assert row["difference"] == pytest.approx((both[better] - both[worse]).mean())
        assert row["low"] < row["difference"] < row["high"]
        assert row["wins"] == (both[better] > both[worse]).sum()
    # The smallest p times 3, the next times 2, the largest as it is, never falling.
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.array(raw)[order] * np.array([3, 2, 1])).clip(max=1)
    for pair, corrected in zip(order, holm, strict=True):
        assert table.loc[pairs[pair], "holm"] == pytest.approx(corrected)


def test_where_lower_is_better_the_lower_one_is():
    table = statistics.compare_pairs(frame(a=[1.0, 2, 3, 4], b=[2.0, 3, 4, 5]), -1)
    (row,) = table.to_dict("records")
    assert (row["better"], row["worse"], row["difference"]) == ("a", "b", -1)
    assert (row["wins"], row["losses"]) == (4, 0)


def test_no_difference_at_all():
    (row,) = statistics.compare_pairs(frame(a=[1.0, 2], b=[1.0, 2])).to_dict("records")
    assert (row["difference"], row["p"], row["holm"]) == (0, 1, 1)
    (row,) = statistics.compare_pairs(frame(a=[np.nan, 1], b=[1, np.nan])).to_dict("records")
    assert (row["n"], np.isnan(row["holm"])) == (0, True)


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
    answer = statistics.compare_ranks(values)
    truth = {"C45": 3.143, "C45m": 2.000, "C45cf": 2.893, "C45mcf": 1.964}
    assert answer["ranks"] == pytest.approx(truth, abs=5e-4)
    assert answer["n"] == 14
    # 2.569 · √(4 · 5 / (6 · 14)): the paper's table 5a has q = 2.569 for four at 0.05.
    assert answer["critical_difference"] == pytest.approx(2.569 * np.sqrt(20 / 84), abs=2e-3)
    assert answer["p"] == pytest.approx(stats.friedmanchisquare(*values.to_numpy().T).pvalue)
    # 3.143 - 1.964 = 1.179 is less than 1.25.
    assert answer["nemenyi"].loc["C45", "C45mcf"] > 0.05


def test_ranks_turn_round_where_lower_is_better_and_rows_with_nan_are_left_out():
    values = frame(a=[1.0, 1, 1, np.nan], b=[2.0, 2, 2, 0], c=[3.0, 3, 3, 0])
    answer = statistics.compare_ranks(values, -1)
    assert answer["ranks"] == {"a": 1, "b": 2, "c": 3}
    assert answer["n"] == 3
    assert statistics.compare_ranks(values, 1)["ranks"] == {"a": 3, "b": 2, "c": 1}


def test_ranks_of_what_cannot_be_ranked():
    assert np.isnan(statistics.compare_ranks(frame(a=[np.nan], b=[1.0]))["critical_difference"])
    same = statistics.compare_ranks(frame(a=[1.0, 1], b=[1.0, 1], c=[1.0, 1]))
    assert same["ranks"] == {"a": 2, "b": 2, "c": 2}
    assert np.isnan(same["p"])


# Agreement


def test_agreement_is_kendalls_tau_image_by_image():
    random = np.random.default_rng(0)
    scores = {
        name: pandas.DataFrame(random.normal(0, 1, (20, 5)).round(1), columns=list("abcde"))
        for name in ("one", "two")
    }
    scores["one"].iloc[4, 2] = np.nan
    answer = statistics.measure_agreement(scores, {"one": 1, "two": -1})
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
    answer = statistics.measure_agreement({"up": up, "down": -up, "same": up * 9}, dict.fromkeys(
        ("up", "down", "same"), 1))  # fmt: skip
    assert answer.loc["up", "down"] == pytest.approx(-1)
    assert answer.loc["up", "same"] == pytest.approx(1)
    flat = frame(a=[1.0], b=[1.0])
    assert np.isnan(statistics.measure_agreement({"flat": flat}, {"flat": 1}).loc["flat", "flat"])


# The leaderboard of a run


def stored(path, values: np.ndarray, directions=(1,), shard: int = 16) -> Run:
    """A run's folder with these scores, (images, methods, metrics); NaN is undefined."""
    images, methods, metrics = values.shape
    ways, whats = [f"m{n}" for n in range(methods)], [f"k{n}" for n in range(metrics)]
    config = {
        "data": {"items": images, "fingerprint": ""},
        "shard_size": shard,
        "methods": [{"key": name, "name": name, "parameters": {}} for name in ways],
        "metrics": [
            {"key": name, "name": name, "parameters": {}, "direction": direction}
            for name, direction in zip(whats, directions, strict=True)
        ],
    }
    store = Store.create(path, config, {})
    for start in range(0, images, store.block):
        stop = min(start + store.block, images)
        rows = Rows()
        for item in range(start, stop):
            correct, confidence = item % 3 > 0, (item % 10) / 10 + 0.05
            rows.items.append(
                (item, f"i{item}", None, item % 2, f"class {item % 2}", 0, "x", confidence, 0.5,
                 correct, None)
            )  # fmt: skip
            for way, row in zip(ways, values[item], strict=True):
                for what, value in zip(whats, row, strict=True):
                    status = "nan" if np.isnan(value) else "ok"
                    rows.scores.append((item, way, what, float(value), status, None))
        store.write((start, stop), make_tables(rows, ways, whats))
    return Run(store)


@pytest.mark.parametrize("images", [60, 700], ids=["drawn", "moments"])
def test_the_leaderboard_is_numpys_of_the_scores(tmp_path, images):
    values = np.random.default_rng(0).beta(2, 3, (images, 3, 2)).astype(np.float32)
    values[4, 1, 0] = np.nan
    run = stored(tmp_path / "run", values, directions=(1, -1))
    board = run.leaderboard()
    assert len(board) == 6
    for row in board.itertuples():
        scores_of_row = values[:, int(row.method[1]), int(row.metric[1])].astype(np.float64)
        scores_of_row = scores_of_row[~np.isnan(scores_of_row)]
        assert row.mean == pytest.approx(scores_of_row.mean(), rel=1e-6)
        assert row.median == pytest.approx(np.median(scores_of_row), rel=1e-6)
        assert (row.n, row.nan, row.failed, row.skipped) == (
            len(scores_of_row),
            images - len(scores_of_row),
            0,
            0,
        )
        assert (row.low, row.high) == pytest.approx(
            statistics.estimate_interval(scores_of_row), rel=1e-5
        )
    for metric, sign in (("k0", -1), ("k1", 1)):
        rows = board[board["metric"] == metric]
        assert rows["rank"].tolist() == stats.rankdata(sign * rows["mean"]).tolist()


def test_the_leaderboard_apart(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (60, 2, 1)).astype(np.float32)
    run = stored(tmp_path / "run", values)
    items = np.arange(60)
    groups = {
        "class": {"class 0": items % 2 == 0, "class 1": items % 2 == 1},
        "correct": {"correct": items % 3 > 0, "wrong": items % 3 == 0},
        "confidence": {
            "0.00–0.25": items % 10 < 2,
            "0.25–0.50": (items % 10 >= 2) & (items % 10 < 5),
            "0.50–0.75": (items % 10 >= 5) & (items % 10 < 7),
            "0.75–1.00": items % 10 >= 7,
        },
    }
    for by, parts in groups.items():
        board = run.leaderboard(by=by)
        assert board.columns[0] == by
        assert set(board[by]) == set(parts)
        for row in board.itertuples(index=False):
            scores_of_row = values[parts[row[0]], int(row.method[1]), 0]
            assert row.n == len(scores_of_row)
            assert row.mean == pytest.approx(scores_of_row.mean(), rel=1e-5, abs=1e-7)
            assert row.low < row.mean < row.high
    with pytest.raises(cam.RunError, match="taken apart by 'clas'; did you mean 'class'"):
        run.leaderboard(by="clas")


def test_all_alike_and_one_alone(tmp_path):
    values = np.full((5, 2, 1), 0.25, np.float32)
    values[1:, 1] = np.nan
    board = stored(tmp_path / "run", values).leaderboard()
    assert board["mean"].tolist() == [0.25, 0.25]
    assert board.loc[0, ["low", "high"]].tolist() == [0.25, 0.25]
    assert board.loc[1, ["low", "high"]].isna().all()


def test_a_method_without_any_value_has_no_rank(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (9, 3, 1)).astype(np.float32)
    values[:, 2] = np.nan
    run = stored(tmp_path / "run", values)
    board = run.leaderboard()
    assert np.isnan(board.loc[2, "rank"])
    assert sorted(board.loc[:1, "rank"]) == [1, 2]
    assert run.comparisons("k0")["holm"].notna().sum() == 1
    assert run.ranks("k0")["n"] == 0
    with pytest.raises(cam.RunError, match="no metric 'k9'"):
        run.comparisons("k9")


LARGE = """
import sys, time
from pathlib import Path
from cam._runs.results.run import Run
run = Run.open(sys.argv[1])
start = time.perf_counter()
board = run.leaderboard()
seconds = time.perf_counter() - start
assert len(board) == 100 and (board["n"] == 100_000).all()
# Not getrusage: it begins with the peak of the process that started this one.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
print(seconds, int(peak.split()[1]) / 2**20)
"""


@pytest.mark.slow
def test_ten_million_scores_are_a_leaderboard_in_three_seconds_and_a_gigabyte(tmp_path):
    """From disk, imports included; the memory is the whole process's, torch included."""
    import pyarrow as arrow

    images = 100_000
    random = np.random.default_rng(0)
    small = stored(tmp_path / "run", np.zeros((1, 10, 10)), directions=(1,) * 10)
    store = Store(small.path, {**small.store.facts})
    config = small.store.facts["config"]
    config["data"]["items"] = images
    (small.path / "run.json").unlink()
    store = Store.create(small.path, config, {})
    schema = arrow.parquet.read_schema(store.files("scores")[0])
    empty = make_tables(Rows(), [], [])
    store.clear()
    names = {name: [f"{name}{n}" for n in range(10)] for name in "mk"}
    for start in range(0, images, 4_000):
        count = 4_000
        way = np.tile(np.repeat(np.arange(10, dtype=np.int16), 10), count)
        what = np.tile(np.arange(10, dtype=np.int16), 10 * count)
        rows = len(way)
        table = arrow.table(
            [
                arrow.array(np.repeat(np.arange(start, start + count, dtype=np.int32), 100)),
                arrow.DictionaryArray.from_arrays(way, names["m"]),
                arrow.DictionaryArray.from_arrays(what, names["k"]),
                arrow.array(random.beta(2, 3, rows).astype(np.float32)),
                arrow.DictionaryArray.from_arrays(np.zeros(rows, np.int16), ["ok"]),
                arrow.nulls(rows, arrow.string()),
            ],
            schema=schema,
        )
        store.write((start, start + count), {**empty, "scores": table})
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(small.path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    seconds, gigabytes = map(float, done.stdout.split())
    assert seconds < 3, seconds
    assert gigabytes < 1, gigabytes


def test_a_runs_methods_are_the_documented_functions():
    """Keywords, defaults and docstrings are those of the functions behind them."""
    expected = {
        "leaderboard": {"by": None},
        "extremes": {"metric": REQUIRED, "count": 3},
        "ordered": {
            "metric": REQUIRED,
            "method": REQUIRED,
            "worst": False,
            "start": 0,
            "count": 12,
        },
        "pictures": {"numbers": REQUIRED},
        "class_averages": {"method": REQUIRED},
        "clusters": {
            "method": REQUIRED,
            "label": None,
            "count": None,
            "neighbours": None,
            "most": 8,
            "side": 14,
            "limit": 2000,
            "seed": 0,
        },
    }
    for name, parameters in expected.items():
        method = getattr(cam.Run, name)
        _, *others = inspect.signature(method).parameters.values()
        assert {parameter.name: parameter.default for parameter in others} == parameters
        assert method.__doc__
