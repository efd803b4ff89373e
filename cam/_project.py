"""Read a project file, which lists a team's models and data."""

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cam._data.dataset import Dataset
from cam._data.source import GENERATED, dataset
from cam._models.device import choose_device
from cam._models.families.hugging_face import PREFIX
from cam._models.load import load_model, names_checkpoint
from cam._models.model import Model
from cam._models.own_code import names_code
from cam.errors import InputError, nearest

_MODEL_KEYS = ("load", "weights", "labels", "device", "prompts")
_FORM = "a project names [models.NAME] with load = …, or [data.NAME] with source = …"


@dataclass(frozen=True)
class Project:
    """Models and data that are opened when somebody asks for them.

    Attributes:
        models: Name → loads the model.
        data: Name → opens the data.
    """

    models: Mapping[str, Callable[[], Model]]
    data: Mapping[str, Callable[[], Dataset]]


def read_project(path: str | os.PathLike[str]) -> Project:
    """Read a ``cam.toml``; nothing is loaded yet.

    Each table ``[models.NAME]`` has ``load``, a name of :func:`cam.load_model` such as
    ``torchvision/resnet50`` or ``package.module:function``, and may have ``weights``, ``labels``,
    ``device`` and ``prompts``; each ``[data.NAME]`` has ``source`` and the options of
    :func:`cam.dataset`. Paths are relative to the file.

    Raises:
        InputError: It cannot be read, names nothing, or says something else.
    """
    file = Path(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the project {str(file)!r} cannot be read: {reason}") from None
    unknown = content.keys() - {"models", "data"}
    if unknown:
        raise InputError(f"{file.name} has {', '.join(sorted(unknown))!r}; {_FORM}")
    models, data = (_read_tables(content.get(kind, {}), kind, file) for kind in ("models", "data"))
    if not models and not data:
        raise InputError(f"{file.name} names no model and no data set; {_FORM}")
    return Project(
        {name: _make_model(name, table, file) for name, table in models.items()},
        {name: _make_data(name, table, file) for name, table in data.items()},
    )


def _read_tables(tables: Any, kind: str, file: Path) -> dict[str, dict[str, Any]]:
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise InputError(f"{file.name}: {kind} must hold tables; {_FORM}")
    return tables


def _make_model(name: str, table: Mapping[str, Any], file: Path) -> Callable[[], Model]:
    unknown = [key for key in table if key not in _MODEL_KEYS]
    if unknown:
        closest = nearest(unknown[0], _MODEL_KEYS)
        raise InputError(f"{file.name}: the model {name!r} has no {unknown[0]!r}; {closest}")
    load = _require_text(table, "load", name, file)
    if names_checkpoint(load) and (file.parent / load.removeprefix(PREFIX)).is_dir():
        load = f"{PREFIX}{file.parent / load.removeprefix(PREFIX)}"
    weights = _resolve(file, table.get("weights", "DEFAULT"))
    labels = table.get("labels")
    labels = _resolve(file, labels) if isinstance(labels, str) else labels
    device, prompts = table.get("device", "auto"), table.get("prompts")

    def make() -> Model:
        file_or_none = None if weights == "none" else weights
        there = choose_device(device)
        model = load_model(load, file_or_none, there, labels=labels, prompts=prompts)
        model.name = name
        return model

    return make


def _make_data(name: str, table: Mapping[str, Any], file: Path) -> Callable[[], Dataset]:
    source = _require_text(table, "source", name, file)
    options = {key: value for key, value in table.items() if key != "source"}
    for key in ("images", "truth"):
        # A folder beside the file, where there is one; else a word such as "boxes".
        if isinstance(options.get(key), str) and (file.parent / options[key]).exists():
            options[key] = str(file.parent / options[key])
    where = source if source in GENERATED else str(file.parent / source)
    return lambda: dataset(where, **options)


def _require_text(table: Mapping[str, Any], key: str, name: str, file: Path) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{file.name}: {name!r} needs {key} = a text; {_FORM}")
    return value


def _resolve(file: Path, value: str) -> str:
    """Return a path relative to the file; words that are no paths stay."""
    if value in ("DEFAULT", "none") or names_code(value):
        return value
    return str(file.parent / value)
