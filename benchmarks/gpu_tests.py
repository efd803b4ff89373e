"""The kernels' own tests on the device: the fast ones first, and at the end all that time allows.

They run in a process of their own, because they decide by the environment where the kernels run,
and because a process can be stopped whatever its GPU does.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu_plan import Plan
from benchmarks.gpu_pytest import read
from benchmarks.gpu_record import Bench, Record

ROOT = Path(__file__).parent.parent
GRACE = 20.0  # seconds that a single test may run on after the time is over
MOST_LISTED = 20


class KernelTests:
    """Two sections that share one list of what has been tested."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gpu-check-")
        self._outcomes = Path(self._folder.name, "outcomes")

    def describe_fast(self, plan: Plan) -> str:
        """What would run first."""
        return f"pytest {' '.join(plan.tests)} -m 'not slow', in shuffled order"

    def describe_rest(self, plan: Plan) -> str:
        """What would run at the end."""
        return f"pytest {' '.join(plan.tests)}: what has not run yet, in shuffled order"

    def fast(self, bench: Bench, record: Record) -> None:
        """Everything but the slow tests."""
        self._run(bench, record, "-m", "not slow")

    def rest(self, bench: Bench, record: Record) -> None:
        """Everything that has not run."""
        self._run(bench, record)

    def _run(self, bench: Bench, record: Record, *choice: str) -> None:
        before = len(read(self._outcomes))
        left = bench.budget.left()
        if left < 2 * GRACE:
            record.unmeasured.append("no test was started, because too little time was left")
            return
        command = [sys.executable, "-m", "pytest", "-q", "-p", "benchmarks.gpu_pytest"]
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
    kept = {name: value for name, value in os.environ.items() if name not in switches}
    return kept | ({"CAM_TEST_ON_GPU": "1"} if device != "cpu" else {})


def summarise(lines: list[dict[str, object]], code: int | None, log: str, record: Record) -> None:
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
