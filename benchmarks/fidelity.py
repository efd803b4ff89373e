"""Measure how far each precision moves each method's maps, and its speed.

``python -m benchmarks.fidelity`` explains the sample photos with the bundled model, the targets
fixed to the top class in float32, with every method in every precision of this device. It writes
``benchmarks/results/fidelity-DEVICE.json`` and ``.md`` (Spearman correlation and overlap of the
brightest twentieth for each photo, and speed), and into ``cam/_engine/fidelity.json`` what
``precision="auto"`` chooses by on this kind of device. ``--only NAME`` tries one method and writes
nothing.
"""

import argparse
import json
import statistics
import time
import warnings
from dataclasses import asdict, dataclass

import torch
from scipy.stats import spearmanr

import cam
from benchmarks.result_files import default_device, write_results
from cam._engine.fidelity import LEAST_SPEARMAN, TABLE
from cam._engine.precision import available_precisions
from cam._metrics.base.map_ranking import brightest_overlap
from cam._performance.timing import machine

# Smaller than usual where many passes are made: the maps are rougher, and as far from one another.
SMALLER: dict[str, dict[str, object]] = {
    "integrated_gradients": {"steps": 16},
    "guided_integrated_gradients": {"steps": 16},
    "blur_integrated_gradients": {"steps": 16},
    "expected_gradients": {"samples": 16},
    "smoothgrad": {"samples": 10},
    "vargrad": {"samples": 10},
    "squaregrad": {"samples": 10},
    "smoothgradcam_plus_plus": {"samples": 4},
    "sscam": {"samples": 1},
    "iscam": {"steps": 1},
    "xrai": {"steps": 8},
    "extremal_perturbation": {"areas": (0.1,), "steps": 20},
    "rise": {"masks": 200},
    "occlusion": {"window": 32, "stride": 16},
    "lime": {"samples": 100},
    "kernelshap": {"samples": 100},
}


@dataclass(frozen=True)
class Row:
    """One method in one precision on one photo."""

    method: str
    precision: str
    photo: str
    spearman: float
    top: float
    speed: float


def precisions(device: torch.device, many: bool) -> list[str]:
    """List the device's precisions beside fp32; many passes in fp16 take a CPU too long."""
    slow = {"fp16"} if many and device.type != "cuda" else set()
    return [name for name in available_precisions(device)[1:] if name not in slow]


def compare_precisions(model: cam.Model, method: cam.Method, rounds: int) -> list[Row]:
    """Explain with one method in all precisions, timed in turns."""
    names = list(cam.samples())
    batch = model.prepare([cam.sample(name) for name in names])
    targets = model.predict(batch).argmax(1)
    settings = ["fp32", *precisions(model.device, method.info.passes)]
    seconds: dict[str, list[float]] = {setting: [] for setting in settings}
    maps = {}
    for turn in range(rounds + 1):
        for setting in settings:
            start = time.perf_counter()
            attributions = cam.attribute(model, batch, method, targets, precision=setting)
            if batch.is_cuda:
                torch.cuda.synchronize()
            if turn or rounds == 0:
                seconds[setting].append(time.perf_counter() - start)
            maps[setting] = attributions[method.name].heatmap.cpu()
    plain = statistics.median(seconds["fp32"])
    return [
        Row(
            method.name,
            setting,
            name,
            float(spearmanr(maps["fp32"][index].flatten(), maps[setting][index].flatten())[0]),
            float(brightest_overlap(maps["fp32"][index, None], maps[setting][index, None])),
            plain / statistics.median(seconds[setting]),
        )
        for setting in settings[1:]
        for index, name in enumerate(names)
    ]


def lowest(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Return method → precision → lowest Spearman and speed, by which ``auto`` chooses."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        entry = table.setdefault(row.method, {}).setdefault(
            row.precision, {"spearman": 1.0, "speed": round(row.speed, 3)}
        )
        # A map without any order, such as one of zeros, agrees with nothing.
        spearman = row.spearman if row.spearman == row.spearman else -1.0
        entry["spearman"] = min(entry["spearman"], round(spearman, 4))
    return table


def markdown_table(rows: list[Row]) -> str:
    """Markdown: a line for each method and precision, a column for each photo."""
    photos = list(dict.fromkeys(row.photo for row in rows))
    lines = [
        f"| method | precision | {' | '.join(photos)} | speed |",
        f"|---|---|{'---|' * len(photos)}--:|",
    ]
    for method, precision in dict.fromkeys((row.method, row.precision) for row in rows):
        mine = [row for row in rows if (row.method, row.precision) == (method, precision)]
        cells = [f"{row.spearman:.3f} ({row.top:.0%})" for row in mine]
        lines.append(f"| {method} | {precision} | {' | '.join(cells)} | {mine[0].speed:.2f} × |")
    return "\n".join(lines)


def main() -> None:
    """Compare all methods, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    device = torch.device(default_device())
    model = cam.load_model("efficientnet_lite0", device=device)
    rows: list[Row] = []
    for name, info in cam.methods().items():
        if only and name != only:
            continue
        if info.attention or info.full:
            continue  # the bundled model has none; computes in full precision anyway
        method = cam.method(name, **SMALLER.get(name, {}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cam.CamWarning)
            rows += compare_precisions(model, method, rounds=0 if info.passes else 3)
        print(
            markdown_table([row for row in rows if row.method == name]).splitlines()[2:], flush=True
        )
    if only:
        return
    write_results(
        "fidelity",
        "python -m benchmarks.fidelity",
        {"model": model.name, "rows": [asdict(row) for row in rows]},
        "Spearman correlation with the heatmap in float32 (and overlap of the brightest 5 %), and "
        f"times as fast; {model.name}, {machine()}. `auto` takes the fastest from "
        f"{LEAST_SPEARMAN} on every photo.\n\n{markdown_table(rows)}\n",
    )
    precisions_by_device = json.loads(TABLE.read_text())
    precisions_by_device[device.type] = lowest(rows)
    TABLE.write_text(json.dumps(precisions_by_device, indent=1) + "\n")


if __name__ == "__main__":
    main()
