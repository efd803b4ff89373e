"""Time pieces of work in interleaved rounds, so that drift hits all."""

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from cam.errors import Cancelled

Name = TypeVar("Name", bound=Hashable)

LEVEL = 0.95


class Estimate(NamedTuple):
    """A median over rounds, with its interval; NaN ends where the rounds are too few for one."""

    median: float
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)


def estimate_median(values: Sequence[float]) -> Estimate:
    """Estimate a median and its 95 % interval from values in any order.

    The interval lies between two order statistics, as many from either end: the k-th of n values is
    above the median of their distribution, whatever that is, with the probability that fewer than k
    of n tosses of a coin are heads. Of 9 values it is the second to the second last (96.1 %), of 6
    the range (96.9 %); fewer than 6 have none.

    References:
        Conover, Practical Nonparametric Statistics, 3rd edition, 1999, section 3.2
    """
    ordered = sorted(values)
    count, below, skipped = len(ordered), 0, -1
    for k in range(count // 2):
        below += math.comb(count, k)
        if 2 * below > (1 - LEVEL) * 2**count:
            break
        skipped = k
    ends = (math.nan, math.nan) if skipped < 0 else (ordered[skipped], ordered[-1 - skipped])
    return Estimate(statistics.median(ordered), *ends)


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, in the order in which they were made."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)

    @property
    def estimate(self) -> Estimate:
        """The median with its interval."""
        return estimate_median(self.seconds)

    def over(self, other: "Timing") -> Estimate:
        """Estimate this time by the other's: the median over rounds of the ratio in a round.

        Every ratio of speeds is this one. Two runs of a round are neighbours in time, so what slows
        the machine slows both; of a round that is still going on, what is missing does not count.
        """
        pairs = zip(self.seconds, other.seconds, strict=False)
        return estimate_median([mine / theirs for mine, theirs in pairs])


def interleaved(
    work: Mapping[Name, Callable[[], object]],
    rounds: int = 7,
    warm_up: int = 2,
    *,
    report: Callable[[float, dict[Name, Timing]], bool | None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Time each piece of work once a round, after ``warm_up`` rounds.

    Every second round goes from the last to the first, so that nobody always follows the same one:
    what ran before leaves caches and memory behind, which slow or speed the next.

    Args:
        work: Name → what is timed; on a GPU until it has done all that it was given.
        rounds: How often each is timed.
        warm_up: Rounds before those.
        report: Called after each run with the share that is done and the timings so far, of those
            that have one; an answer of False cancels.
        clock: Seconds, from any start.

    Returns:
        Name → its timing, of ``rounds`` seconds each.

    Raises:
        Cancelled: ``report`` answered False.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in work}
    total = (warm_up + rounds) * len(work)
    for turn in range(warm_up + rounds):
        turns = list(work.items())[:: -1 if turn % 2 else 1]
        for number, (name, run) in enumerate(turns, start=1):
            start = clock()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(clock() - start)
            if report is None:
                continue
            share = (turn * len(work) + number) / total if total else 1.0
            so_far = {key: Timing(tuple(times)) for key, times in seconds.items() if times}
            if report(share, so_far) is False:
                raise Cancelled("the measurement was cancelled")
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def name_device() -> str:
    """Name the GPU; or the CPU with the instructions on which its speed depends."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"CPU ({', '.join(filter(None, (_name_processor(), capability)))})"


def _name_processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def machine() -> str:
    """Describe in one line where the figures come from."""
    threads = torch.get_num_threads()
    return (
        f"{name_device()}, {threads} thread{'s' * (threads > 1)}, {platform.machine()}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def read_load() -> float | None:
    """Read how many processes want a core, over the last minute; None where nobody counts."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def origin(command: str) -> dict[str, str]:
    """Describe where figures are from: machine, date, command."""
    return {"machine": machine(), "date": date.today().isoformat(), "command": command}
