"""Read figures that ``benchmarks`` recorded, with their origin."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In the checkout a link to benchmarks/results, in the wheel a copy.
RESULTS = Path(__file__).parent / "recorded"
# First word of the name → what such a file holds, and what writes it.
KINDS = {
    "speed": (
        "Speeds beside plain inference and other packages, every round",
        "python -m benchmarks.speed",
    ),
    "methods": ("What methods cost, beside a plain forward and other packages", "make benchmark"),
    "fidelity": (
        "How far each precision moves each method's map, and how fast it is",
        "python -m benchmarks.fidelity",
    ),
    "metrics": ("What metrics cost beyond the network's forwards", "python -m benchmarks.metrics"),
    "coverage": (
        "Which networks are explained at a layer that lies on the image",
        "python -m benchmarks.coverage",
    ),
    "cost": (
        "How well the time of a run over a dataset is predicted",
        "python -m benchmarks.cost_model --write",
    ),
}
_DATE = re.compile(r"\b\d{1,2} [A-Z][a-z]+ 20\d\d\b|\b20\d\d-\d\d-\d\d\b")
_HEAD = 2000


@dataclass(frozen=True)
class Recording:
    """One file of results.

    Attributes:
        name: The file's, without its ending.
        title: What it holds; the name where that is not known.
        device: What it was measured on; None where the file does not say.
        date: When; None where the file does not say.
        command: That writes such a file; None where that is not known.
        text: For people, in Markdown; empty where there is only JSON.
    """

    name: str
    title: str
    device: str | None
    date: str | None
    command: str | None
    text: str


def recordings(folder: Path = RESULTS) -> list[Recording]:
    """List the results in a folder, the GPUs' first, without rehearsals.

    A file that cannot be read as what it is says neither device nor date.
    """
    names = {path.stem for ending in ("json", "md") for path in folder.glob(f"*.{ending}")}
    order = ["", *KINDS]
    files = [_read(folder, name) for name in sorted(names - {"README"})]
    return sorted(
        (file for file in files if file is not None),
        key=lambda file: order.index(kind if (kind := file.name.split("-")[0]) in KINDS else ""),
    )


def _read(folder: Path, name: str) -> Recording | None:
    facts = _read_json(folder / f"{name}.json")
    if facts.get("rehearsal"):
        return None
    markdown = folder / f"{name}.md"
    text = markdown.read_text(encoding="utf-8") if markdown.exists() else ""
    head = text[:_HEAD]
    device = facts.get("device") or facts.get("machine")
    if device is None and (line := re.search(r"^.*\btorch \d.*$", head, re.MULTILINE)):
        device = line.group(0)
    date = facts.get("date")
    if date is None and (dated := _DATE.search(head)):
        date = dated.group(0)
    title, usual = KINDS.get(name.split("-")[0], (None, None))
    if title is None:
        title = f"Kernels, rivals and goals on {device}" if facts.get("device") else name
    return Recording(name, title, device, date, facts.get("command") or usual, text)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
