"""Rehearse the check of a GPU on a CPU: steps, refusals, files."""

import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import tails
from benchmarks.gpu.machine import Rehearsal
from benchmarks.gpu.plan import MOST_FAILURES, REHEARSAL, Bench, Budget, Record, Section
from benchmarks.gpu.report import goals, write
from benchmarks.gpu.tails import CAPTUM, COMPILED, FUSED, GRAD_CAM, PLAIN, _tasks
from benchmarks.result_files import RESULTS

NAMES = ["yardsticks", "tests", "end_to_end", "pixels", "tails", "more_tests"]


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


def section(name, run, share=1.0):
    return Section(name, name.title(), share, lambda _plan: name, run)


def check(parts, budget=None, keep=lambda _report: None):
    about = program.about(["python", "-m", "benchmarks.gpu"])
    return program.check(
        Rehearsal(), REHEARSAL, parts, budget or Budget(60), about, keep, lambda _text: None
    )


def nothing(_bench, _record):
    pass


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The whole program, from its arguments to its files."""
    folder = tmp_path_factory.mktemp("rehearsal")
    status = program.main(["--rehearse", "--out", str(folder)])
    (file,) = folder.glob("*.json")
    return status, json.loads(file.read_text()), file.with_suffix(".md").read_text()


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.slow
def test_a_rehearsal_takes_every_step(rehearsal):
    status, results, _ = rehearsal
    sections = [(part["name"], part["status"], part["failures"]) for part in results["sections"]]
    assert sections == [(name, "done", []) for name in NAMES]
    assert status == 0


@pytest.mark.slow
def test_the_file_holds_what_a_program_needs(rehearsal):
    _, results, _ = rehearsal
    assert results["rehearsal"] is True
    assert results["complete"] is True
    assert results["torch"] == torch.__version__
    assert results["command"].startswith("python -m benchmarks.gpu --rehearse --out ")
    assert {"date", "commit", "device", "driver", "triton", "l2_bytes"} <= set(results)
    for part in results["sections"]:
        assert part["seconds"] > 0
        assert set(part) == {
            *("name", "title", "status", "seconds"),
            *("facts", "rows", "unmeasured", "notes", "failures"),
        }


@pytest.mark.slow
def test_every_planned_measurement_is_there(rehearsal):
    _, results, _ = rehearsal
    rows = {part["name"]: part["rows"] for part in results["sections"]}
    planned = {
        (cell.plane.name, *cell.shape, cell.dtype, cell.layout, len(rules), rival.name)
        for cell, rules, rival in _tasks(REHEARSAL, (FUSED, PLAIN, COMPILED, CAPTUM, GRAD_CAM))
    }
    made = {
        (row["layer"], *row["shape"], row["dtype"], row["layout"], row["rules"], row["rival"])
        for row in rows["tails"]
    }
    assert made == planned
    assert len(rows["tails"]) == len(planned)
    for row in rows["tails"]:
        for kind in {"device", "call", "graph"} & set(row):
            assert 0 < row[kind]["low_us"] <= row[kind]["median_us"] <= row[kind]["high_us"]
    roads = [(row["precision"], row["layout"], row["road"]) for row in rows["end_to_end"]]
    assert len(set(roads)) == len(roads) == 2 * 2 * 2
    assert {row["kernel"] for row in rows["pixels"]} == {
        *("gradient_map", "overlay", "masked_batch")
    }


@pytest.mark.slow
def test_bfloat16_and_tf32_leave_the_order_of_the_pixels_nearly_as_it_is(rehearsal):
    _, results, _ = rehearsal
    (rows,) = [part["rows"] for part in results["sections"] if part["name"] == "end_to_end"]
    for row in rows:
        assert row["spearman_lowest"] <= row["spearman_mean"] <= 1 + 1e-9
        assert row["spearman_lowest"] > 0.99


@pytest.mark.slow
def test_a_rehearsal_claims_nothing(rehearsal):
    _, results, page = rehearsal
    assert {goal["verdict"] for goal in results["goals"]} == {"not measured"}
    assert page.startswith("# Rehearsal on a CPU: no figure means anything\n")


@pytest.mark.slow
def test_the_page_has_a_table_a_section(rehearsal):
    _, _, page = rehearsal
    for head in ("## Goals", "## Sections", "### One image", "| grad-cam |", "Spearman, lowest"):
        assert head in page
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count(" | ") for line in table.splitlines()}) == 1


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy, in the interpreter
def test_the_kernels_own_code_passes_through_the_same_steps(monkeypatch):
    """In Triton's interpreter: what is compared with the formulas and counts for the goals."""
    monkeypatch.setenv("CAM_KERNELS", "triton")
    plan = replace(REHEARSAL, planes=REHEARSAL.planes[:1], dtypes=("bf16",))
    record = Record("tails", "Tails", seconds=1.0)
    tails.run(Bench(Rehearsal(), plan, Budget(60)), record)
    fused = [row for row in record.rows if row["rival"] == "fused"]
    assert record.failures == []
    assert {(row["layout"], row["rules"]) for row in fused} == {
        *(("channels-last", 1), ("channels-last", 6), ("contiguous", 1), ("contiguous", 6))
    }
    for row in fused:
        assert row["backend"] == "triton"
        assert row["distance"] < 1e-5
    held = goals({"tails": record}, l2_bytes=0)
    assert [goal.verdict for goal in held[1:3]] == ["missed", "missed"]  # in an interpreter


