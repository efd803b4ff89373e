"""Figures that were measured elsewhere, as ``benchmarks`` wrote them, with where they are from."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
COMMANDS = {
    "methods": "make benchmark",
    "fidelity": "python -m benchmarks.fidelity",
    "coverage": "python -m benchmarks.coverage",
    "metrics": "python -m benchmarks.metrics",
    "cost": "python -m benchmarks.cost_model --write",
}
_DATE = re.compile(r"\b\d{1,2} [A-Z][a-z]+ 20\d\d\b|\b20\d\d-\d\d-\d\d\b")
_TOLD = 2000


@dataclass(frozen=True)
class Recording:
    """One file of results.

    Attributes:
        name: The file's, without its ending.
        device: What it was measured on; None where the file does not say.
        date: When; None where the file does not say.
        command: That writes such a file; None where that is not known.
        text: For people, in Markdown; empty where there is only JSON.
    """

    name: str
    device: str | None
    date: str | None
    command: str | None
    text: str


def recordings(folder: Path = RESULTS) -> list[Recording]:
    """Every result in a folder, the GPUs' first; a rehearsal, which measures nothing, is left out.

    A file that cannot be read as what it is says neither device nor date.
    """
    names = {path.stem for ending in ("json", "md") for path in folder.glob(f"*.{ending}")}
    found = [_recording(folder, name) for name in sorted(names - {"README"})]
    known = tuple(COMMANDS)
    return sorted(
        (one for one in found if one is not None), key=lambda one: one.name.startswith(known)
    )


def _recording(folder: Path, name: str) -> Recording | None:
    facts = _json(folder / f"{name}.json")
    if facts.get("rehearsal"):
        return None
    markdown = folder / f"{name}.md"
    text = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
    head = text[:_TOLD]
    device = facts.get("device") or facts.get("machine")
    if device is None and (line := re.search(r"^.*\btorch \d.*$", head, re.MULTILINE)):
        device = line.group(0)
    date = facts.get("date")
    if date is None and (dated := _DATE.search(head)):
        date = dated.group(0)
    command = facts.get("command") or COMMANDS.get(name.split("-")[0])
    return Recording(name, device, date, command, text)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
