"""Plan what the check measures in how much time, and record it.

There are two plans: the shapes and sizes of a real run, and tiny ones to rehearse. The rehearsal
runs every line but CUDA's own on a CPU, so that the first call on a rented GPU is not the first
call of the program.
"""

import itertools
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from benchmarks.gpu.machine import Machine

# A GPU that has faulted fails everything from there on; the same sentence a hundred times over
# tells no more than these.
MOST_FAILURES = 10
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}
CONVNET = ("channels-last", "contiguous")


@dataclass(frozen=True)
class Plane:
    """A layer whose activations are (B, channels, side, side)."""

    name: str
    channels: int
    side: int
    layouts: tuple[str, ...] = CONVNET

    def __str__(self) -> str:
        return f"{self.name} {self.channels}×{self.side}×{self.side}"


@dataclass(frozen=True)
class Cell:
    """One input of the tails: a layer, a batch, a dtype and a layout."""

    plane: Plane
    batch: int
    dtype: str
    layout: str

    def __str__(self) -> str:
        return f"{self.plane}, B = {self.batch}, {self.dtype}, {self.layout}"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, h, w)."""
        return (self.batch, self.plane.channels, self.plane.side, self.plane.side)

    @property
    def input_bytes(self) -> int:
        """Activations and gradients together."""
        return 2 * torch.Size(self.shape).numel() * DTYPES[self.dtype].itemsize

    def floor_bytes(self, rules: int) -> int:
        """The least that has to move: both inputs read once, a float32 map a rule written."""
        return self.input_bytes + self.batch * rules * self.plane.side**2 * 4


@dataclass(frozen=True)
class Plan:
    """Everything that differs between a real run and a rehearsal."""

    planes: tuple[Plane, ...]
    # Each in order of importance, because the time may end before the list does.
    batches: tuple[int, ...]
    dtypes: tuple[str, ...]
    copy_bytes: int  # of the copy that measures the bandwidth
    pictures: tuple[tuple[int, int], ...]  # (B, side) of overlays and gradient maps
    masks: tuple[tuple[int, int], ...]  # (N, side) of masked batches
    network: str  # of torchvision; it is explained at its "layer4"
    network_batch: int
    network_side: int
    rounds: int  # of the network's runs
    warm_up: int  # rounds before them that do not count
    precisions: tuple[str, ...]
    photos: tuple[str, ...]  # of cam.samples()
    tests: tuple[str, ...]  # what pytest is given
    seconds: float  # of the timed runs of one measurement

    def cells(self) -> list[Cell]:
        """Every input, the telling ones first, so that an early stop leaves a sensible table.

        Cells are sorted by how far their batch, dtype and layout stand from the first of their
        kind, all together; the layers take turns within that.
        """
        ranked = sorted(self._ranked(), key=lambda pair: pair[0])
        return [cell for _, cell in ranked]

    def _ranked(self) -> Iterator[tuple[int, Cell]]:
        for (i, batch), (j, dtype) in itertools.product(
            enumerate(self.batches), enumerate(self.dtypes)
        ):
            for plane in self.planes:
                for k, layout in enumerate(plane.layouts):
                    yield i + j + k, Cell(plane, batch, dtype, layout)


FULL = Plan(
    planes=(
        Plane("ResNet-50 layer4", 2048, 7),
        Plane("ResNet-50 layer3", 1024, 14),
        Plane("ViT-B/16 tokens", 768, 14, ("tokens",)),
        Plane("ConvNeXt-T stage 4", 768, 7),
        Plane("VGG16 features", 512, 7),
        Plane("VGG16 before the pool", 512, 14),
    ),
    batches=(64, 1, 256, 8),
    dtypes=("bf16", "fp32", "fp16"),
    copy_bytes=2**30,
    pictures=((64, 224), (1, 224), (16, 1024)),
    masks=((64, 224), (256, 224)),
    network="resnet50",
    network_batch=64,
    network_side=224,
    rounds=10,
    warm_up=3,
    precisions=("bf16", "fp32", "fp16", "tf32"),
    photos=("chelsea", "coffee", "rocket", "motorcycle_left"),
    # What tests/kernels/inspection/test_report.py proves needs no device, and it takes a minute.
    tests=("tests/kernels", "--ignore=tests/kernels/inspection/test_report.py"),
    seconds=0.03,
)

REHEARSAL = Plan(
    planes=(Plane("convnet", 6, 5), Plane("tokens", 8, 4, ("tokens",))),
    batches=(1,),
    dtypes=("bf16", "fp32"),
    copy_bytes=2**20,
    pictures=((1, 32),),
    masks=((2, 32),),
    network="resnet18",
    network_batch=1,
    network_side=64,
    rounds=1,
    warm_up=0,
    precisions=("bf16", "tf32"),  # a CPU takes seconds for a picture in fp16
    photos=("chelsea",),
    tests=("tests/kernels/launch/test_dispatch.py", "-k", "environment or device"),
    seconds=0.002,
)


class Budget:
    """Seconds that may be spent, counted from the start."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._start = clock()

    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    def left(self) -> float:
        """Seconds that remain, 0 at least."""
        return max(0.0, self.seconds - self.spent())

    def part(self, most: float) -> "Budget":
        """Start a budget of ``most`` seconds, or of what is left if that is less."""
        return Budget(min(most, self.left()), self._clock)


class TooManyFailuresError(Exception):
    """A section has failed so often that the rest of it is not tried."""


@dataclass
class Record:
    """What became of one section.

    Attributes:
        name: The section's.
        title: The same for a reader.
        rows: One dictionary a measurement, in the order in which they were made.
        facts: Single figures of the section.
        unmeasured: What the time did not suffice for, a sentence each.
        notes: What a reader has to know beside the rows.
        failures: What went wrong, a sentence each.
        seconds: How long it took; None if it was not started.
    """

    name: str
    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    unmeasured: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float | None = None

    @property
    def status(self) -> str:
        """``failed``, ``skipped`` (not started), ``partial`` (out of time) or ``done``."""
        if self.failures:
            return "failed"
        if self.seconds is None:
            return "skipped"
        return "partial" if self.unmeasured else "done"

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Note an error inside the block as a failure of ``what``, and go on behind the block.

        Raises:
            TooManyFailuresError: It was one too many.
        """
        try:
            yield
        except TooManyFailuresError:
            raise
        except Exception as error:  # whatever it is, the other rows are wanted
            traceback.print_exc()
            reason = (str(error).strip() or "no message").splitlines()[0]
            self.failures.append(f"{what}: {type(error).__name__}: {reason}")
            if len(self.failures) >= MOST_FAILURES:
                raise TooManyFailuresError(
                    f"{len(self.failures)} failures; the rest of the section was not tried"
                ) from error

    def as_json(self) -> dict[str, Any]:
        """What the file of results holds."""
        return {
            "name": self.name,
            "title": self.title,
            "status": self.status,
            "seconds": self.seconds,
            "facts": self.facts,
            "rows": self.rows,
            "unmeasured": self.unmeasured,
            "notes": self.notes,
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Bench:
    """What a section works with."""

    machine: "Machine"
    plan: Plan
    budget: Budget  # of this section


@dataclass(frozen=True)
class Section:
    """One part of the check.

    Attributes:
        name: Its key in the results.
        title: Its headline.
        share: The most of the whole budget that it may take.
        describe: What it would do, in one sentence.
        run: Does it and fills the record; it looks at the budget before each measurement.
    """

    name: str
    title: str
    share: float
    describe: Callable[[Plan], str]
    run: Callable[[Bench, Record], None]
