"""Read the names of a model's classes from a file."""

import json
import os
from pathlib import Path
from typing import Any

from cam.errors import ModelError


def read_labels(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read the names of classes, in the order of a model's output.

    Args:
        path: A text file with one name a line, or ``.json``: a list of names, ``{index: name}``, or
            ``{name: index}`` as torchvision's ``ImageFolder.class_to_idx``.

    Raises:
        ModelError: No such file, or it holds something else.
    """
    file = Path(path)
    try:
        # Editors of some systems begin a file with a mark.
        text = file.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "it is no text in UTF-8" if isinstance(error, ValueError) else error.strerror
        raise ModelError(f"the labels file {str(file)!r} cannot be read: {reason}") from None
    if file.suffix.lower() == ".json":
        try:
            return _from_json(json.loads(text), file.name)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{file.name} is no JSON: {error}") from None
    names = [line.strip() for line in text.strip().splitlines()]
    if not names:
        raise ModelError(f"{file.name} names no class; write one name a line")
    if "" in names:
        raise ModelError(
            f"line {names.index('') + 1} of {file.name} is empty; write one name a line"
        )
    return tuple(names)


def _from_json(content: Any, name: str) -> tuple[str, ...]:
    if isinstance(content, dict) and all(type(value) is int for value in content.values()):
        content = {str(index): key for key, index in content.items()}
    if isinstance(content, dict):
        missing = next((i for i in range(len(content)) if str(i) not in content), None)
        if missing is not None:
            raise ModelError(
                f"{name} names {len(content)} classes, but none of them is number {missing}; "
                "count from 0"
            )
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or {str} != set(map(type, content)):
        raise ModelError(
            f"{name} holds no names of classes; write a list of them, or "
            '{"0": "first name", "1": "second name"}'
        )
    return tuple(content)
