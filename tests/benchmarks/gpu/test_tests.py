"""Stop the kernel tests in time; what did not run never passed."""

import os
import subprocess
import sys
import textwrap

import pytest

from benchmarks.gpu.kernel_tests import environment, read, summarise
from benchmarks.gpu.plan import Record
from tests.support.checkout import ROOT

TESTS = """
    import time
    import pytest

    @pytest.mark.parametrize("n", range(6))
    def test_many(n):
        time.sleep(0.4)

    def test_wrong():
        assert 1 + 1 == 3

    @pytest.mark.skip
    def test_skipped(): pass

    @pytest.fixture
    def broken():
        yield
        raise OSError("left behind")

    def test_torn_down(broken): pass

    @pytest.fixture
    def missing():
        raise LookupError("no device")

    def test_set_up(missing): pass
"""


def run(folder, *arguments, seconds=60.0):
    """One run of pytest with the plugin; its record, and what it wrote in this run."""
    outcomes = folder / "outcomes"
    before = len(read(outcomes))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu.kernel_tests"]
    command += ["--outcomes", str(outcomes), "--stop-after", str(seconds)]
    command += ["--continue-on-collection-errors", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = read(outcomes)[before:]
    record = Record("tests", "Tests", seconds=1.0)
    summarise(lines, done.returncode, done.stdout + done.stderr, record)
    return record, [line["test"] for line in lines if "test" in line]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_it.py").write_text(textwrap.dedent(TESTS))
    return tmp_path


def test_outcomes_are_counted_with_their_reasons(folder):
    record, _ = run(folder)
    assert record.facts["collected"] == 10
    assert record.facts["not_reached"] == 0
    assert (record.facts["passed"], record.facts["skipped"]) == (7, 1)
    assert sorted(record.failures) == [
        "test_it.py::test_set_up: LookupError: no device",
        "test_it.py::test_torn_down: OSError: left behind",
        "test_it.py::test_wrong: assert (1 + 1) == 3",
    ]
    assert record.status == "failed"


def test_a_stop_is_told_and_a_second_run_does_the_rest(folder):
    choice = ("-k", "many")
    first, ran = run(folder, *choice, seconds=1.0)
    assert first.facts["collected"] == 6
    assert 0 < len(ran) < 6
    assert first.facts["passed"] == len(ran)
    assert first.unmeasured == [f"{6 - len(ran)} of 6 tests were not reached"]
    assert first.status == "partial"
    second, rest = run(folder, *choice)
    assert second.status == "done"
    assert len(ran) + len(rest) == 6
    assert not set(ran) & set(rest)
    third, none = run(folder, *choice)
    assert (third.status, none) == ("done", [])


def test_a_file_that_cannot_be_imported_is_a_failure(folder):
    (folder / "test_broken.py").write_text("import nothing_of_that_name\n")
    record, _ = run(folder, "-k", "skipped")
    assert record.failures == [
        "test_broken.py: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ]
    assert record.facts["skipped"] == 1


def test_pytest_that_does_not_start_is_a_failure(folder):
    record, _ = run(folder, "nowhere.py")
    assert record.status == "failed"


def test_a_process_that_was_killed_is_a_failure_and_its_tests_are_not_lost():
    record = Record("tests", "Tests", seconds=1.0)
    lines = [
        {"collected": 3},
        {"test": "a", "when": "call", "outcome": "passed", "reason": ""},
    ]
    summarise(lines, None, "", record)
    assert record.facts["passed"] == 1
    assert record.unmeasured == ["2 of 3 tests were not reached"]
    assert "killed" in record.failures[0]


def test_an_outcome_that_was_cut_off_does_not_count(tmp_path):
    file = tmp_path / "outcomes"
    file.write_text('{"collected": 2}\n{"test": "a", "outc')
    assert read(file) == [{"collected": 2}]
    assert read(tmp_path / "none") == []


def test_the_tests_decide_by_the_environment_where_kernels_run(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("CAM_KERNELS", "reference")
    on_gpu = environment("cuda")
    assert on_gpu["CAM_TEST_ON_GPU"] == "1"
    assert not {"TRITON_INTERPRET", "CAM_KERNELS"} & set(on_gpu)
    assert "CAM_TEST_ON_GPU" not in environment("cpu")
    assert on_gpu["PATH"] == os.environ["PATH"]
