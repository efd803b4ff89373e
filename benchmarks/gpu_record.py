"""What the check's sections share: the time that is left, and what became of each section."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.gpu_plan import Plan

if TYPE_CHECKING:
    from benchmarks.gpu_machine import Machine

# A GPU that has faulted fails everything from there on; the same sentence a hundred times over
# tells no more than these.
MOST_FAILURES = 10


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
        """A budget of its own, from now on: ``most`` seconds, or what is left if that is less."""
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
