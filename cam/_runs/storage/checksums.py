"""Write checksums of files, and find what has changed since."""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

NAME = "checksums.json"
# Bytes that are read at once.
_PART = 1 << 20


def make_checksums(contents: Mapping[str, bytes]) -> bytes:
    """Make the file that lists a shard's files with their SHA-256."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return (json.dumps(sums, indent=1) + "\n").encode()


def find_damage(folder: Path) -> str | None:
    """Say what of a shard is missing or no longer what was written; None: it is whole.

    Every byte is read, once for each state of the files: a process that looks again only asks when
    they were changed.

    Args:
        folder: Of the shard.

    Returns:
        A clause, such as "maps.parquet is missing".
    """
    try:
        sums = json.loads((folder / NAME).read_text(encoding="utf-8"))
        names = [(str(name), str(value)) for name, value in sums.items()]
    except FileNotFoundError:
        return f"{NAME} is missing"
    except (OSError, ValueError, AttributeError):
        return f"{NAME} cannot be read"
    for name, expected in names:
        path = folder / name
        try:
            status = path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if _hash_file(path, state) != expected:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


@lru_cache(maxsize=1 << 14)
def _hash_file(path: Path, state: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
