"""Explanations as files: an overlay, the arrays, and a record of how they were made."""

import base64
import io
import json
import math
import os
import platform
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cam import kernels
from cam._methods.base.method_registry import methods
from cam._models.model import Model
from cam.errors import CamError
from cam.targets import Contrast
from cam.types import Attribution
from cam.version import __version__

TOP = 5
_PACKAGES = ("torch", "torchvision", "timm", "triton", "numpy", "pillow")


def record(
    model: Model, attribution: Attribution, index: int, image: str, notes: Iterable[str] = ()
) -> dict[str, Any]:
    """What a program needs to know of one image's explanation, ready for JSON.

    Args:
        model: The model that was explained.
        attribution: One method's answer for the batch; its targets are classes, or contrasts
            between two.
        index: Which image of the batch.
        image: The picture's name.
        notes: What was done to the picture when it was read.
    """
    target = attribution.targets[index]
    against = target.against if isinstance(target, Contrast) else None
    explained = target.target if isinstance(target, Contrast) else target
    if not isinstance(explained, Tensor | int):
        raise CamError("a record names a class, and a callable was explained here")
    logits = attribution.logits[index]
    probabilities = logits.softmax(0)
    top = probabilities.topk(min(TOP, len(probabilities))).indices.tolist()

    def of_class(number: int) -> dict[str, Any]:
        return {
            "index": number,
            "label": model.label(number),
            "probability": _number(probabilities[number]),
            "score": _number(logits[number]),
        }

    return {
        "image": image,
        "model": model.name,
        "method": attribution.method,
        "citation": methods()[attribution.method].citation,
        "layers": list(attribution.layers),
        "precision": attribution.precision,
        "target": of_class(int(explained)),
        **({} if against is None else {"against": of_class(int(against))}),
        "predictions": [of_class(number) for number in top],
        "heatmap_shape": list(attribution.heatmap.shape[1:]),
        "raw_shape": list(attribution.raw.shape[1:]),
        "notes": [*notes, *(note for at, note in attribution.notes() if at == index)],
        "kernels": kernels.backend(attribution.heatmap),
        "device": str(attribution.heatmap.device),
        "versions": versions(),
    }


def _number(value: Tensor) -> float | None:
    """Six digits behind the point; None for NaN and infinity, which JSON does not know."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of everything that a number may depend on."""
    found = {"cam": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def png_bytes(image: Image.Image) -> bytes:
    """A picture as PNG, without loss."""
    buffer = io.BytesIO()
    # Level 1 takes a third of the default's time for a tenth more bytes.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` address, for a page or a report that has no files beside it."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode()}"


def npz_bytes(attribution: Attribution, index: int) -> bytes:
    """One image's ``heatmap`` (H, W) and ``raw`` (h, w) map, float32, as compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        heatmap=attribution.heatmap[index].cpu().numpy(),
        raw=attribution.raw[index].cpu().numpy(),
    )
    return buffer.getvalue()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Files, by their names, in one archive; pictures and arrays are compressed already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def write_explanation(
    folder: Path, stem: str, picture: Image.Image, arrays: bytes, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write ``STEM.png``, ``STEM.npz`` and ``STEM.json``, all of them or none.

    Each file appears whole, under its name, or not at all; the JSON comes last, so that where it
    is, the others are.

    Returns:
        ``facts`` with the names of the files.

    Raises:
        CamError: The folder cannot be written.
    """
    names = {kind: f"{stem}.{kind}" for kind in ("png", "npz", "json")}
    facts = {**facts, "files": names}
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    contents = {
        names["png"]: png_bytes(picture),
        names["npz"]: arrays,
        names["json"]: text.encode(),
    }
    staged: dict[Path, Path] = {}
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            staged[folder / name] = _staged(folder / name, content)
        # Only now, when all of it is on the disk, may files of an earlier run give way.
        for path, temporary in staged.items():
            temporary.replace(path)
            written.append(path)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        reason = (
            "there is a file of that name"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror or type(error).__name__
        )
        raise CamError(f"cannot write into {str(folder)!r}: {reason}") from None
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
    return facts


def _staged(path: Path, content: bytes) -> Path:
    """Write under a temporary name beside ``path``; renamed, it appears there as a whole."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files that only their owner can read; the umask should decide.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Path(temporary)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that appears whole, or not at all.

    Raises:
        OSError: It cannot be written.
    """
    temporary = _staged(path, content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def distinct_stems(names: Iterable[str]) -> Iterator[str]:
    """File stems for pictures of any name: ``cat``, and ``cat-2`` where another cat came before."""
    seen: set[str] = set()
    for name in names:
        stem = Path(name.removeprefix("sample:")).stem or "picture"
        candidate, count = stem, 1
        while candidate in seen:
            count += 1
            candidate = f"{stem}-{count}"
        seen.add(candidate)
        yield candidate
