"""Measure times on a GPU, or rehearse on a CPU.

There are three times, because they answer different questions:

- ``device``: how long the GPU works at one call. The host has run ahead, so no gap between the
  kernels is Python's fault, and nothing of the inputs is in the L2 cache.
- ``call``: how long a caller waits for one call, from Python to the finished result.
- ``graph``: how long one call takes in the replay of a CUDA graph that holds many. No Python; what
  fits into the L2 cache is read from there.
"""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._autograd import DeviceType

from benchmarks.gpu.plan import Bench, Plan, Record

Work = Callable[[], object]

MIB = 2**20
COPIES = 20  # calls in a graph that is timed
SPIN_CYCLES = 1_000_000  # about half a millisecond: more than Python needs to launch a rule
COPY_WARM_UP = 30  # copies, before the clocks of a resting GPU have risen


@dataclass(frozen=True)
class Sample:
    """Microseconds of one call, over several runs."""

    median: float
    low: float  # the 20th percentile
    high: float  # the 80th percentile
    runs: int

    @classmethod
    def of(cls, microseconds: list[float]) -> "Sample":
        """Median and spread of what single runs took."""
        ordered = torch.tensor(sorted(microseconds), dtype=torch.float64)
        low, median, high = torch.quantile(
            ordered, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
        ).tolist()
        return cls(median, low, high, len(microseconds))

    def as_row(self) -> dict[str, float]:
        """Microseconds for the file of results."""
        return {
            "median_us": self.median,
            "low_us": self.low,
            "high_us": self.high,
            "runs": self.runs,
        }


def gb_per_s(count: int, microseconds: float) -> float:
    """Bytes in a time, in 10⁹ bytes a second."""
    return count / microseconds / 1000


class Replay(Protocol):
    """Recorded work that can be run again on the same memory."""

    result: Any

    def replay(self) -> None:
        """Run it again; ``result`` then holds the new values."""


