"""Keep converted networks on the disk, as converting takes seconds."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

LOG = logging.getLogger("cam.models")
# Files of converted networks, the newest; each has about the size of the weights.
MOST_COPIES = 8
_CONVERTED, _MEASURED = ".onnx", ".json"


def find_folder() -> Path:
    """Return where copies are kept: in CAM_CACHE, or in the user's cache."""
    named = os.environ.get("CAM_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cam" / "onnx"


def identify(module: nn.Module, batch: Tensor) -> str:
    """Hash all that a converted network depends on; its code is compared by what it computes.

    Args:
        module: The network.
        batch: (N, C, H, W), whose images it is converted for.
    """
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    versions = [torch.__version__, *(version(name) for name in ("onnx", "onnxscript"))]
    digest.update(f"{module!r} {tuple(batch.shape[1:])} {versions}".encode())
    return digest.hexdigest()


def read_copy(key: str) -> bytes | None:
    """Read a converted network; None if none is kept."""
    path = find_folder() / (key + _CONVERTED)
    try:
        content = path.read_bytes()
        path.touch()
    except OSError:
        return None
    return content


def keep_copy(key: str, content: bytes) -> None:
    """Keep a converted network, and only the newest few of all."""
    if not _write(find_folder() / (key + _CONVERTED), content):
        return
    paths = sorted(find_folder().glob(f"*{_CONVERTED}"), key=_read_time, reverse=True)
    for path in paths[MOST_COPIES:]:
        for old in (path, *path.parent.glob(f"{path.stem}*{_MEASURED}")):
            with suppress(OSError):
                old.unlink()


def read_choice(key: str, machine: str) -> dict[str, Any] | None:
    """Read what was measured of a network on a machine; None if nothing was."""
    try:
        choice = json.loads(_name_choice(key, machine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return choice if isinstance(choice, dict) and choice.get("machine") == machine else None


def keep_choice(key: str, machine: str, choice: Mapping[str, Any]) -> None:
    """Keep what was measured of a network on a machine."""
    text = json.dumps({**choice, "machine": machine}, indent=1)
    _write(_name_choice(key, machine), text.encode())


def _name_choice(key: str, machine: str) -> Path:
    short = hashlib.sha256(machine.encode()).hexdigest()[:16]
    return find_folder() / f"{key}-{short}{_MEASURED}"


def _read_time(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _write(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all; a cache that cannot be written is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError:
        LOG.debug("nothing can be kept in %s", path.parent, exc_info=True)
        return False
    return True
