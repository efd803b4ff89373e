"""Write the results of a benchmark, in one file for each device."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from cam._performance.timing import origin

RESULTS = Path(__file__).parent / "results"


def default_device() -> str:
    """Return "cuda" where there is a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def slug(device: str) -> str:
    """Turn a device's name into part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def write_results(name: str, command: str, content: dict[str, Any], text: str) -> None:
    """Write ``results/NAME-DEVICE.json`` and ``.md``.

    Args:
        name: The benchmark's.
        command: What measured it.
        content: For the JSON, behind machine, date and command.
        text: For the Markdown.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    stem = f"{name}-{slug(device)}"
    figures = origin(command) | content
    (RESULTS / f"{stem}.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text(text)
