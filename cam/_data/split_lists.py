"""Read the lists of names that split a data set."""

from collections.abc import Iterable
from pathlib import Path

from cam.errors import DataError


def list_splits(folder: Path, splits: Iterable[str]) -> tuple[str, ...]:
    """Name the splits whose list is in a folder."""
    return tuple(split for split in splits if (folder / f"{split}.txt").is_file())


def read_list(path: Path) -> list[str]:
    """Read the first word of each line; comments begin with ``#``.

    Raises:
        DataError: The list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"the list {str(path)!r} cannot be read: {error.strerror}") from None
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
