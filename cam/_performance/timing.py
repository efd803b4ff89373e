"""Time pieces of work in interleaved rounds, so that drift hits all."""

import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

import torch

from cam.errors import Cancelled

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, in the order in which they were made."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)

    def over(self, other: "Timing") -> float:
        """Return the median over the rounds of this time by the other's."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def interleaved(
    work: Mapping[Name, Callable[[], object]],
    rounds: int = 7,
    warm_up: int = 2,
    *,
    report: Callable[[float, dict[Name, Timing]], bool | None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Time each piece of work once a round, after ``warm_up`` rounds.

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
        for number, (name, run) in enumerate(work.items(), start=1):
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


def machine() -> str:
    """Describe in one line where the figures come from."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    threads = torch.get_num_threads()
    return (
        f"{device}, {threads} thread{'s' * (threads > 1)}, {platform.machine()}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def origin(command: str) -> dict[str, str]:
    """Describe where figures are from: machine, date, command."""
    return {"machine": machine(), "date": date.today().isoformat(), "command": command}
