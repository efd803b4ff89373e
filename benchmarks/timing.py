"""Timing several pieces of work against each other: interleaved, so that drift hits all alike."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of each run, in the order in which they were made."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.seconds)

    def over(self, other: "Timing") -> float:
        """The median over the rounds of this time divided by the other's."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)


def interleaved(
    work: dict[str, Callable[[], object]], rounds: int = 7, warm_up: int = 2
) -> dict[str, Timing]:
    """Run each piece of work once a round, after ``warm_up`` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(warm_up + rounds):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(times)) for name, times in seconds.items()}


def machine() -> str:
    """One line on where the figures come from."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return (
        f"{device}, {torch.get_num_threads()} threads, {platform.machine()}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
