"""The leaderboard of a run against NumPy's means of its scores."""

import inspect
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

import cam
from cam._runs.plan.run_plan import FORMAT
from cam._runs.results.run import Run
from cam._runs.statistics.intervals import estimate_interval
from cam._runs.storage.store import Store
from cam._runs.storage.tables import Rows, make_tables

REQUIRED = inspect.Parameter.empty


def stored(
    path,
    values: np.ndarray,
    directions: Sequence[int] = (1,),
    groups: Sequence[str] | None = None,
) -> Run:
    """A run's folder with these scores, (images, methods, metrics); NaN is undefined."""
    images, methods, metrics = values.shape
    ways, whats = [f"m{n}" for n in range(methods)], [f"k{n}" for n in range(metrics)]
    config = {
        "data": {"items": images, "fingerprint": ""},
        "format": FORMAT,
        "shard_size": 16,
        "methods": [{"key": name, "name": name, "parameters": {}} for name in ways],
        "metrics": [
            {"key": name, "name": name, "parameters": {}, "direction": direction, "family": name}
            for name, direction in zip(whats, directions, strict=True)
        ],
    }
    store = Store.create(path, config, {})
    for start in range(0, images, store.block):
        stop = min(start + store.block, images)
        rows = Rows()
        for item in range(start, stop):
            correct, confidence = item % 3 > 0, (item % 10) / 10 + 0.05
            name, label = f"i{item}", f"class {item % 2}"
            group = groups[item] if groups else name
            prediction = (item % 2, label, 0, "x", confidence, 0.5, correct)
            rows.items.append((item, name, group, None, *prediction, None))
            for way, row in zip(ways, values[item], strict=True):
                for what, value in zip(whats, row, strict=True):
                    status = "nan" if np.isnan(value) else "ok"
                    rows.scores.append((item, way, what, float(value), status, None))
        store.write((start, stop), make_tables(rows, ways, whats))
    return Run(store)


@pytest.mark.parametrize("images", [8, 60, 700])
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
        ends = estimate_interval(scores_of_row)
        assert (row.low, row.high) == pytest.approx(ends, rel=1e-5, nan_ok=True)
        assert row.groups == row.n
        assert row.interval == ("t, skewness corrected" if row.n >= 8 else "too few (7 groups)")
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
            assert row.low < row.mean < row.high or row.groups < 8
    with pytest.raises(cam.RunError, match="taken apart by 'clas'; did you mean 'class'"):
        run.leaderboard(by="clas")


def test_all_alike_and_one_alone(tmp_path):
    values = np.full((8, 2, 1), 0.25, np.float32)
    values[1:, 1] = np.nan
    board = stored(tmp_path / "run", values).leaderboard()
    assert board["mean"].tolist() == [0.25, 0.25]
    assert board.loc[0, ["low", "high"]].tolist() == [0.25, 0.25]
    assert board.loc[1, ["low", "high"]].isna().all()
    assert board.loc[1, "interval"] == "too few (1 group)"


def test_a_method_without_any_value_has_no_rank(tmp_path):
    values = np.random.default_rng(0).normal(0, 1, (9, 3, 1)).astype(np.float32)
    values[:, 2] = np.nan
    run = stored(tmp_path / "run", values)
    board = run.leaderboard()
    assert np.isnan(board.loc[2, "rank"])
    assert sorted(board.loc[:1, "rank"]) == [1, 2]
    assert run.comparisons("k0")["holm"].notna().sum() == 1
    assert run.ranks("k0")["n"] == 9 and run.ranks("k0")["absent"] == ["m2"]
    with pytest.raises(cam.RunError, match="no metric 'k9'"):
        run.comparisons("k9")


def test_the_sample_of_a_leaderboard_is_groups(tmp_path):
    """Means of group means, written again with NumPy; some groups lack some values."""
    random = np.random.default_rng(0)
    groups = [f"g{number}" for number in np.sort(random.integers(0, 12, 70))]
    values = random.beta(0.3, 2, (70, 2, 2)).astype(np.float32)
    values[random.random(values.shape) < 0.2] = np.nan
    values[:, 0, 1] = (np.array([name in ("g3", "g5") for name in groups])).astype(np.float32)
    board = stored(tmp_path / "run", values, (1, -1), groups).leaderboard()
    for row in board.itertuples():
        column = values[:, int(row.method[1]), int(row.metric[1])].astype(np.float64)
        means = [np.nanmean(column[np.array(groups) == name]) for name in dict.fromkeys(groups)]
        assert row.n == (~np.isnan(column)).sum() and row.groups == 12
        assert row.n + row.nan == 70
        assert row.mean == pytest.approx(np.mean(means), rel=1e-6)
        assert row.median == pytest.approx(np.median(means), rel=1e-6)
        assert (row.low, row.high) == pytest.approx(estimate_interval(np.array(means)), rel=1e-5)
    # Each group is a hit or a miss: two of twelve, exactly.
    exact = board[(board["method"] == "m0") & (board["metric"] == "k1")].iloc[0]
    assert exact["interval"] == "exact, mid-P" and 0 < exact["low"] < exact["mean"] < exact["high"]


def test_hits_on_every_image_have_an_interval(tmp_path):
    """20 of 20 were "(1.0, 1.0) with 95 % confidence"."""
    board = stored(tmp_path / "run", np.ones((20, 1, 1), np.float32)).leaderboard()
    assert board.loc[0, ["low", "high"]].tolist() == pytest.approx([0.05 ** (1 / 20), 1])


def test_a_run_of_other_tables_is_refused(tmp_path):
    run = stored(tmp_path / "run", np.ones((2, 1, 1), np.float32))
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(cam.RunError, match="written by another version of cam"):
        Run.open(run.path)


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
