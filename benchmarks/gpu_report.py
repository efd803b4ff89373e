"""The results as a file for programs and as a table for people."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu_goals import Goal, share_of_copy, times_faster
from benchmarks.gpu_record import Record
from benchmarks.gpu_rivals import CAPTUM, COMPILED, FUSED, GRAD_CAM, PLAIN
from benchmarks.gpu_tails import find, gb_per_s

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """Everything that one call of the check found.

    Attributes:
        rehearsal: It ran on a CPU, and no figure means anything.
        complete: Every section had its turn; False in what is written on the way.
        about: When, by which command, on which commit and machine.
        goals: Each with its verdict.
        records: The sections, in the order in which they ran.
    """

    rehearsal: bool
    complete: bool
    about: Mapping[str, Any]
    goals: Sequence[Goal]
    records: Sequence[Record]

    @property
    def failed(self) -> bool:
        """Whether a section failed; a goal that is missed is a result, and no failure."""
        return any(record.status == "failed" for record in self.records)

    def as_json(self) -> dict[str, Any]:
        """What the file of results holds; null for what is not a number."""
        found: dict[str, Any] = _without_nan(
            {
                "schema": SCHEMA,
                "rehearsal": self.rehearsal,
                "complete": self.complete,
                **self.about,
                "goals": [goal.as_json() for goal in self.goals],
                "sections": [record.as_json() for record in self.records],
            }
        )
        return found


def slug(device: str) -> str:
    """A device's name as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def refuse_rehearsal(folder: Path) -> None:
    """Keep a rehearsal's figures, which mean nothing, away from those of real machines.

    Raises:
        ValueError: The folder is the one of the results, or lies in it.
    """
    if RESULTS.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ValueError(f"a rehearsal is not written to {RESULTS.name}; choose another folder")


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """Write ``<device>.json`` and ``<device>.md``, and return where.

    Raises:
        ValueError: The report is a rehearsal's and the folder that of the results.
    """
    if report.rehearsal:
        refuse_rehearsal(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = slug(report.about["device"])
    files = folder / f"{name}.json", folder / f"{name}.md"
    text = json.dumps(report.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    for file, content in zip(files, (text + "\n", markdown(report)), strict=True):
        # Whole or not at all, if the process ends here.
        part = file.with_suffix(file.suffix + ".part")
        part.write_text(content, encoding="utf-8")
        part.replace(file)
    return files


def _without_nan(value: Any) -> Any:
    """NaN is no JSON, and a program that reads it should not have to know Python's."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and value - value != 0 else value


def markdown(report: Report) -> str:
    """The report as a page."""
    about = report.about
    by_name = {record.name: record for record in report.records}
    title = "Rehearsal on a CPU: no figure means anything" if report.rehearsal else about["device"]
    parts = [f"# {title}", _about(about)]
    if not report.complete:
        parts.append("**The check had not come to its end when this was written.**")
    parts += ["## Goals", GOALS_NOTE, _table(("goal", "verdict", "measured"), _goals(report.goals))]
    parts += ["## Sections", _table(("section", "status", "s", "remarks"), _status(report.records))]
    copy = _fact(by_name, "copy_gb_per_s")
    if (tails := by_name.get("tails")) and tails.rows:
        parts += [f"## {tails.title}", TAILS_NOTE, *_notes(tails)]
        parts.append(_table(TAILS_HEADS, _tails(tails.rows, copy)))
        if single := [row for row in tails.rows if row["shape"][0] == 1 and "graph" in row]:
            parts += ["### One image", SINGLE_NOTE, _table(SINGLE_HEADS, _single(single))]
    if (network := by_name.get("end_to_end")) and network.rows:
        parts += [f"## {network.title}", *_notes(network)]
        parts.append(_table(NETWORK_HEADS, _network(network.rows)))
    if (pictures := by_name.get("pictures")) and pictures.rows:
        parts += [f"## {pictures.title}", *_notes(pictures)]
        parts.append(_table(PICTURES_HEADS, _pictures(pictures.rows, copy)))
    return "\n\n".join(parts) + "\n"


GOALS_NOTE = (
    "Set for an H100. A goal is met if every input that was measured meets it; times are the "
    "device's own."
)
TAILS_NOTE = (
    "Medians in µs of the device's own time: the host has run ahead, the L2 cache holds nothing of "
    "the inputs. GB/s counts activations and gradients once and the maps; the share is that of a "
    "copy's bandwidth."
)
SINGLE_NOTE = (
    "B = 1, medians in µs. Device: as above. Graph: one call among many in a CUDA graph, inputs in "
    "the L2 cache. Call: from Python to the finished result. Launches: kernels, fills and copies "
    "that one call starts."
)
TAILS_HEADS = (
    *("layer", "B", "dtype", "layout", "rules", "fused", "GB/s", "share"),
    *("plain torch", "compiled torch", "captum", "grad-cam", "× plain", "× compiled"),
)
SINGLE_HEADS = ("layer", "dtype", "layout", "rules", "rival", "device", "graph", "call", "launches")
NETWORK_HEADS = (
    *("precision", "layout", "road", "inference, images/s", "Grad-CAM, images/s", "share"),
    *("Spearman, lowest", "Spearman, mean"),
)
PICTURES_HEADS = ("kernel", "input", "fused", "GB/s", "share", "in a graph", "plain torch", "×")


def _about(about: Row) -> str:
    versions = ", ".join(f"{key} {about[key]}" for key in ("torch", "triton", "cuda", "driver"))
    return (
        f"{about['date']}, commit {about['commit']}, `{about['command']}`; {versions}, Python "
        f"{about['python']}; compute capability {about['capability']}, L2 cache of "
        f"{about['l2_bytes'] / 2**20:.0f} MiB."
    )


def _goals(goals: Sequence[Goal]) -> list[Sequence[str]]:
    return [(goal.name, f"**{goal.verdict}**", goal.measured) for goal in goals]


def _status(records: Sequence[Record]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for record in records:
        facts = [f"{key} {_number(value)}" for key, value in record.facts.items()]
        left = [f"not measured: {one}" for one in record.unmeasured]
        remarks = [", ".join(facts), *record.failures, *left]
        text = "; ".join(one for one in remarks if one)
        seconds = "" if record.seconds is None else f"{record.seconds:.0f}"
        rows.append((record.title, record.status, seconds, text))
    return rows


def _fact(records: Mapping[str, Record], name: str) -> float | None:
    return records["bandwidth"].facts.get(name) if "bandwidth" in records else None


def _notes(record: Record) -> list[str]:
    return ["\n".join(f"- {note}" for note in record.notes)] if record.notes else []


def _tails(rows: Sequence[dict[str, Any]], copy: float | None) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for row in _sorted(rows):
        if row["rival"] != FUSED.name:
            continue
        plain, compiled = (find(rows, row, rival=one.name) for one in (PLAIN, COMPILED))
        others = [find(rows, row, rival=one.name) for one in (PLAIN, COMPILED, CAPTUM, GRAD_CAM)]
        lines.append(
            (
                row["layer"],
                str(row["shape"][0]),
                row["dtype"],
                row["layout"],
                str(row["rules"]),
                _median(row, "device") + ("" if row["backend"] == "triton" else " (reference)"),
                f"{gb_per_s(row['floor_bytes'], row['device']['median_us']):.0f}",
                f"{share_of_copy(row, copy):.0%}" if copy else "",
                *(_median(other, "device") or _median(other, "call") for other in others),
                f"{times_faster(row, plain):.1f}" if plain else "",
                f"{times_faster(row, compiled):.1f}" if compiled else "",
            )
        )
    return lines


def _single(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    return [
        (
            *(str(row[key]) for key in ("layer", "dtype", "layout", "rules", "rival")),
            *(_median(row, key) for key in ("device", "graph", "call")),
            str(row.get("launches") or ""),
        )
        for row in _sorted(rows)
    ]


def _sorted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By layer and input; they were measured in order of importance."""
    return sorted(
        rows,
        key=lambda row: (row["layer"], row["shape"], row["dtype"], row["layout"], row["rules"]),
    )


def _network(rows: Sequence[dict[str, Any]]) -> list[Sequence[str]]:
    return [
        (
            row["precision"],
            row["layout"],
            row["road"],
            f"{row['inference_images_per_s']:,.0f}",
            f"{row['gradcam_images_per_s']:,.0f}",
            f"{row['share_of_inference']:.2f}",
            *(_rank(row.get(key)) for key in ("spearman_lowest", "spearman_mean")),
        )
        for row in rows
    ]


def _rank(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _pictures(rows: Sequence[dict[str, Any]], copy: float | None) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for row in rows:
        fused, plain = row["fused"]["median_us"], row["plain"]["median_us"]
        reached = gb_per_s(row["floor_bytes"], fused)
        lines.append(
            (
                row["kernel"],
                row["shape"],
                _median(row, "fused"),
                f"{reached:.0f}",
                f"{reached / copy:.0%}" if copy else "",
                _median(row, "fused_graph"),
                _median(row, "plain"),
                f"{plain / fused:.1f}",
            )
        )
    return lines


def _median(row: Row, kind: str) -> str:
    return f"{row[kind]['median_us']:,.1f}" if kind in row else ""


def _number(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