def test_launches_are_counted_behind_what_the_profiler_could_slow():
    calls = []

    class Watched(Rehearsal):
        def device_time(self, work, seconds):
            calls.append("time")
            return super().device_time(work, seconds)

        def launches(self, work):
            work()
            calls.append("launches")
            return 1

    plan = replace(REHEARSAL, planes=REHEARSAL.planes[1:], batches=(1, 2), dtypes=("fp32",))
    record = Record("tails", "Tails", seconds=1.0)
    tails.run(Bench(Watched(), plan, Budget(60)), record)
    assert record.failures == []
    assert calls == ["time"] * (len(calls) - 2) + ["launches"] * 2
    counted = [row for row in record.rows if "launches" in row]
    assert [(row["rival"], row["shape"][0], row["rules"]) for row in counted] == [
        *(("fused", 1, 6), ("fused", 1, 1))
    ]


def test_a_slow_rival_is_not_let_loose_on_an_input_that_would_outlast_the_time():
    clock = Clock()

    class Slow(Rehearsal):
        def call_time(self, work, seconds):
            clock.now += 10
            return super().call_time(work, seconds)

    plan = replace(REHEARSAL, planes=REHEARSAL.planes[1:], batches=(1, 100), dtypes=("fp32",))
    record = Record("tails", "Tails", seconds=1.0)
    source = tails._Source("cpu")
    tails._stage(Bench(Slow(), plan, Budget(50, clock)), record, (GRAD_CAM,), source, 1.0)
    assert [row["shape"][0] for row in record.rows] == [1, 1]
    (left,) = record.unmeasured
    assert left.startswith("grad-cam: 2 of 4 inputs (out of time); the first is tokens 8×4×4, B =")


