"""Put together what a launch takes, and what bounds it."""

from dataclasses import asdict, dataclass

from .devices import DEVICES, Device
from .examples import Example
from .machine_code import Code, occupancy


@dataclass(frozen=True, kw_only=True)
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
    # The least time, in µs, that each of three limits leaves a call: its arguments and results once
    # each at the memory's bandwidth; its instructions, and its shuffles, begun without a gap.
    floor: float
    issue_floor: float = 0.0
    shuffle_floor: float = 0.0

    @property
    def bound(self) -> str:
        """Name the largest of the floors, where instructions are counted.

        They are on NVIDIA's GPUs; AMD's machine code is not followed.
        """
        if not self.instructions:
            return "not counted"
        floors = {"memory": self.floor, "issue": self.issue_floor, "shuffle": self.shuffle_floor}
        return max(floors, key=floors.__getitem__)

    @classmethod
    def of(cls, example: Example, target: str, code: Code, bandwidth: float | None) -> "Entry":
        """Put together what was compiled and what the launch declares."""
        launch = example.launch()
        moved = sum(launch.reads.values()) + sum(launch.writes.values())
        device = DEVICES[target]
        threads = launch.threads(device.warp)
        return cls(
            kernel=launch.kernel.__name__,
            target=target,
            case=example.case,
            dtype=str(example.dtype).removeprefix("torch."),
            layout=example.layout,
            threads=threads,
            **asdict(code),
            occupancy=occupancy(device, threads, code.registers, code.shared),
            megabytes=moved / 1e6,
            floor=launch.least_bytes / ((bandwidth or device.bandwidth) * 1e3),
            issue_floor=_microseconds(code.instructions, device.issue, device),
            shuffle_floor=_microseconds(code.shuffles, device.shuffle, device),
        )


def _microseconds(count: int, rate: float, device: Device) -> float:
    """Divide instructions among all cores, at their rate a clock."""
    return count / (rate * device.cores * device.clock * 1e3)
