"""Reading weights from a file that a stranger may have made."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cam.errors import CheckpointError

# What training scripts wrap a state dict in, and what DataParallel and Lightning put in front.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "net")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SHOWN = 3
_SMALL = 1 << 20
# A file of a few bytes can claim any number.
_MOST_CLASSES = 1_000_000
PathLike = str | os.PathLike[str]


def read_state_dict(path: PathLike) -> dict[str, Tensor]:
    """Read a ``.safetensors``, ``.pth`` or ``.pt`` file of tensors without running code from it.

    Raises:
        CheckpointError: No such file, damaged, or a pickle that holds more than tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"there is no weights file {str(file)!r}")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file.name} is no whole .safetensors file: {error}") from None
    _refuse_bomb(file)
    try:
        with warnings.catch_warnings():
            # torch warns of odd pickles before it refuses them.
            warnings.simplefilter("ignore")
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{file.name} is refused: it is damaged or holds more than tensors, and reading that "
            "could run code; save model.state_dict() alone, or use .safetensors"
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, UnicodeDecodeError):
        raise CheckpointError(
            f"{file.name} is damaged or is no weights file; .safetensors, .pth and .pt are read"
        ) from None
    return _tensors(content, file.name)


def _refuse_bomb(file: Path) -> None:
    """An archive that is packed may fill any memory; torch.save packs nothing."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(one.file_size for one in archive.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # torch says what is wrong with it
    if unpacked > max(_SMALL, 2 * file.stat().st_size):
        raise CheckpointError(
            f"{file.name} is refused: it unpacks to {unpacked:,} bytes, more than twice its size; "
            "save model.state_dict() with torch.save, or use .safetensors"
        )


def _tensors(content: Any, name: str) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{name} holds no state dict; save model.state_dict()")
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(f"{name} holds no tensors; save model.state_dict()")
    return tensors


def load_weights(build: Callable[[int | None], nn.Module], path: PathLike) -> nn.Module:
    """Build a module and load a weights file into it.

    Args:
        build: From a number of classes, or None for the architecture's own, to the module.
        path: The file. Its classifier says how many classes there are.

    Raises:
        CheckpointError: As :func:`read_state_dict`, or names or shapes do not fit; the first few
            of each are told.
    """
    module = build(None)
    own = module.state_dict()
    found = _without_prefix(read_state_dict(path), own)
    classes = _other_classes(found, own)
    if classes is not None:
        module = build(classes)
        own = module.state_dict()
    problems = [
        *_listed("missing", [key for key in own if key not in found]),
        *_listed("unknown", [key for key in found if key not in own]),
        *_listed(
            "of another shape",
            [
                f"{key} {tuple(found[key].shape)} instead of {tuple(value.shape)}"
                for key, value in own.items()
                if key in found and found[key].shape != value.shape
            ],
        ),
    ]
    if problems:
        raise CheckpointError(
            f"{Path(path).name} does not fit {type(module).__name__}: {'; '.join(problems)}"
        )
    module.load_state_dict(found)
    return module


def _other_classes(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """The number of classes for which a file was made, if that is all in which it differs.

    A classifier and those beside it (distilled, auxiliary) have one row a class, and nothing else
    in a network depends on their number.
    """
    pairs = [(found[key].shape, value.shape) for key, value in own.items() if key in found]
    differ = {(one[:1], other[:1]) for one, other in pairs if one != other}
    if len(differ) != 1 or any(one[1:] != other[1:] for one, other in pairs):
        return None
    ((rows, _),) = differ
    return int(rows[0]) if rows and 0 < rows[0] <= _MOST_CLASSES else None


def _without_prefix(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers put in front, in whatever order they were wrapped."""
    while not any(key in own for key in found):
        prefix = next((one for one in _PREFIXES if all(key.startswith(one) for key in found)), None)
        if prefix is None:
            break
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def _listed(what: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return [f"{what}: {', '.join(items[:_SHOWN])}{more}"]