def test_without_a_gpu_it_says_what_it_would_do_and_writes_nothing(no_gpu, tmp_path, capsys):
    assert program.main(["--out", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []
    printed = capsys.readouterr().out
    for part in program.sections():
        assert part.title in printed
    for name in ("ResNet-50 layer4 2048×7×7", "ViT-B/16 tokens", "compiled torch", "B = 64, 1"):
        assert name in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rehearse"], "--rehearse needs --out"),
        (["--rehearse", "--out", str(RESULTS)], "not written to results"),
        (["--rehearse", "--out", str(RESULTS / "mine")], "not written to results"),
        (["--budget", "0"], "must be above 0"),
        (["--budget", "nan"], "must be above 0"),
    ],
)
def test_says_what_is_wrong_with_its_arguments(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", ["TRITON_INTERPRET", "CAM_KERNELS"])
def test_refuses_to_measure_kernels_that_are_switched_aside(name, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for other in program.SWITCHES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "reference")
    with pytest.raises(SystemExit) as ended:
        program.main([])
    assert ended.value.code == 2
    assert f"{name} is set" in capsys.readouterr().err


def test_a_section_that_fails_keeps_its_rows_and_lets_the_others_run(capsys):
    def breaks(_bench, record):
        record.rows.append({"row": 1})
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    written = []
    report = check([section("first", breaks), section("second", nothing)], keep=written.append)
    first, second = report.records
    assert first.status == "failed"
    assert first.failures == ["First: RuntimeError: CUDA error: an illegal memory access"]
    assert first.rows == [{"row": 1}]
    assert second.status == "done"
    assert report.failed
    assert [each.complete for each in written] == [False, False, True]
    assert "illegal memory access" in capsys.readouterr().err


def test_a_failure_makes_the_exit_status_1_and_is_in_the_files(monkeypatch, tmp_path, capsys):
    def breaks(_bench, _record):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(program, "sections", lambda: [section("only", breaks)])
    assert program.main(["--rehearse", "--out", str(tmp_path)]) == 1
    (file,) = tmp_path.glob("*.json")
    (part,) = json.loads(file.read_text())["sections"]
    assert part["failures"] == ["Only: RuntimeError: no such kernel"]
    assert "| Only | failed |" in capsys.readouterr().out


class Gpu(Rehearsal):
    """A GPU as far as the program can tell."""

    rehearsal = False

    def facts(self):
        return super().facts() | {"device": "Some GPU 80GB"}


def test_a_real_run_writes_its_devices_files(monkeypatch, tmp_path, capsys):
    def run(_bench, record):
        record.rows.append({"share_of_inference": 0.95, "precision": "bf16", "road": "graph"})
        record.rows[0] |= {"layout": "contiguous", "inference_images_per_s": 1000.0}
        record.rows[0] |= {"gradcam_images_per_s": 950.0, "spearman_lowest": 0.9991}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(program, "Cuda", Gpu)
    monkeypatch.setattr(program, "sections", lambda: [section("end_to_end", run)])
    for name in program.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    assert program.main(["--out", str(tmp_path), "--budget", "60"]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "some-gpu-80gb.json",
        "some-gpu-80gb.md",
    ]
    results = json.loads((tmp_path / "some-gpu-80gb.json").read_text())
    assert results["rehearsal"] is False
    assert [goal["verdict"] for goal in results["goals"]] == ["not measured"] * 4 + ["met"]
    page = (tmp_path / "some-gpu-80gb.md").read_text()
    assert capsys.readouterr().out == page + "\n"
    assert "| bf16 | contiguous | graph | 1,000 | 950 | 0.95 | 0.9991 |  |" in page


def test_what_fails_over_and_over_is_given_up(capsys):
    tried = []

    def breaks(_bench, record):
        for number in range(100):
            with record.attempt(f"input {number}"):
                tried.append(number)
                raise ValueError

    report = check([section("first", breaks), section("second", nothing)])
    assert len(tried) == MOST_FAILURES
    assert report.records[0].failures[-1] == (
        f"{MOST_FAILURES} failures; the rest of the section was not tried"
    )
    assert report.records[1].status == "done"


def test_the_time_is_shared_out_and_what_it_did_not_suffice_for_is_listed():
    clock = Clock()
    budgets = {}

    def takes(name, seconds):
        def run(bench, record):
            budgets[name] = bench.budget.left()
            clock.now += seconds
            if bench.budget.left() <= 0:
                record.unmeasured.append("the last input")

        return section(name, run, share=0.5)

    parts = [takes("first", 60), takes("second", 30), takes("third", 15), takes("fourth", 1)]
    report = check(parts, Budget(100, clock))
    # Half of the whole each, but never more than is left: 100, 40, 10, nothing.
    assert budgets == {"first": 50, "second": 40, "third": 10}
    assert [each.status for each in report.records] == ["partial", "done", "partial", "skipped"]
    assert [each.seconds for each in report.records] == [60, 30, 15, None]
    assert report.records[3].unmeasured == ["all of it: the time was over"]
    assert not report.failed


def test_a_rehearsal_is_never_written_to_the_results():
    before = sorted(RESULTS.iterdir())
    with pytest.raises(ValueError, match="not written to results"):
        write(check([section("only", nothing)]), RESULTS)
    assert sorted(RESULTS.iterdir()) == before


def test_what_is_not_a_number_is_null_in_the_file(tmp_path):
    def run(_bench, record):
        record.rows.append({"spearman": math.nan, "most": math.inf, "list": [1.5, -math.inf]})

    file, _ = write(check([section("only", run)]), tmp_path)
    (part,) = json.loads(file.read_text())["sections"]
    assert part["rows"] == [{"spearman": None, "most": None, "list": [1.5, None]}]


def test_a_record_says_how_far_it_came():
    record = Record("a", "A")
    assert record.status == "skipped"
    record.seconds = 1.0
    assert record.status == "done"
    record.unmeasured.append("one input")
    assert record.status == "partial"
    record.failures.append("another input: it broke")
    assert record.status == "failed"
