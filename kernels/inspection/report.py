"""Compile the kernels for absent GPUs, and report the machine code.

`python -m cam.kernels.inspection [--target sm_90] [--kernel NAME] [--bandwidth GB/s] [--json]`
compiles every kernel in its launch shapes and prints what a thread and a program take (registers,
shared memory, spills), how wide the loads and stores of global memory are, how many programs share
a core, what a call moves, and the least time that takes at a given bandwidth. `--json` prints each
entry as soon as it is there.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context

from ..launch.dispatch import interpreter_is_on
from .examples import PLANS, Example, examples
from .machine_code import DEVICES, Code, compiled, occupancy

TARGETS = ("sm_80", "sm_89", "sm_90", "sm_100", "gfx942")
BANDWIDTH = 3350.0  # GB/s: an H100 SXM's memory by its data sheet


@dataclass(frozen=True)
class Entry(Code):
    """One kernel in one launch shape on one target, and what the compiler made of it."""

    kernel: str
    target: str
    case: str  # the plane and what is computed
    dtype: str
    layout: str
    threads: int  # a program
    occupancy: float  # share of a core's threads that can be there at once
    megabytes: float  # that a call of 64 images moves, scratch included
    floor: float  # µs for its arguments and results, once each, at the bandwidth

    @classmethod
    def of(cls, example: Example, target: str, code: Code, bandwidth: float) -> "Entry":
        """Put together what was compiled and what the launch declares."""
        launch = example.launch()
        moved = sum(launch.reads.values()) + sum(launch.writes.values())
        threads = launch.threads(DEVICES[target].warp)
        return cls(
            kernel=launch.kernel.__name__,
            target=target,
            case=example.case,
            dtype=str(example.dtype).removeprefix("torch."),
            layout=example.layout,
            threads=threads,
            **asdict(code),
            occupancy=occupancy(DEVICES[target], threads, code.registers, code.shared),
            megabytes=moved / 1e6,
            floor=launch.least_bytes / (bandwidth * 1e3),
        )


def compile_report(
    targets: Sequence[str] = TARGETS,
    kernels: Sequence[str] | None = None,
    bandwidth: float = BANDWIDTH,
) -> Iterator[Entry]:
    """Compile every kernel in its launch shapes; no GPU is needed.

    Args:
        targets: Architectures out of `machine_code.DEVICES`, such as "sm_90".
        kernels: Names of kernels, such as "plane_cam_kernel"; None: all.
        bandwidth: GB/s, for the floor.

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
    *("loads", "stores", "occupancy", "MB a call", "floor µs"),
)


def _table(report: Sequence[Entry]) -> str:
    rows = [HEADS] + [
        (
            *(entry.kernel, entry.target, entry.case, entry.dtype, entry.layout),
            *map(str, (entry.threads, entry.registers, entry.shared, entry.spills)),
            *(_widths(entry.loads), _widths(entry.stores)),
            *(f"{entry.occupancy:.0%}", f"{entry.megabytes:.1f}", f"{entry.floor:.1f}"),
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
        "--bandwidth", type=float, default=BANDWIDTH, help="GB/s, for the floor (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print each entry as a line of JSON")
    options = parser.parse_args(arguments)
    if not options.bandwidth > 0:
        parser.error(f"--bandwidth must be above 0, but is {options.bandwidth}.")
    entries = compile_report(options.target or TARGETS, options.kernel, options.bandwidth)
    try:
        if options.json:
            for entry in entries:
                sys.stdout.write(f"{json.dumps(asdict(entry))}\n")
                sys.stdout.flush()
        else:
            sys.stdout.write(f"{_table(list(entries))}\n")
    except ValueError as error:
        parser.error(str(error))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
