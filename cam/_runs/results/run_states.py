"""List the runs in a folder and their states, without reading tables."""

import fcntl
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cam._runs.results.run import Run
from cam.errors import RunError

# A log is read from its end: the last start stands there.
_TAIL = 65_536


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        path: The folder.
        state: "running" (a process holds its lock), "stopped", "finished" or "damaged".
        done: Items that are stored.
        total: Items that will be.
        started: When it was first started, ISO 8601; "" where that is not known.
        holder: Who writes it, as "process 7 on host"; None where nobody does.
        images_per_second: Since the last start, where it is running.
        seconds_left: At that speed.
        problem: Why it is damaged, in one sentence.
    """

    path: Path
    state: str
    done: int = 0
    total: int = 0
    started: str = ""
    holder: str | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name


def runs(folder: str | Path) -> list[RunState]:
    """List every run in a folder, the latest first.

    Raises:
        RunError: The folder cannot be read; one that is not there has no runs.
    """
    try:
        inside = [path for path in Path(folder).iterdir() if (path / "run.json").exists()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"the folder of runs {str(folder)!r} cannot be read: {error.strerror}"
        ) from None
    states = [read_state(path) for path in inside]
    return sorted(states, key=lambda state: (state.started, state.name), reverse=True)


def read_state(path: str | Path) -> RunState:
    """Read how far a run is; an unreadable one is "damaged"."""
    folder = Path(path)
    try:
        run = Run.open(folder)
        done, total = run.done, run.total
    except RunError as error:
        return RunState(folder, "damaged", problem=str(error))
    started = str(run.notes.get("started", ""))
    # A finished run that is looked at by a second evaluate holds its lock for a moment.
    writer = holder(folder) if done < total else None
    if writer is None:
        return RunState(folder, "finished" if done >= total else "stopped", done, total, started)
    speed = _compute_speed(folder, done)
    left = (total - done) / speed if speed else None
    return RunState(folder, "running", done, total, started, writer, speed, left)


def holder(path: Path) -> str | None:
    """Find who holds a run's lock; None if nobody visible does.

    Looking takes the lock for a moment, as the system offers no other way; a writer that meets it
    tries again.
    """
    try:
        with (path / "lock").open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "another process"
    except OSError:
        pass
    return None


def measure_duration(path: Path) -> float | None:
    """Measure the seconds from each start of a run to its end, summed up; None without a log."""
    try:
        lines = (path / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    total, begun, latest = 0.0, None, None
    for line in lines:
        stamp, _, text = line.partition(" ")
        try:
            now = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S%z").timestamp()
        except ValueError:
            continue
        if text.startswith("started with "):
            # One that was killed ended with what it wrote last.
            total += 0 if begun is None or latest is None else latest - begun
            begun = now
        latest = now
        if begun is not None and text.startswith(("finished in ", "stopped with ")):
            total, begun = total + now - begun, None
    return total if begun is None else total + (latest or begun) - begun


def _compute_speed(path: Path, done: int) -> float | None:
    """Compute images a second since the last start; None before any."""
    try:
        with (path / "log.txt").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
        line = next(entry for entry in reversed(lines) if " started with " in entry)
        begun = datetime.strptime(line.split(" ", 1)[0], "%Y-%m-%dT%H:%M:%S%z").timestamp()
        before = int(line.split(" started with ", 1)[1].split(" ", 1)[0])
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    seconds = time.time() - begun
    return (done - before) / seconds if done > before and seconds > 0 else None
