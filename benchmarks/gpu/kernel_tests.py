"""Run the kernels' tests on the device, fast ones first.

They run in a separate process, because they decide by the environment where the kernels run,
and because a process can be stopped whatever its GPU does. There this file is a plugin of pytest
that stops in time and leaves a line for each test that ran:
``pytest -p benchmarks.gpu.kernel_tests --outcomes FILE --stop-after SECONDS``. Tests run in a
shuffled order, always the same, so that a stop leaves a sample of the whole grid. What the file of
outcomes names already is not run again. It is written test by test: whatever ends the process,
what ran is known.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # as a plugin it leaves the first import of torch to the tests
    from benchmarks.gpu.plan import Bench, Plan, Record

ROOT = Path(__file__).parent.parent.parent
GRACE = 20.0  # seconds that a single test may run on after the time is over
MOST_LISTED = 20


class KernelTests:
    """Two sections that share one list of what has been tested."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gpu-check-")
        self._outcomes = Path(self._folder.name, "outcomes")

    def describe_fast(self, plan: "Plan") -> str:
        """What would run first."""
        return f"pytest {' '.join(plan.tests)} -m 'not slow', in shuffled order"

    def describe_rest(self, plan: "Plan") -> str:
        """What would run at the end."""
        return f"pytest {' '.join(plan.tests)}: what has not run yet, in shuffled order"

    def fast(self, bench: "Bench", record: "Record") -> None:
        """Everything but the slow tests."""
        self._run(bench, record, "-m", "not slow")

    def rest(self, bench: "Bench", record: "Record") -> None:
        """Everything that has not run."""
        self._run(bench, record)

    def _run(self, bench: "Bench", record: "Record", *choice: str) -> None:
        before = len(read(self._outcomes))
        left = bench.budget.left()
        if left < 2 * GRACE:
            record.unmeasured.append("no test was started, because too little time was left")
            return
        command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu.kernel_tests"]
        command += ["--outcomes", str(self._outcomes), "--stop-after", str(max(1, left - GRACE))]
        command += ["--continue-on-collection-errors", "-p", "no:cacheprovider"]
        log = Path(self._folder.name, "log")
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, *bench.plan.tests, *choice],
                cwd=ROOT,
                env=environment(bench.machine.device),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(timeout=max(left, GRACE))
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        summarise(read(self._outcomes)[before:], code, log.read_text(), record)


def environment(device: str) -> dict[str, str]:
    """This process's, with the kernels on the device; on a CPU that is Triton's interpreter."""
    switches = ("CAM_KERNELS", "TRITON_INTERPRET", "CAM_TEST_ON_GPU")
    others = {name: value for name, value in os.environ.items() if name not in switches}
    return others | ({"CAM_TEST_ON_GPU": "1"} if device != "cpu" else {})


def summarise(lines: list[dict[str, object]], code: int | None, log: str, record: "Record") -> None:
    """Count the outcomes into the record; what did not run is said, and never counts as passed.

    Args:
        lines: What the plugin wrote during this run.
        code: pytest's exit status; None if it had to be killed.
        log: What pytest printed.
        record: Gets the facts, the failures and what was not reached.
    """
    tests = [line for line in lines if "test" in line]
    counts = {
        outcome: sum(line["outcome"] == outcome for line in tests)
        for outcome in ("passed", "failed", "skipped")
    }
    collected = next((line["collected"] for line in lines if "collected" in line), None)
    record.facts |= counts | {"collected": collected, "exit_status": code}
    failed = [line for line in tests if line["outcome"] == "failed"]
    record.failures += [f"{line['test']}: {line['reason']}" for line in failed[:MOST_LISTED]]
    if len(failed) > MOST_LISTED:
        record.failures.append(f"and {len(failed) - MOST_LISTED} more tests")
    if not isinstance(collected, int):
        record.failures.append(f"pytest ended before it had collected the tests: {_tail(log)}")
        return
    # A test that fails as it is torn down has two lines, a file that cannot be imported one.
    missing = collected - sum(line["when"] in ("setup", "call") for line in tests)
    record.facts["not_reached"] = missing
    if missing:
        record.unmeasured.append(f"{missing} of {collected} tests were not reached")
    if code is None:
        record.failures.append("a test ran on long after the time was over, so pytest was killed")
    elif code not in (0, 1, 2, 5):  # passed, failed, stopped in time, nothing left to run
        record.failures.append(f"pytest ended with status {code}: {_tail(log)}")


def _tail(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "it printed nothing"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("gpu-check")
    group.addoption("--outcomes", type=Path, required=True, help="file of one JSON line a test")
    group.addoption("--stop-after", type=float, required=True, help="seconds")


def pytest_configure(config: pytest.Config) -> None:
    """Start the clock."""
    config.pluginmanager.register(Outcomes(config.option.outcomes, config.option.stop_after))


class Outcomes:
    """Writes one line a test, and asks pytest to stop when the time is over."""

    def __init__(self, file: Path, seconds: float) -> None:
        self._file = file
        self._end = time.monotonic() + seconds
        self._done = {line["test"] for line in read(file) if "test" in line}

    def _write(self, **line: object) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @pytest.hookimpl(trylast=True)  # after the choice by markers
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out what ran before, and shuffle the rest."""
        done = [item for item in items if item.nodeid in self._done]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in self._done]
        random.Random(0).shuffle(items)
        self._write(collected=len(items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be imported holds tests that did not run."""
        if report.failed and report.nodeid not in self._done:
            self._report(report.nodeid, "collect", "failed", report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write how the test ended: by its call, or by the part that kept it from being called."""
        ended = report.when == "call" or (report.when == "setup" and not report.passed)
        if ended or report.failed:
            text = report.longreprtext if report.failed else ""
            self._report(report.nodeid, report.when, report.outcome, text)

    def _report(self, test: str, when: str, outcome: str, text: str) -> None:
        self._write(test=test, when=when, outcome=outcome, reason=_reason(text))

    def pytest_runtest_logfinish(self) -> None:
        """Stop between two tests, never inside one."""
        if time.monotonic() >= self._end:
            self._session.shouldstop = "out of time"

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep the session, which is what can be stopped."""
        self._session = session


def _reason(text: str) -> str:
    """The line that pytest marks as the error, or the last one."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (marked or lines or [""])[0 if marked else -1]


def read(file: Path) -> list[dict[str, object]]:
    """The lines of a file of outcomes; a last one that was cut off does not count."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
