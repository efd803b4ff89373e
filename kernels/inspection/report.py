"""Compile the kernels for absent GPUs, and report the machine code.

`python -m cam.kernels.inspection [--target sm_90] [--kernel NAME] [--bandwidth GB/s] [--json]`
compiles every kernel in its launch shapes and prints what a thread and a program take (registers,
shared memory, spills), how wide the loads and stores of global memory are, how many programs share
a core, what a call moves, and three floors under its time: its bytes at the memory's bandwidth, the
instructions that its warps execute, and the shuffles among them. The largest is what bounds it.
`--json` prints each entry as soon as it is there.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from ..launch.dispatch import interpreter_is_on
from .bounds import bounds_table
from .devices import DEVICES
from .entries import Entry
from .examples import PLANS, Example, examples
from .machine_code import Code, compiled

TARGETS = ("sm_80", "sm_89", "sm_90", "sm_100", "gfx942")


def compile_report(
    targets: Sequence[str] = TARGETS,
    kernels: Sequence[str] | None = None,
    bandwidth: float | None = None,
) -> Iterator[Entry]:
    """Compile every kernel in its launch shapes; no GPU is needed.

    Args:
        targets: Architectures out of `devices.DEVICES`, such as "sm_90".
        kernels: Names of kernels, such as "plane_cam_kernel"; None: all.
        bandwidth: GB/s, for the floor of memory; None: each device's, by its data sheet.

    Yields:
        One entry for each target and example, as they are done.

    Raises:
        RuntimeError: Triton's interpreter is on, or Triton is not installed.
        ValueError: A target or a kernel is not known.
    """
    if interpreter_is_on():
        raise RuntimeError(
            "TRITON_INTERPRET is set, and interpreted kernels cannot be compiled; "
            "unset it before Python starts."
        )
    pairs = work(targets, kernels)
    # Spawned, because a forked process would inherit torch's threads in whatever state they are.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        codes = pool.map(_compile, pairs)
        for (example, target), code in zip(pairs, codes, strict=True):
            yield Entry.of(example, target, code, bandwidth)


def work(
    targets: Sequence[str] = TARGETS, kernels: Sequence[str] | None = None
) -> list[tuple[Example, str]]:
    """List what :func:`compile_report` compiles for those arguments.

    Raises:
        ValueError: A target or a kernel is not known.
    """
    for target in targets:
        if target not in DEVICES:
            raise ValueError(f"{target!r} is not a known target; known: {', '.join(DEVICES)}.")
    selected = [example for example in examples() if not kernels or example.kernel in kernels]
    if not selected:
        raise ValueError(f"no kernel is named {kernels}; known: {', '.join(sorted(PLANS))}.")
    return [(example, target) for target in targets for example in selected]


def _compile(pair: tuple[Example, str]) -> Code:
    example, target = pair
    return compiled(example.launch(), DEVICES[target])


HEADS = (
    *("kernel", "target", "case", "dtype", "layout", "threads", "registers", "shared", "spills"),
    *("loads", "stores", "occupancy", "MB a call", "memory µs", "issue µs", "shuffle µs", "bound"),
)


def _table(report: Sequence[Entry]) -> str:
    rows = [HEADS] + [
        (
            *(entry.kernel, entry.target, entry.case, entry.dtype, entry.layout),
            *map(str, (entry.threads, entry.registers, entry.shared, entry.spills)),
            *(_widths(entry.loads), _widths(entry.stores)),
            *(f"{entry.occupancy:.0%}", f"{entry.megabytes:.1f}"),
            *(f"{floor:.1f}" for floor in (entry.floor, entry.issue_floor, entry.shuffle_floor)),
            entry.bound,
        )
        for entry in report
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _widths(counts: dict[str, int]) -> str:
    return " ".join(f"{count}×{bits}" for bits, count in counts.items()) or "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns 0 when done, 1 if it could not compile, 2 for wrong usage.
    """
    parser = argparse.ArgumentParser(prog="python -m cam.kernels.inspection", description=__doc__)
    parser.add_argument("--target", action="append", help=f"default: {', '.join(TARGETS)}")
    parser.add_argument("--kernel", action="append", help="default: all")
    parser.add_argument(
        "--bandwidth", type=float, help="GB/s, for the floor of memory; default: the device's"
    )
    parser.add_argument("--json", action="store_true", help="print each entry as a line of JSON")
    parser.add_argument("--markdown", action="store_true", help="print what bounds each launch")
    options = parser.parse_args(arguments)
    if options.bandwidth is not None and not options.bandwidth > 0:
        parser.error(f"--bandwidth must be above 0, but is {options.bandwidth}.")
    entries = compile_report(options.target or TARGETS, options.kernel, options.bandwidth)
    try:
        if options.json:
            for entry in entries:
                sys.stdout.write(f"{json.dumps(asdict(entry))}\n")
                sys.stdout.flush()
        else:
            write = bounds_table if options.markdown else _table
            sys.stdout.write(f"{write(list(entries))}\n")
    except ValueError as error:
        parser.error(str(error))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
