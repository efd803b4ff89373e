"""A plugin of pytest that stops in time and leaves a line for each test that ran.

``pytest -p benchmarks.gpu_pytest --outcomes FILE --stop-after SECONDS``. Tests run in a shuffled
order, always the same, so that a stop leaves a sample of the whole grid. What the file of outcomes
names already is not run again. The file is written test by test: whatever ends the process, what
ran is known.
"""

import json
import random
import time
from pathlib import Path

import pytest


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
            self._report(report.nodeid, report.when or "", report.outcome, text)

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
    found = []
    for line in file.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found
