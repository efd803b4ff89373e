"""Download published weights: with progress, cancellable, atomic.

They go where torchvision and timm look for them, the folders of ``torch.hub`` and of
``huggingface_hub``, so that a model loads from there afterwards, and other programs find them too.
"""

import hashlib
import re
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch

from cam.errors import Cancelled, ModelError

# Of silence, after which a server is given up. Torch's own client waits without end.
_SILENCE_SECONDS = 10
_ANSWER_SECONDS = 5
_CHUNK = 1 << 16
_STARTS = 3
# In the order in which timm asks for them.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class DownloadProgress:
    """How far a download is.

    Attributes:
        done: Bytes that are here.
        total: Bytes in all; None where the server does not say.
    """

    done: int
    total: int | None


Report = Callable[[DownloadProgress], object]
"""Called with the progress, from the first byte on; an answer of False cancels."""


@dataclass(frozen=True)
class Published:
    """Where the weights of a model are published: a file's address, or a repository of the hub.

    Attributes:
        name: The model's, for messages.
        url: The file's address, or None.
        repository: The hub's, or None.
        checked: Whether the file's name ends in the beginning of its SHA-256.
        files: What the repository may call them, the first choice first.
    """

    name: str
    url: str | None
    repository: str | None = None
    checked: bool = False
    files: tuple[str, ...] = _HUB_FILES

    @property
    def here(self) -> bool:
        """Whether they are on this machine already; uses no network."""
        if self.repository is not None:
            return self.hub_file is not None
        return self.file.is_file()

    @property
    def hub_file(self) -> Path | None:
        """Where the hub's client keeps the repository's file; None before it is here."""
        import huggingface_hub

        for name in self.files:
            path = huggingface_hub.try_to_load_from_cache(str(self.repository), name)
            if isinstance(path, str):
                return Path(path)
        return None

    @property
    def file(self) -> Path:
        """Where ``torch.hub`` keeps the file of that address."""
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(str(self.url)).path).name

    def fetch(self, report: Report | None = None) -> None:
        """Download them, unless they are here.

        Args:
            report: Called with a :class:`DownloadProgress`, after each 64 KiB at most of a
                file, and after each MiB of the hub's; False cancels.

        Raises:
            ModelError: They cannot be had; nothing is left of what came.
            Cancelled: ``report`` answered False; the same.
        """
        if self.here:
            return
        try:
            if self.repository is not None:
                refuse_if_unreachable()
                _fetch_from_hub(self.repository, self.files, report)
            else:
                _fetch_file(str(self.url), self.file, self.checked, report)
        except Cancelled:
            raise
        # The hub's client has changed the library under it twice, and its errors with it.
        except Exception as error:  # noqa: BLE001
            raise no_weights(self.name, error) from None


def no_weights(name: str, error: Exception) -> ModelError:
    """State in one sentence why weights cannot be had."""
    return ModelError(
        f"the weights of {name} could not be downloaded ({describe_failure(error)}); connect to "
        "the network, give a file of weights, or use random ones"
    )


def describe_failure(error: Exception) -> str:
    """Describe in a few words why a download failed."""
    lines = str(getattr(error, "reason", error)).splitlines() or [type(error).__name__]
    # An operating system's number says nothing to a reader.
    return re.sub(r"^\[Errno -?\d+\] ", "", lines[0])[:200]


def _fetch_file(url: str, path: Path, checked: bool, report: Report | None) -> None:
    # Like torch.hub.download_url_to_file, which reports no progress, waits for a silent
    # network without end, and keeps a file that broke off where its name carries no hash.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    request = urllib.request.Request(url, headers={"User-Agent": "torch.hub"})
    digest, done = hashlib.sha256(), 0
    try:
        with (
            urllib.request.urlopen(request, timeout=_SILENCE_SECONDS) as answer,
            partial.open("xb") as file,
        ):
            length = answer.headers.get("Content-Length")
            total = None if length is None else int(length)
            _tell(report, 0, total)
            while chunk := answer.read1(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                _tell(report, done, total)
        if total is not None and done != total:
            raise HTTPException(f"it broke off after {done:,} of {total:,} bytes")
        named = torch.hub.HASH_REGEX.search(path.name) if checked else None
        if named and not digest.hexdigest().startswith(named.group(1)):
            raise HTTPException("what came is not what was published: its SHA-256 is another one")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _fetch_from_hub(repository: str, files: tuple[str, ...], report: Report | None) -> None:
    if not any(download_hub_file(repository, file, report) for file in files):
        raise HTTPException(f"{repository} holds none of {', '.join(files)}")


def download_hub_file(repository: str, file: str, report: Report | None = None) -> bool:
    """Download a file of the hub into its cache; returns whether the repository has it.

    Raises:
        Exception: Whatever the hub's client raises where it gets no answer.
    """
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with _watchable():
            huggingface_hub.hf_hub_download(repository, file, tqdm_class=_progress_bar(report))
    except LocalEntryNotFoundError:
        raise  # no answer at all
    except EntryNotFoundError:
        return False
    return True


def _progress_bar(report: Report | None) -> type[Any]:
    """Make what the hub's client takes for a progress bar."""

    class Watch:
        def __init__(self, *_: object, total: int | None = None, **_options: object) -> None:
            self.total, self.done, self.restarts = total, 0, 0
            _tell(report, 0, total)

        def __enter__(self) -> "Watch":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, more: float | None = 1) -> None:
            self.done += int(more or 0)
            # The client starts again without end at a server that always breaks off at one place.
            self.restarts += (more or 0) < 0
            if self.restarts == _STARTS:
                raise HTTPException(f"it broke off or fell silent {_STARTS} times")
            _tell(report, self.done, self.total)

    return Watch


# Xet, the hub's other protocol, reads in separate threads that no callback can stop; and ten
# megabytes at once are minutes without a word on a slow line.
_WATCHABLE = {"HF_HUB_DISABLE_XET": True, "DOWNLOAD_CHUNK_SIZE": 1 << 20}
_before: dict[str, Any] = {}
_watching, _guard = 0, threading.Lock()


@contextmanager
def _watchable() -> Iterator[None]:
    """Let the hub's client report progress during a download."""
    global _watching
    from huggingface_hub import constants

    with _guard:
        if not _watching:
            _before.update({name: getattr(constants, name) for name in _WATCHABLE})
            for name, value in _WATCHABLE.items():
                setattr(constants, name, value)
        _watching += 1
    try:
        yield
    finally:
        with _guard:
            _watching -= 1
            if not _watching:
                for name, value in _before.items():
                    setattr(constants, name, value)


def _tell(report: Report | None, done: int, total: int | None) -> None:
    if report is not None and report(DownloadProgress(done, total)) is False:
        raise Cancelled("the download was cancelled")


def refuse_if_unreachable() -> None:
    """Ask the hub once, as its client retries for most of a minute.

    Raises:
        OSError: It does not answer.
    """
    from huggingface_hub import constants

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return
