"""The goals, each against its measurement: met, missed, or not measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.gpu_record import Record
from benchmarks.gpu_rivals import COMPILED, FUSED, PLAIN
from benchmarks.gpu_tails import find, gb_per_s

SHARE_OF_COPY = 0.8
TIMES_PLAIN = 8.0
TIMES_COMPILED = 1.5
LAUNCHES = 1
SHARE_OF_INFERENCE = 0.9
SIX = 6


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

    def as_json(self) -> dict[str, str]:
        """What the file of results holds."""
        return asdict(self)


def goals(records: Mapping[str, Record], l2_bytes: int) -> list[Goal]:
    """Hold the records against the goals.

    Only what ran in Triton counts: a reference that stood in for the kernel says nothing of it.

    Args:
        records: By section.
        l2_bytes: The size of the device's L2 cache.
    """
    tails = records["tails"].rows if "tails" in records else []
    facts = records["bandwidth"].facts if "bandwidth" in records else {}
    network = records["end_to_end"].rows if "end_to_end" in records else []
    fused = [row for row in tails if row["rival"] == FUSED.name and row["backend"] == "triton"]
    return [
        _bandwidth(fused, facts.get("copy_gb_per_s"), l2_bytes),
        _faster(tails, fused, PLAIN.name, TIMES_PLAIN),
        _faster(tails, fused, COMPILED.name, TIMES_COMPILED),
        _one_launch(tails, fused, facts),
        _end_to_end(network),
    ]


Figures = Sequence[tuple[float, str]]  # each with what it was measured on


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


def _label(row: Mapping[str, Any]) -> str:
    shape = "×".join(map(str, row["shape"]))
    return f"{row['layer']}, {shape}, {row['dtype']}, {row['layout']}, {row['rules']} rule(s)"


def share_of_copy(row: Mapping[str, Any], copy_gb_per_s: float) -> float:
    """The least bytes, moved in the time that was measured, over what a copy moves in it."""
    return gb_per_s(row["floor_bytes"], row["device"]["median_us"]) / copy_gb_per_s


def _bandwidth(fused: Sequence[dict[str, Any]], copy: float | None, l2_bytes: int) -> Goal:
    large = [row for row in fused if row["input_bytes"] > l2_bytes]
    return _at_least(
        f"at least {SHARE_OF_COPY:.0%} of the bandwidth of a copy where the data is larger than "
        "the L2 cache",
        [(share_of_copy(row, copy), _label(row)) for row in large] if copy else [],
        SHARE_OF_COPY,
        "",
    )


def times_faster(row: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How often the fused row's time goes into the other's, on the device."""
    return float(other["device"]["median_us"] / row["device"]["median_us"])


def _faster(
    tails: Sequence[dict[str, Any]], fused: Sequence[dict[str, Any]], rival: str, target: float
) -> Goal:
    pairs = [
        (times_faster(row, other), _label(row))
        for row in fused
        if row["rules"] == SIX and (other := find(tails, row, rival=rival))
    ]
    return _at_least(f"at least {target:g} × {rival} for six rules", pairs, target, " ×")


def _one_launch(
    tails: Sequence[dict[str, Any]], fused: Sequence[dict[str, Any]], facts: Mapping[str, Any]
) -> Goal:
    name = "one launch's overhead and no more at B = 1"
    rows = [row for row in fused if row["shape"][0] == 1 and row.get("launches")]
    if not rows:
        return Goal(name, "not measured", "")
    most = max(row["launches"] for row in rows)
    reached = sum(row["launches"] <= LAUNCHES for row in rows)
    middle = statistics.median(row["graph"]["median_us"] for row in rows)
    waits = statistics.median(row["call"]["median_us"] for row in rows)
    plain = [
        other["call"]["median_us"] for row in rows if (other := find(tails, row, rival=PLAIN.name))
    ]
    text = (
        f"{reached} of {len(rows)} inputs with one launch, {most} at most; medians: {middle:.1f} "
        f"µs in a graph, {waits:.1f} µs from call to result"
    )
    if plain:
        text += f" (plain torch {statistics.median(plain):.1f} µs)"
    if "launch_graph_us" in facts:
        text += (
            f"; a fill of one number takes {facts['launch_graph_us']:.1f} and "
            f"{facts['launch_call_us']:.1f} µs"
        )
    return Goal(name, "met" if reached == len(rows) else "missed", text)


def _end_to_end(network: Sequence[dict[str, Any]]) -> Goal:
    return _at_least(
        f"end to end at least {SHARE_OF_INFERENCE:g} × plain inference",
        [
            (row["share_of_inference"], f"{row['precision']}, {row['layout']}, {row['road']}")
            for row in network
        ],
        SHARE_OF_INFERENCE,
        " ×",
    )
