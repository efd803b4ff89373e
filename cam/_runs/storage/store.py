"""Keep a run's folder whole, whenever its writer dies.

::

    run.json                       what determines the result, and where it was made
    lock                           held while a process writes
    log.txt                        what happened, line by line
    shards/00000000-00000016/      items 0 to 15: TABLES, a .parquet file each, and their checksums
    damaged/00000000-00000016/     a shard that was not whole any more when the run went on

A shard is written as a folder under a temporary name, and then renamed: it is there or it is not.
When all shards of a block are there they are merged into one, of a wider range, before they are
removed; of ranges that overlap, the widest counts.
"""

import fcntl
import io
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cam._runs.plan.run_plan import FORMAT
from cam._runs.storage import checksums
from cam.errors import RunError

TABLES = ("scores", "remarks", "items", "costs", "maps", "pictures")
# Rows of scores that one merged file holds, about.
BLOCK_ROWS = 1_000_000
BLOCK_SHARDS = 256
DAMAGED = "damaged"
_WRITING = ".writing-"
_LOCK_TRIES = 5

Range = tuple[int, int]


class Store:
    """A run's folder.

    Args:
        path: The folder.
        facts: What ``run.json`` holds: ``config``, which determines the result, and ``notes``.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts
        config = facts["config"]
        self.items: int = config["data"]["items"]
        self.shard_size: int = config["shard_size"]
        rows = self.shard_size * len(config["methods"]) * len(config["metrics"])
        self.block = self.shard_size * max(1, min(BLOCK_SHARDS, BLOCK_ROWS // rows))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """Open a folder that a run was started in.

        Raises:
            RunError: It is none, or was written by another version.
        """
        folder = Path(path)
        try:
            facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            if facts["config"]["format"] != FORMAT:
                raise RunError(
                    f"the run {str(folder)!r} was written by another version of cam, whose tables "
                    "have other columns; evaluate again into a new folder"
                )
            return cls(folder, facts)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"there is no run in {str(folder)!r}: it has no run.json") from None
        except OSError as error:
            raise RunError(f"the run {str(folder)!r} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise RunError(f"{str(folder / 'run.json')!r} is damaged or of no run") from None

    @classmethod
    def create(cls, path: Path, config: dict[str, Any], notes: dict[str, Any]) -> "Store":
        """Create a new run's folder; the caller holds its lock.

        Raises:
            RunError: It cannot be written.
        """
        facts = {"config": config, "notes": notes}
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        with writing(path):
            (path / "shards").mkdir(parents=True, exist_ok=True)
            temporary = path / f"{_WRITING}run.json"
            _write(temporary, text.encode())
            temporary.replace(path / "run.json")
        return cls(path, json.loads(text))

    def ranges(self) -> list[Range]:
        """List the stored ranges of items, without those inside others."""
        try:
            names = [entry.name for entry in os.scandir(self.path / "shards")]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"the run {str(self.path)!r} cannot be read: {error.strerror}") from None
        matches = filter(None, (re.fullmatch(r"(\d+)-(\d+)", name) for name in names))
        stored = [(int(match[1]), int(match[2])) for match in matches]
        outermost: list[Range] = []
        for start, stop in sorted(stored, key=lambda shard: (shard[0], -shard[1])):
            if not outermost or stop > outermost[-1][1]:
                outermost.append((start, stop))
        return outermost

    def done(self) -> int:
        """Count the stored items."""
        return sum(stop - start for start, stop in self.ranges())

    def files(self, table: str) -> list[str]:
        """List the Parquet files of a table, in the items' order."""
        return [str(self._folder(shard) / f"{table}.parquet") for shard in self.ranges()]

    def write(self, shard: Range, tables: Mapping[str, Any]) -> None:
        """Store a shard so that it survives a loss of power.

        Raises:
            RunError: The disk is full, or the folder cannot be written.
        """
        import pyarrow.parquet as parquet

        with writing(self.path):
            target = self._folder(shard)
            temporary = Path(tempfile.mkdtemp(prefix=_WRITING, dir=target.parent))
            try:
                contents = {}
                for name, table in tables.items():
                    buffer = io.BytesIO()
                    parquet.write_table(table, buffer, compression="zstd")
                    contents[f"{name}.parquet"] = buffer.getvalue()
                contents[checksums.NAME] = checksums.make_checksums(contents)
                for name, content in contents.items():
                    _write(temporary / name, content)
                temporary.chmod(0o755)
                if target.exists():
                    shutil.rmtree(target)
                temporary.rename(target)
                _sync_folder(target.parent)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise

    def find_damage(self) -> dict[Range, str]:
        """Find shards that are not what was written: their ranges, each with a clause why.

        A shard that a writer merges meanwhile is left out.
        """
        damage = {shard: checksums.find_damage(self._folder(shard)) for shard in self.ranges()}
        problems = {shard: reason for shard, reason in damage.items() if reason is not None}
        return {shard: problems[shard] for shard in self.ranges() if shard in problems}

    def require_whole(self) -> None:
        """Refuse a folder of which something is not what was written.

        Raises:
            RunError: A shard is damaged, and which.
        """
        for shard, reason in self.find_damage().items():
            raise RunError(
                f"the run {str(self.path)!r} is damaged: of the shard {self._folder(shard).name} "
                f"{reason}; resume the run, which computes this part again"
            )

    def set_damage_aside(self) -> list[str]:
        """Move damaged shards out of the way; the caller holds the lock.

        Returns:
            A sentence for each.

        Raises:
            RunError: The folder cannot be written.
        """
        sentences = []
        for shard, reason in self.find_damage().items():
            source = self._folder(shard)
            with writing(self.path):
                (self.path / DAMAGED).mkdir(exist_ok=True)
                target = self.path / DAMAGED / source.name
                number = 1
                while target.exists():
                    number += 1
                    target = target.with_name(f"{source.name}-{number}")
                source.rename(target)
                _sync_folder(source.parent)
            sentences.append(
                f"of the shard {source.name} {reason}: it lies in {DAMAGED}/{target.name} now, and "
                "its images are computed again"
            )
        return sentences

    def merge(self) -> None:
        """Merge every block whose shards are all there, the last one too.

        Blocks begin at fixed items, so the files are the same however often the run was stopped.
        """
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        stored = self.ranges()
        for start, stop in self._blocks():
            inside = [shard for shard in stored if start <= shard[0] and shard[1] <= stop]
            if len(inside) < 2 or sum(b - a for a, b in inside) < stop - start:
                continue
            tables = {}
            for name in TABLES:
                files = [self._folder(shard) / f"{name}.parquet" for shard in inside]
                parts = [parquet.read_table(file) for file in files]
                tables[name] = arrow.concat_tables(parts).unify_dictionaries()
            self.write((start, stop), tables)
        self.clear()

    @property
    def merged(self) -> bool:
        """Whether every block is one file, and nothing is left beside them."""
        blocks = {self._folder(block).name for block in self._blocks()}
        return blocks == {entry.name for entry in os.scandir(self.path / "shards")}

    def clear(self) -> None:
        """Remove half-written and merged shards."""
        stored = {self._folder(shard).name for shard in self.ranges()}
        with writing(self.path):
            for entry in os.scandir(self.path / "shards"):
                if entry.name not in stored:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def log(self, text: str) -> None:
        """Add a line with the time to ``log.txt``.

        Raises:
            RunError: It cannot be written.
        """
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n"
        with writing(self.path), (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line)

    def _blocks(self) -> Iterator[Range]:
        for start in range(0, self.items, self.block):
            yield start, min(start + self.block, self.items)

    def _folder(self, shard: Range) -> Path:
        return self.path / "shards" / f"{shard[0]:08d}-{shard[1]:08d}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run's lock, which ends with the process in any case.

    Raises:
        RunError: Another process holds it, or the folder cannot be written.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        file = (path / "lock").open("a+", encoding="utf-8")
    with file:
        try:
            _take(file)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunError(
                f"the run {str(path)!r} is being written by {holder}; wait for it, or write into "
                "another folder"
            ) from None
        except OSError as error:
            raise RunError(
                f"the run {str(path)!r} cannot be locked: {error.strerror}; use a file system that "
                "has locks"
            ) from None
        with writing(path):
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def _take(file: TextIO) -> None:
    """Lock a file, trying again: a look at it holds it briefly."""
    for _ in range(_LOCK_TRIES):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise RunError(
            f"cannot write into {str(path)!r}: {reason}; what was done before is kept"
        ) from None


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
