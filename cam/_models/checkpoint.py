"""Read weights from a file that a stranger may have made."""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cam.errors import CheckpointError

# What training scripts wrap a state dict in, and what DataParallel and Lightning put in front.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema", "net")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_MOST_LISTED = 3
_LONGEST_LISTED = 60
# Names of modules and parameters, with dots between them.
_KEY = re.compile(r"[\w.:/\-]{1,500}")
_SMALL = 1 << 20
# A file of a few bytes can claim any number.
_MOST_CLASSES = 1_000_000
PathLike = str | os.PathLike[str]


def read_state_dict(path: PathLike) -> dict[str, Tensor]:
    """Read a ``.safetensors``, ``.pth`` or ``.pt`` file without running its code.

    Raises:
        CheckpointError: No such file, damaged, or a pickle that holds more than tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"there is no weights file {str(file)!r}")
    if file.suffix == ".safetensors":
        try:
            tensors = load_file(file)
        # Whatever a reader stumbles over, the file is not one of weights.
        except Exception as error:  # noqa: BLE001
            raise CheckpointError(f"{file.name} is no whole .safetensors file: {error}") from None
        return _check_tensors(tensors, file.name)
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
    # A damaged pickle calls torch's own functions with anything, and those raise anything.
    except Exception:  # noqa: BLE001
        raise CheckpointError(
            f"{file.name} is damaged or is no weights file; .safetensors, .pth and .pt are read"
        ) from None
    return _check_tensors(_tensors(content, file.name), file.name)


def _refuse_bomb(file: Path) -> None:
    """Refuse a packed archive, which may fill any memory; torch.save packs nothing."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
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


def _check_tensors(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Refuse names and tensors that no ``state_dict()`` of a network holds."""
    for key, tensor in tensors.items():
        if not _KEY.fullmatch(key):
            raise CheckpointError(
                f"{name} is refused: {key[:_LONGEST_LISTED]!a} names no parameter; the names "
                "of model.state_dict() are letters, digits and the signs . _ - : / between them"
            )
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            kind = "quantized" if tensor.is_quantized else f"{tensor.layout}, on {tensor.device}"
            raise CheckpointError(
                f"{name} is refused: {key} is no dense tensor ({kind}); save the state_dict() of "
                "a plain float model on the CPU"
            )
        # With a stride of 0 a few bytes claim to be any number of them.
        claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if claimed > held:
            raise CheckpointError(
                f"{name} is refused: {key} claims {claimed:,} bytes of the {held:,} that are "
                "stored; save contiguous tensors"
            )
    return tensors


def load_weights(build: Callable[[int | None], nn.Module], path: PathLike) -> nn.Module:
    """Build a module and load a weights file into it.

    Args:
        build: From a number of classes, or None for the architecture's own, to the module.
        path: The file. Its classifier says how many classes there are.

    Raises:
        CheckpointError: As :func:`read_state_dict`, or names or shapes do not fit; the first few
            of each are named.
    """
    module = build(None)
    expected = module.state_dict()
    state = _strip_prefixes(read_state_dict(path), expected)
    classes = _infer_classes(state, expected)
    if classes is not None:
        module = build(classes)
        expected = module.state_dict()
    problems = {
        "missing": [key for key in expected if key not in state],
        "unknown": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    sentences = [_list_keys(what, keys) for what, keys in problems.items() if keys]
    if sentences:
        raise CheckpointError(
            f"{Path(path).name} does not fit {type(module).__name__}: {'; '.join(sentences)}"
        )
    module.load_state_dict(state)
    return module


def _infer_classes(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> int | None:
    """Return a file's number of classes, if only that differs.

    A classifier and those beside it (distilled, auxiliary) have one row a class, and nothing else
    in a network depends on their number.
    """
    pairs = [(state[key].shape, value.shape) for key, value in expected.items() if key in state]
    differ = {(stored[:1], built[:1]) for stored, built in pairs if stored != built}
    if len(differ) != 1 or any(stored[1:] != built[1:] for stored, built in pairs):
        return None
    ((rows, _),) = differ
    return int(rows[0]) if rows and 0 < rows[0] <= _MOST_CLASSES else None


def _strip_prefixes(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove what wrappers put in front, in whatever order they were wrapped."""
    while not any(key in expected for key in state):
        shared = (start for start in _PREFIXES if all(key.startswith(start) for key in state))
        prefix = next(shared, None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _list_keys(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else ""
    return f"{what}: {', '.join(keys[:_MOST_LISTED])}{more}"
