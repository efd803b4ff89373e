"""Hold measurements against goals, and write them as files."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.machine import gb_per_s
from benchmarks.gpu.plan import Record
from benchmarks.gpu.tails import CAPTUM, COMPILED, FUSED, GRAD_CAM, PLAIN, find
from benchmarks.result_files import RESULTS, slug

Row = Mapping[str, Any]
Rows = Sequence[dict[str, Any]]
Figures = Sequence[tuple[float, str]]  # each with what it was measured on

SHARE_OF_COPY = 0.8
TIMES_PLAIN = 8.0
TIMES_COMPILED = 1.5
SHARE_OF_INFERENCE = 0.9


@dataclass(frozen=True)
class Goal:
    """One goal.

    Attributes:
        name: What is asked.
        verdict: ``met`` (by every input measured), ``missed`` or ``not measured``.
        measured: The figures behind the verdict, in words.
    """

    name: str
    verdict: str
    measured: str


def goals(records: Mapping[str, Record], l2_bytes: int) -> list[Goal]:
    """Hold the records against the goals.

    Only what ran in Triton counts: a reference that stood in for the kernel says nothing of it.

    Args:
        records: By section.
        l2_bytes: The size of the device's L2 cache.
    """
    tails = records["tails"].rows if "tails" in records else []
    facts = records["yardsticks"].facts if "yardsticks" in records else {}
    network = records["end_to_end"].rows if "end_to_end" in records else []
    fused = [row for row in tails if row["rival"] == FUSED.name and row["backend"] == "triton"]
    return [
        _bandwidth(fused, facts.get("copy_gb_per_s"), l2_bytes),
        _faster(tails, fused, PLAIN.name, TIMES_PLAIN),
        _faster(tails, fused, COMPILED.name, TIMES_COMPILED),
        _one_launch(fused, facts),
        _end_to_end(network),
    ]


def _at_least(name: str, figures: Figures, target: float, unit: str) -> Goal:
    if not figures:
        return Goal(name, "not measured", "")
    worst, where = min(figures)
    reached = sum(value >= target for value, _ in figures)
    return Goal(
        name,
        "met" if reached == len(figures) else "missed",
        f"{reached} of {len(figures)} inputs; median "
        f"{statistics.median(value for value, _ in figures):.2f}{unit}, lowest {worst:.2f}{unit} "
        f"({where})",
    )


def _label(row: Row) -> str:
    shape = "×".join(map(str, row["shape"]))
    return f"{row['layer']}, {shape}, {row['dtype']}, {row['layout']}, {row['rules']} rule(s)"


def share_of_copy(row: Row, copy_gb_per_s: float) -> float:
    """The least bytes, moved in the time that was measured, over what a copy moves in it."""
    return gb_per_s(row["floor_bytes"], row["device"]["median_us"]) / copy_gb_per_s


def _bandwidth(fused: Rows, copy: float | None, l2_bytes: int) -> Goal:
    large = [row for row in fused if row["input_bytes"] > l2_bytes]
    return _at_least(
        f"at least {SHARE_OF_COPY:.0%} of the bandwidth of a copy where the data is larger than "
        "the L2 cache",
        [(share_of_copy(row, copy), _label(row)) for row in large] if copy else [],
        SHARE_OF_COPY,
        "",
    )


def times_faster(row: Row, other: Row) -> float:
    """How often the fused row's time goes into the other's, on the device."""
    return float(other["device"]["median_us"] / row["device"]["median_us"])


def _faster(tails: Rows, fused: Rows, rival: str, target: float) -> Goal:
    pairs = [
        (times_faster(row, other), _label(row))
        for row in fused
        if row["rules"] == 6 and (other := find(tails, row, rival=rival))
    ]
    return _at_least(f"at least {target:g} × {rival} for six rules", pairs, target, " ×")


def _one_launch(fused: Rows, facts: Row) -> Goal:
    name = "one launch's overhead and no more at B = 1"
    rows = [row for row in fused if row["shape"][0] == 1 and row.get("launches")]
    if not rows:
        return Goal(name, "not measured", "")
    most = max(row["launches"] for row in rows)
    reached = sum(row["launches"] == 1 for row in rows)
    middle = statistics.median(row["graph"]["median_us"] for row in rows)
    waits = statistics.median(row["call"]["median_us"] for row in rows)
    text = (
        f"{reached} of {len(rows)} inputs with one launch, {most} at most; medians: {middle:.1f} "
        f"µs in a graph, {waits:.1f} µs from call to result"
    )
    if "launch_graph_us" in facts:
        text += (
            f"; a fill of one number takes {facts['launch_graph_us']:.1f} and "
            f"{facts['launch_call_us']:.1f} µs"
        )
    return Goal(name, "met" if reached == len(rows) else "missed", text)


def _end_to_end(network: Rows) -> Goal:
    return _at_least(
        f"end to end at least {SHARE_OF_INFERENCE:g} × plain inference",
        [
            (row["share_of_inference"], f"{row['precision']}, {row['layout']}, {row['road']}")
            for row in network
        ],
        SHARE_OF_INFERENCE,
        " ×",
    )


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
        content: dict[str, Any] = _without_nan(
            {
                "rehearsal": self.rehearsal,
                "complete": self.complete,
                **self.about,
                "goals": [asdict(goal) for goal in self.goals],
                "sections": [record.as_json() for record in self.records],
            }
        )
        return content


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
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and value - value != 0 else value


def markdown(report: Report) -> str:
    """The report as a page."""
    about = report.about
    by_name = {record.name: record for record in report.records}
    title = "Rehearsal on a CPU: no figure means anything" if report.rehearsal else about["device"]
    parts = [f"# {title}", _about(about)]
    if not report.complete:
        parts.append("**The check had not come to its end when this was written.**")
    goal_rows = [(goal.name, f"**{goal.verdict}**", goal.measured) for goal in report.goals]
    parts += ["## Goals", GOALS_NOTE, _table(("goal", "verdict", "measured"), goal_rows)]
    parts += ["## Sections", _table(("section", "status", "s", "remarks"), _status(report.records))]
    yardsticks = by_name.get("yardsticks")
    copy = yardsticks.facts.get("copy_gb_per_s") if yardsticks else None
    if (tails := by_name.get("tails")) and tails.rows:
        parts += [f"## {tails.title}", TAILS_NOTE, *_notes(tails)]
        parts.append(_table(TAILS_HEADS, _tails(tails.rows, copy)))
        if single := [row for row in tails.rows if row["shape"][0] == 1 and "graph" in row]:
            parts += ["### One image", SINGLE_NOTE, _table(SINGLE_HEADS, _single(single))]
    if (network := by_name.get("end_to_end")) and network.rows:
        parts += [f"## {network.title}", *_notes(network)]
        parts.append(_table(NETWORK_HEADS, _network(network.rows)))
    if (pixels := by_name.get("pixels")) and pixels.rows:
        parts += [f"## {pixels.title}", *_notes(pixels)]
        parts.append(_table(PIXELS_HEADS, _pixels(pixels.rows, copy)))
    return "\n\n".join(parts) + "\n"


GOALS_NOTE = (
    "Set for an H100. A goal is met if every input that was measured meets it. The kernels' times "
    "are the device's own, those of whole networks the caller's."
)
TAILS_NOTE = (
    "Medians in µs of the device's own time: the host has run ahead, the L2 cache holds nothing of "
    "the inputs. GB/s counts activations and gradients once and the maps; the share is that of a "
    "copy's bandwidth."
)
SINGLE_NOTE = (
    "B = 1, medians in µs. Device: as above. Graph: one call among many in a CUDA graph, inputs in "
    "the L2 cache; there the fused kernel's counters are filled anew, one more launch. Call: from "
    "Python to the finished result. Launches: kernels, fills and copies that one call starts "
    "outside a graph."
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
PIXELS_HEADS = ("kernel", "input", "fused", "GB/s", "share", "in a graph", "plain torch", "×")


def _about(about: Row) -> str:
    versions = ", ".join(f"{key} {about[key]}" for key in ("torch", "triton", "cuda", "driver"))
    return (
        f"{about['date']}, commit {about['commit']}, `{about['command']}`; {versions}, Python "
        f"{about['python']}; compute capability {about['capability']}, L2 cache of "
        f"{about['l2_bytes'] / 2**20:.0f} MiB."
    )


def _status(records: Sequence[Record]) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for record in records:
        facts = [f"{key} {_number(value)}" for key, value in record.facts.items()]
        left = [f"not measured: {reason}" for reason in record.unmeasured]
        remarks = [", ".join(facts), *record.failures, *left]
        text = "; ".join(filter(None, remarks))
        seconds = "" if record.seconds is None else f"{record.seconds:.0f}"
        rows.append((record.title, record.status, seconds, text))
    return rows


def _notes(record: Record) -> list[str]:
    return ["\n".join(f"- {note}" for note in record.notes)] if record.notes else []


def _tails(rows: Rows, copy: float | None) -> list[Sequence[str]]:
    lines: list[Sequence[str]] = []
    for row in _sorted(rows):
        if row["rival"] != FUSED.name:
            continue
        others = [
            find(rows, row, rival=rival.name) for rival in (PLAIN, COMPILED, CAPTUM, GRAD_CAM)
        ]
        lines.append(
            (
                *(row["layer"], str(row["shape"][0]), row["dtype"], row["layout"]),
                str(row["rules"]),
                _median(row, "device") + ("" if row["backend"] == "triton" else " (reference)"),
                f"{gb_per_s(row['floor_bytes'], row['device']['median_us']):.0f}",
                f"{share_of_copy(row, copy):.0%}" if copy else "",
                *(_median(other, "device") or _median(other, "call") for other in others),
                *(f"{times_faster(row, other):.1f}" if other else "" for other in others[:2]),
            )
        )
    return lines


def _single(rows: Rows) -> list[Sequence[str]]:
    return [
        (
            *(str(row[key]) for key in ("layer", "dtype", "layout", "rules", "rival")),
            *(_median(row, key) for key in ("device", "graph", "call")),
            str(row.get("launches") or ""),
        )
        for row in _sorted(rows)
    ]


def _sorted(rows: Rows) -> list[dict[str, Any]]:
    """By layer and input; they were measured in order of importance."""
    return sorted(
        rows,
        key=lambda row: (row["layer"], row["shape"], row["dtype"], row["layout"], row["rules"]),
    )


def _network(rows: Rows) -> list[Sequence[str]]:
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


def _pixels(rows: Rows, copy: float | None) -> list[Sequence[str]]:
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
