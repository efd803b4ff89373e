"""Write explanations: an overlay, the arrays, a record."""

import base64
import io
import json
import math
import platform
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from cam import kernels
from cam._methods.base.method_registry import methods
from cam._output.target_names import name_target
from cam.errors import CamError
from cam.targets import Contrast, Similarity
from cam.types import Attribution
from cam.version import __version__

TOP = 5
_PACKAGES = ("torch", "torchvision", "timm", "triton", "numpy", "pillow")


class NamedClasses(Protocol):
    """What a record needs of a model."""

    @property
    def name(self) -> str:
        """What the model is called."""

    def label(self, index: int) -> str:
        """Return the name of a class."""


def record(
    model: NamedClasses,
    attribution: Attribution,
    index: int,
    image: str,
    notes: Iterable[str] = (),
) -> dict[str, Any]:
    """Collect the facts of an explanation, ready for JSON.

    Args:
        model: The model that was explained.
        attribution: One method's answer for the batch.
        index: Which image of the batch.
        image: The picture's name.
        notes: What was done to the picture when it was read.
    """
    target, logits = attribution.targets[index], attribution.logits[index]

    def of_class(number: int) -> dict[str, Any]:
        return {
            "index": number,
            "label": model.label(number),
            "probability": _number(logits.softmax(0)[number]),
            "score": _number(logits[number]),
        }

    classes = logits.ndim == 1
    explained = target.target if isinstance(target, Contrast) else target
    against = target.against if isinstance(target, Contrast) else None
    if classes and isinstance(explained, Tensor | int):
        of_target = of_class(int(explained))
    else:
        score = _number(attribution.scores[index])
        of_target = {"label": name_target(target, model.label), "score": score}
    # Of features none is a prediction.
    predicts = classes and not isinstance(target, Similarity)
    top = logits.topk(min(TOP, len(logits))).indices.tolist() if predicts else []
    return {
        "image": image,
        "model": model.name,
        "method": attribution.method,
        "kind": attribution.kind,
        "citation": methods()[attribution.method].citation,
        "layers": list(attribution.layers),
        "precision": attribution.precision,
        "target": of_target,
        **({"against": of_class(against)} if isinstance(against, int) else {}),
        "predictions": [of_class(number) for number in top],
        "heatmap_shape": list(attribution.heatmap.shape[1:]),
        "raw_shape": list(attribution.raw.shape[1:]),
        "notes": [*notes, *(note for at, note in attribution.notes() if at == index)],
        "kernels": kernels.backend(attribution.heatmap),
        "device": str(attribution.heatmap.device),
        "versions": versions(),
    }


def _number(value: Tensor) -> float | None:
    """Round to six digits; None for NaN and infinity, unknown to JSON."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """List the versions of everything that a number may depend on."""
    versions = {"cam": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def png_bytes(image: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    # Level 1 takes a third of the default's time for a tenth more bytes.
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def data_uri(image: Image.Image) -> str:
    """Encode a picture as a ``data:`` address, for a page without files."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode()}"


def npz_bytes(attribution: Attribution, index: int) -> bytes:
    """Encode an image's float32 ``heatmap`` (H, W) and ``raw`` (h, w) as ``.npz``.

    Of a volume they are (D, H, W) and (d, h, w).
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        heatmap=attribution.heatmap[index].cpu().numpy(),
        raw=attribution.raw[index].cpu().numpy(),
    )
    return buffer.getvalue()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Pack files into an archive, uncompressed: pictures and arrays are so already."""
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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_files({folder / name: content for name, content in contents.items()})
    except OSError as error:
        reason = (
            "there is a file of that name"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror or type(error).__name__
        )
        raise CamError(f"cannot write into {str(folder)!r}: {reason}") from None
    return facts


def replace_files(contents: Mapping[Path, bytes]) -> None:
    """Write files that appear whole, in order, all or none.

    Raises:
        OSError: They cannot be written.
    """
    staged = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}") for path in contents}
    written: list[Path] = []
    try:
        for path, content in contents.items():
            with staged[path].open("xb") as file:
                file.write(content)
        # Only now, when all of it is on the disk, may files of an earlier run give way.
        for path, temporary in staged.items():
            temporary.replace(path)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def distinct_stems(names: Iterable[str]) -> Iterator[str]:
    """Yield distinct file stems: ``cat``, and ``cat-2`` for another cat."""
    taken: set[str] = set()
    for name in names:
        stem = Path(name.removeprefix("sample:")).stem or "picture"
        candidate, count = stem, 1
        while candidate in taken:
            count += 1
            candidate = f"{stem}-{count}"
        taken.add(candidate)
        yield candidate
