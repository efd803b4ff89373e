"""Check the kernels on a GPU in under ten minutes.

``make gpu-check`` or ``python -m benchmarks.gpu [--out FOLDER] [--budget SECONDS]``: the kernels'
tests on the device, Grad-CAM end to end, the kernels beside their rivals; each goal against its
measurement. Writes ``benchmarks/results/<device>.json`` and ``.md``. Without
a GPU it says what it would do. ``--rehearse`` takes every step on a CPU with tiny inputs.

Exit status: 0 done (a goal may be missed: that is a result), 1 a section failed, 2 wrong usage.
"""

import argparse
import faulthandler
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import end_to_end, pixels, tails
from benchmarks.gpu.kernel_tests import KernelTests
from benchmarks.gpu.machine import Cuda, Machine, Rehearsal, describe_yardsticks, measure_yardsticks
from benchmarks.gpu.plan import (
    FULL,
    REHEARSAL,
    Bench,
    Budget,
    Plan,
    Record,
    Section,
    TooManyFailuresError,
)
from benchmarks.gpu.report import Report, goals, markdown, refuse_rehearsal, write
from benchmarks.result_files import RESULTS, slug

STANDARD_ERROR = 2  # the descriptor: a test may have replaced sys.stderr
SECONDS = 540.0
GRACE = 45.0  # beyond the budget, before a process that hangs is ended
# With these the kernels would not run as they do for a user.
SWITCHES = ("TRITON_INTERPRET", "CAM_KERNELS")

Say = Callable[[str], None]


def sections() -> list[Section]:
    """What is done, in this order, and the most of the time that each part may take.

    torch.compile and the profiler have their turn behind the other timings: the one leaves
    processes, the other hooks in the driver, and both can slow what runs after them.
    """
    tests = KernelTests()
    return [
        Section(
            "yardsticks",
            "The machine's own figures",
            0.05,
            describe_yardsticks,
            measure_yardsticks,
        ),
        Section(
            "tests",
            "Kernel tests on the device",
            0.3,
            tests.describe_fast,
            tests.fast,
        ),
        Section(
            "end_to_end",
            "Grad-CAM beside plain inference",
            0.15,
            end_to_end.describe,
            end_to_end.run,
        ),
        Section(
            "pixels",
            "Gradient maps, overlays and masked batches",
            0.05,
            pixels.describe,
            pixels.run,
        ),
        Section(
            "tails",
            "From activations and gradients to maps",
            0.4,
            tails.describe,
            tails.run,
        ),
        Section(
            "more_tests",
            "The rest of the kernel tests, as the time allowed",
            1.0,
            tests.describe_rest,
            tests.rest,
        ),
    ]


def check(
    machine: Machine,
    plan: Plan,
    parts: Sequence[Section],
    budget: Budget,
    about: dict[str, Any],
    keep: Callable[[Report], object],
    say: Say,
) -> Report:
    """Run the sections, each within its share of the time, and whatever becomes of the others.

    Args:
        machine: Where.
        plan: With which inputs.
        parts: The sections, in the order in which they run.
        budget: The time for all of them.
        about: When, by which command, on which commit.
        keep: Called with the report after each section, so that no measurement is lost.
        say: Called with a line on what is going on.
    """
    facts = machine.facts()
    records = [Record(part.name, part.title) for part in parts]

    def report(complete: bool) -> Report:
        # A rehearsal has nothing to hold against a goal.
        measured = {} if machine.rehearsal else {record.name: record for record in records}
        held = goals(measured, facts["l2_bytes"])
        return Report(machine.rehearsal, complete, about | facts, held, records)

    for part, record in zip(parts, records, strict=True):
        if budget.left() <= 0:
            record.unmeasured.append("all of it: the time was over")
            continue
        part_budget = budget.part(part.share * budget.seconds)
        say(f"{part.title} (at most {part_budget.seconds:.0f} s) …")
        try:
            with record.attempt(part.title):
                part.run(Bench(machine, plan, part_budget), record)
        except TooManyFailuresError as error:
            record.failures.append(str(error))
        record.seconds = part_budget.spent()
        say(f"  {record.status} after {record.seconds:.0f} s")
        keep(report(complete=False))
    final = report(complete=True)
    keep(final)
    return final


def about(command: Sequence[str]) -> dict[str, Any]:
    """When, by which command, on which commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit and whether the code was changed since; a copy without its history knows none."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=RESULTS.parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    if shutil.which("git") is None or not (commit := git("rev-parse", "HEAD")):
        return "unknown"
    changed = git("status", "--porcelain", "--", ":!benchmarks/results")
    return f"{commit} with changes" if changed else commit


def _say_intention(budget: float, folder: Path) -> None:
    """What would be done, where there is no GPU to do it on."""
    print("There is no GPU here, so nothing is measured and nothing is written. With one, within")
    print(f"{budget:.0f} s and into {folder}/<device>.json and .md:")
    for number, part in enumerate(sections(), 1):
        most = part.share * budget
        print(f"\n{number}. {part.title}, at most {most:.0f} s\n   {part.describe(FULL)}")
    print("\nTo take every step on this CPU with tiny inputs: --rehearse --out FOLDER")


@contextmanager
def _end_in_any_case(seconds: float) -> Iterator[None]:
    """End the process if the block takes longer: a GPU that hangs would keep it for ever.

    Where it hung is printed, and what had been written by then stays.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=STANDARD_ERROR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 a section failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, help="folder of the results; default: benchmarks/results"
    )
    parser.add_argument(
        "--budget", type=float, default=SECONDS, help="seconds; default: %(default).0f"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="every step on the CPU, with tiny inputs"
    )
    options = parser.parse_args(arguments)
    if not options.budget > 0:
        parser.error(f"--budget is {options.budget:g}, but must be above 0 seconds")
    folder = options.out or RESULTS
    machine: Machine
    if options.rehearse:
        if options.out is None:
            parser.error("--rehearse needs --out FOLDER")
        try:
            refuse_rehearsal(folder)
        except ValueError as error:
            parser.error(str(error))
        machine, plan = Rehearsal(), REHEARSAL
    elif not torch.cuda.is_available():
        _say_intention(options.budget, folder)
        return 0
    else:
        if wrong := [name for name in SWITCHES if os.environ.get(name)]:
            parser.error(f"{wrong[0]} is set, so the kernels would not run as usual; unset it")
        machine, plan = Cuda(), FULL

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    words = sys.argv[1:] if arguments is None else arguments
    with nullcontext() if machine.rehearsal else _end_in_any_case(options.budget + GRACE):
        report = check(
            machine,
            plan,
            sections(),
            Budget(options.budget),
            about(["python", "-m", "benchmarks.gpu", *words]),
            lambda report: write(report, folder),
            say,
        )
    say(f"written: {folder / slug(report.about['device'])}.json and .md")
    print(markdown(report))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
