"""Write measured speeds as JSON, and read recorded ones back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cam._performance.recorded_benchmarks import RESULTS
from cam._performance.speed import INFERENCE, OURS, Fidelity, Race, Speed, Together
from cam._performance.timing import Timing

# Of the rows of `make gpu-check`, those that compute as this library does by default.
_GPU_ROWS = {"precision": "fp32", "layout": "channels-last", "road": "eager"}
_GPU_MODEL = "ResNet-50 with random weights"


@dataclass(frozen=True)
class Recording:
    """Speeds that were measured before, every round of them.

    Attributes:
        device: What computed: a GPU's name, or "CPU" and its threads.
        date: When.
        command: That measured it.
        model: What was explained.
        machine: Versions and threads, in one line; empty where the file does not say.
        load: Processes that wanted a core when it began, and cores; None where nobody counted.
        races: Size of the batch → plain inference, this library and other packages.
        sizes: Size of the batch → plain inference and Grad-CAM.
        together: Several methods in one call, beside one call each.
        precisions: Each precision's speed and distance from fp32.
    """

    device: str
    date: str
    command: str
    model: str
    machine: str = ""
    load: tuple[float, int] | None = None
    races: Mapping[int, Race] = field(default_factory=dict)
    sizes: Mapping[int, Mapping[str, Speed]] = field(default_factory=dict)
    together: Together | None = None
    precisions: Sequence[Fidelity] = ()

    @property
    def is_gpu(self) -> bool:
        """Whether a GPU computed."""
        return not self.device.startswith("CPU")


def read_recordings(folder: Path = RESULTS) -> list[Recording]:
    """Read the recorded speeds of a folder: GPUs first, of each kind the newest first.

    They are what ``python -m benchmarks.speed`` and ``make gpu-check`` write, without rehearsals. A
    file that cannot be read as such is left out.
    """
    records = [_read(path) for path in sorted(folder.glob("*.json"))]
    dated = sorted(
        (record for record in records if record), key=lambda record: record.date, reverse=True
    )
    return sorted(dated, key=lambda record: not record.is_gpu)


def _read(path: Path) -> Recording | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("rehearsal"):
            return None
        if path.stem.startswith("speed-"):
            return parse(facts)
        return _parse_gpu_check(facts) if "sections" in facts else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def parse(facts: Mapping[str, Any]) -> Recording:
    """Parse what :func:`encode` wrote, and where it is from.

    Raises:
        KeyError: A fact is missing.
    """
    together = facts["together"]
    load = facts.get("load")
    return Recording(
        device=facts["device"],
        date=facts["date"],
        command=facts["command"],
        model=facts["model"],
        machine=facts["machine"],
        load=None if load is None else (float(load[0]), int(load[1])),
        races={int(size): _parse_race(race) for size, race in facts["races"].items()},
        sizes={int(size): _parse_speeds(speeds) for size, speeds in facts["sizes"].items()},
        together=Together(
            _parse_timings(together["singles"]),
            {int(count): timing for count, timing in _parse_timings(together["joint"]).items()},
        ),
        precisions=[
            Fidelity(
                row["method"],
                row["precision"],
                _parse_speed(row["speed"]),
                row["spearman"],
                row["overlap"],
            )
            for row in facts["precisions"]
        ],
    )


def encode(
    races: Mapping[int, Race],
    sizes: Mapping[int, Mapping[str, Speed]],
    together: Together,
    precisions: Sequence[Fidelity],
) -> dict[str, Any]:
    """Encode measured speeds for JSON, every round of them."""
    return {
        "races": {
            str(size): {
                "speeds": _encode_speeds(race.speeds),
                "every": _encode_speeds(race.every),
                "absent": list(race.absent),
                "refused": dict(race.refused),
            }
            for size, race in races.items()
        },
        "sizes": {str(size): _encode_speeds(speeds) for size, speeds in sizes.items()},
        "together": {
            "singles": _encode_timings(together.singles),
            "joint": _encode_timings(together.joint),
        },
        "precisions": [
            {
                "method": row.method,
                "precision": row.precision,
                "speed": _encode_speed(row.speed),
                "spearman": row.spearman,
                "overlap": row.overlap,
            }
            for row in precisions
        ],
    }


def _encode_speed(speed: Speed) -> dict[str, Any]:
    return {"images": speed.images, "maps": speed.maps, "seconds": list(speed.timing.seconds)}


def _encode_speeds(speeds: Mapping[str, Speed]) -> dict[str, Any]:
    return {name: _encode_speed(speed) for name, speed in speeds.items()}


def _encode_timings(timings: Mapping[Any, Timing]) -> dict[str, list[float]]:
    return {str(key): list(timing.seconds) for key, timing in timings.items()}


def _parse_speed(facts: Mapping[str, Any]) -> Speed:
    return Speed(facts["images"], facts["maps"], Timing(tuple(facts["seconds"])))


def _parse_speeds(facts: Mapping[str, Any]) -> dict[str, Speed]:
    return {name: _parse_speed(speed) for name, speed in facts.items()}


def _parse_timings(facts: Mapping[str, Any]) -> dict[str, Timing]:
    return {key: Timing(tuple(seconds)) for key, seconds in facts.items()}


def _parse_race(facts: Mapping[str, Any]) -> Race:
    return Race(
        _parse_speeds(facts["speeds"]),
        _parse_speeds(facts["every"]),
        tuple(facts["absent"]),
        facts["refused"],
    )


def _parse_gpu_check(facts: Mapping[str, Any]) -> Recording | None:
    """Parse the part of a GPU's check that compares Grad-CAM with plain inference."""
    races = {}
    for record in facts["sections"]:
        for row in record["rows"] if record["name"] == "end_to_end" else ():
            if any(row.get(name) != value for name, value in _GPU_ROWS.items()):
                continue
            size = row["batch"]
            races[size] = Race(
                {
                    INFERENCE: Speed(size, 0, _parse_milliseconds(row["inference_ms"])),
                    OURS: Speed(size, 1, _parse_milliseconds(row["gradcam_ms"])),
                },
                {},
            )
    if not races:
        return None
    about = facts.get("about", facts)
    return Recording(about["device"], about["date"][:10], about["command"], _GPU_MODEL, races=races)


def _parse_milliseconds(times: Sequence[float]) -> Timing:
    return Timing(tuple(time / 1000 for time in times))