class Machine(Protocol):
    """What the sections need of the device that they measure on."""

    device: str
    rehearsal: bool

    def facts(self) -> dict[str, Any]:
        """Name, sizes and versions."""

    def device_time(self, work: Work, seconds: float) -> Sample:
        """The device's own time of one call, its caches emptied before each."""

    def call_time(self, work: Work, seconds: float) -> Sample:
        """The host's time of one call, until its result is there."""

    def graph_time(self, work: Work, seconds: float) -> Sample:
        """The device's time of one call among many in a graph."""

    def capture(self, work: Work) -> Replay:
        """Record the work; it must not wait for the device."""

    def launches(self, work: Work) -> int | None:
        """How many kernels, fills and copies one call starts on the device; None: not known."""

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function under ``torch.compile``."""

    def release(self) -> None:
        """Give unused memory back."""


def _runs(seconds: float, run_seconds: float, most: int = 100) -> int:
    """Count the runs that fit into ``seconds``; three at least, for a median."""
    return int(min(most, max(3, seconds / max(run_seconds, 1e-9))))


class Cuda:
    """The current CUDA device."""

    device = "cuda"
    rehearsal = False

    def __init__(self) -> None:
        self._properties = torch.cuda.get_device_properties()
        # Four times the cache, so that whatever it chooses to keep is driven out.
        size = max(256 * MIB, 4 * self._properties.L2_cache_size)
        self._other = torch.ones(size // 4, dtype=torch.float32, device=self.device)

    def facts(self) -> dict[str, Any]:
        """Name, sizes and versions."""
        import triton

        properties = self._properties
        return {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "l2_bytes": properties.L2_cache_size,
            "memory_bytes": properties.total_memory,
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "torch": torch.__version__,
            "triton": triton.__version__,
            "python": platform.python_version(),
        }

    def _empty_caches(self) -> None:
        # By reading. After a fill, as in triton.testing.do_bench, the cache would be full of
        # values that have yet to be written to memory, and the kernel would pay for that.
        self._other.sum()

    def device_time(self, work: Work, seconds: float) -> Sample:
        """The device's own time of one call, its caches emptied before each."""
        _warm_up(work)

        def timed() -> tuple[torch.cuda.Event, torch.cuda.Event]:
            start, end = _timer(), _timer()
            self._empty_caches()
            torch.cuda._sleep(SPIN_CYCLES)  # type: ignore[no-untyped-call]
            start.record()
            work()
            end.record()
            return start, end

        run_seconds = _host_seconds(timed)
        pairs = [timed() for _ in range(_runs(seconds, run_seconds))]
        torch.cuda.synchronize()
        return Sample.of([1000 * start.elapsed_time(end) for start, end in pairs])

    def call_time(self, work: Work, seconds: float) -> Sample:
        """The host's time of one call, until its result is there."""
        _warm_up(work)
        run_seconds = _host_seconds(work)
        return Sample.of([1e6 * _host_seconds(work) for _ in range(_runs(seconds, run_seconds))])

    def graph_time(self, work: Work, seconds: float) -> Sample:
        """The device's time of one call among many in a graph."""
        recorded = _Graph(work, COPIES)
        run_seconds = _host_seconds(recorded.replay)
        pairs = []
        for _ in range(_runs(seconds, run_seconds)):
            start, end = _timer(), _timer()
            start.record()
            recorded.replay()
            end.record()
            pairs.append((start, end))
        torch.cuda.synchronize()
        return Sample.of([1000 * start.elapsed_time(end) / COPIES for start, end in pairs])

    def capture(self, work: Work) -> Replay:
        """Record the work; it must not wait for the device."""
        return _Graph(work, copies=1)

    def launches(self, work: Work) -> int | None:
        """How many kernels, fills and copies one call starts on the device; None: not known."""
        _warm_up(work)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            work()
            torch.cuda.synchronize()
        # The profiler sees nothing where the driver forbids it; a call starts one at least.
        return sum(event.device_type == DeviceType.CUDA for event in profile.events()) or None

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function under ``torch.compile`` in its default mode, for these shapes alone."""
        # Compiled anew each time: past its limit of recompilations dynamo would quietly run the
        # plain function instead.
        torch.compiler.reset()
        return torch.compile(function, dynamic=False, fullgraph=True)

    def release(self) -> None:
        """Give unused memory back."""
        torch.cuda.empty_cache()


class _Graph:
    """Work in a CUDA graph, as torch's notes on CUDA graphs say.

    It is run on a side stream first, and recorded on the same: libraries make their handles and
    workspaces, and Triton its machine code, at the first call on a stream, which must not happen
    while recording. The graph's memory lives as long as this object.
    """

    def __init__(self, work: Work, copies: int) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # The outer one, because torch stays on the side stream when a recording fails.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(self._graph, stream=stream),
        ):
            for _ in range(copies):
                self.result = work()
        self._graph.replay()
        torch.cuda.synchronize()

    def replay(self) -> None:
        self._graph.replay()


def _timer() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _warm_up(work: Work) -> None:
    for _ in range(3):
        work()
    torch.cuda.synchronize()


def _host_seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    done = subprocess.run(
        [program, "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


class Rehearsal:
    """The CPU in the place of a GPU: every step is taken, no figure means anything."""

    device = "cpu"
    rehearsal = True

    def facts(self) -> dict[str, Any]:
        """The same keys as a GPU's."""
        return {
            "device": "rehearsal on a CPU",
            "capability": None,
            "multiprocessors": None,
            "l2_bytes": 0,
            "memory_bytes": None,
            "driver": None,
            "cuda": None,
            "torch": torch.__version__,
            "triton": None,
            "python": platform.python_version(),
        }

    def device_time(self, work: Work, seconds: float) -> Sample:
        """The host's time."""
        return self.call_time(work, seconds)

    def graph_time(self, work: Work, seconds: float) -> Sample:
        """The host's time."""
        return self.call_time(work, seconds)

    def call_time(self, work: Work, seconds: float) -> Sample:
        """The host's time of one call."""

        def timed() -> float:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        return Sample.of([1e6 * timed() for _ in range(_runs(seconds, timed()))])

    def capture(self, work: Work) -> Replay:
        """The work itself, done again at each replay."""
        return _Repeated(work)

    def launches(self, work: Work) -> int | None:
        """Nothing is launched on a CPU."""
        work()
        return None

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Traced by ``torch.compile``, but run as it was: a C++ compiler would take a minute."""
        torch.compiler.reset()
        return torch.compile(function, dynamic=False, fullgraph=True, backend="eager")

    def release(self) -> None:
        """Nothing is held."""


class _Repeated:
    def __init__(self, work: Work) -> None:
        self._work = work
        self.result = work()

    def replay(self) -> None:
        # Into the same memory, as a graph does.
        new = self._work()
        if isinstance(self.result, Tensor) and isinstance(new, Tensor):
            self.result.copy_(new)


def describe_yardsticks(plan: Plan) -> str:
    """What would be measured of the machine itself."""
    return (
        f"a device-to-device copy of {plan.copy_bytes / 2**20:,.0f} MiB, a fill of one number, "
        "and the time between two events with nothing between them"
    )


def measure_yardsticks(bench: Bench, record: Record) -> None:
    """Measure the yardsticks that every other section is held against."""
    machine, plan = bench.machine, bench.plan
    source = torch.ones(plan.copy_bytes // 4, dtype=torch.float32, device=machine.device)
    target = torch.empty_like(source)
    number = torch.zeros(1, device=machine.device)
    for _ in range(COPY_WARM_UP):
        target.copy_(source)
    copy = machine.device_time(lambda: target.copy_(source), 10 * plan.seconds)
    record.rows = [
        {"what": "copy", "bytes": 2 * source.nbytes, "device": copy.as_row()},
        {
            "what": "fill of one number",
            "graph": machine.graph_time(lambda: number.fill_(1), plan.seconds).as_row(),
            "call": machine.call_time(lambda: number.fill_(1), plan.seconds).as_row(),
        },
        {"what": "nothing", "device": machine.device_time(lambda: None, plan.seconds).as_row()},
    ]
    record.facts = {
        # Read and written bytes both count, as they do for the kernels.
        "copy_gb_per_s": gb_per_s(2 * source.nbytes, copy.median),
        "launch_graph_us": record.rows[1]["graph"]["median_us"],
        "launch_call_us": record.rows[1]["call"]["median_us"],
        "interval_us": record.rows[2]["device"]["median_us"],
    }
