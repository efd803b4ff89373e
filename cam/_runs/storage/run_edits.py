"""Rename, note and delete runs, never while a process writes them."""

import os
import shutil
import tempfile
from pathlib import Path

from cam._runs.storage.store import locked, writing
from cam.errors import RunError

NOTE = "note.txt"
# A line a name, the latest last: links hold names.
FORMER = "former_names.txt"
MOST = 2000


def read_note(path: Path) -> str:
    """Read what people noted of a run; empty where there is nothing."""
    try:
        return (path / NOTE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write_note(path: Path, text: str) -> None:
    """Note something of a run, in place of what was noted.

    Raises:
        RunError: It is too long, or cannot be written.
    """
    text = text.strip()
    if len(text) > MOST:
        raise RunError(f"a note has at most {MOST:,} characters, but this one has {len(text):,}")
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=path)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path / NOTE)


def rename(path: Path, target: Path) -> None:
    """Give a run's folder another name; :func:`find_renamed` finds it by the old one.

    Raises:
        RunError: A process writes it, there is such a folder already, or it cannot be renamed.
    """
    _require_run(path)
    with locked(path):
        if target.exists():
            raise RunError(f"there is a run {target.name!r} already; take another name")
        with writing(path):
            with (path / FORMER).open("a", encoding="utf-8") as file:
                file.write(f"{path.name}\n")
            path.rename(target)


def find_renamed(path: Path) -> Path | None:
    """Find the run that had a folder's name before it was renamed; of several, the latest.

    Args:
        path: Where it was; a run that is there now goes before all others.
    """
    if path.exists():
        return path
    renamed: list[tuple[float, Path]] = []
    for names in path.parent.glob(f"*/{FORMER}"):
        try:
            if path.name in names.read_text(encoding="utf-8").splitlines():
                renamed.append((names.stat().st_mtime, names.parent))
        except (OSError, UnicodeDecodeError):
            continue
    return max(renamed)[1] if renamed else None


def delete(path: Path) -> None:
    """Delete a run's folder for good.

    Raises:
        RunError: It is no run, a process writes it, or it cannot be deleted.
    """
    _require_run(path)
    with locked(path), writing(path):
        # Under a hidden name first: it is there or it is not, also if this process dies.
        hidden = Path(tempfile.mkdtemp(prefix=".deleted-", dir=path.parent))
        path.rename(hidden / path.name)
    shutil.rmtree(hidden, ignore_errors=True)


def _require_run(path: Path) -> None:
    if path.is_symlink() or not (path / "run.json").is_file():
        raise RunError(f"there is no run in {str(path)!r}: it has no run.json")
